"""The metrics of every TLP as `evaluate.Metric` objects, over plain tags, labels and answers.

    load_metric("ner_de").compute(predictions=[["B-LOC", "O"]], references=[["B-LOC", "O"]])

They compute what the tasks' `compare` does and need no hub, no network and no file: predictions
are kept in memory. Importing this module takes seconds, so nothing else here imports it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import evaluate
from datasets import Features, List, Value

from metatlp.errors import InputError
from metatlp.grid import TLP
from metatlp.tasks import TASKS
from metatlp.tasks.metrics import scores
from metatlp.tasks.pair import PairClassification
from metatlp.tasks.qa import QuestionAnswering
from metatlp.tasks.tagging import Tagging

TEXT, TEXTS = Value("string"), List(Value("string"))


class TLPMetric(evaluate.Metric):
    """Scores of one TLP, fractions in 0..1, and `examples`: how many were scored.

    Every example has to have a prediction. In tagging, a sentence without a word scores nothing
    and is not counted.

    Args:
        tlp: says the labels, and by which rules answers are normalised.
    """

    expected: ClassVar[str]  # what one prediction and one reference are
    columns: ClassVar[dict[str, Any]]

    def __init__(self, tlp: TLP) -> None:
        self.tlp = tlp
        self.task: Any = TASKS[tlp.task]  # `compare` is no part of every task
        super().__init__(config_name=str(tlp), keep_in_memory=True)

    def _build_data_dir(self) -> str:
        # The base class makes a folder in the user's cache, even if it keeps all in memory.
        return ""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=f"{self.tlp}: {self.expected}",
            citation="",
            features=Features(self.columns),
        )

    def add_batch(self, *, predictions: Any = None, references: Any = None, **others: Any) -> None:
        """Adds examples to score.

        Raises:
            InputError: not as many predictions as references, or of another kind than `expected`.
        """
        if predictions is None or references is None or len(predictions) != len(references):
            numbers = [0 if each is None else len(each) for each in (predictions, references)]
            raise InputError(f"{self.tlp}: {numbers[0]} predictions for {numbers[1]} references")
        try:
            super().add_batch(predictions=predictions, references=references, **others)
        except (ValueError, TypeError) as error:
            raise InputError(f"{self.tlp}: {self.expected}") from error

    def _compute(self, *, predictions: Sequence, references: Sequence) -> dict[str, float]:
        """The scores. Raises InputError if there is nothing to score or a prediction is missing."""
        missing = sum(prediction is None for prediction in predictions)
        if not predictions:
            raise InputError(f"{self.tlp}: nothing to score")
        if missing:
            raise InputError(f"{self.tlp}: {missing} of {len(predictions)} predictions are missing")
        return scores(self.task.compare(self.tlp, predictions, references))


class TaggingMetric(TLPMetric):
    """Accuracy over all words, O included; F1 over entities (NER) or labels (POS)."""

    expected = "predictions and references are lists of tags, one tag per word"
    columns = {"predictions": TEXTS, "references": TEXTS}


class PairMetric(TLPMetric):
    """Accuracy and macro F1."""

    expected = "predictions and references are labels"
    columns = {"predictions": TEXT, "references": TEXT}


class AnswerMetric(TLPMetric):
    """F1 and exact match with MLQA's normalisation of the language, and with SQuAD's English one.

    Predictions are texts; references are lists of right answers, of which the best one counts.
    """

    expected = "predictions are texts, references lists of right answers"
    columns = {"predictions": TEXT, "references": TEXTS}


METRICS: dict[type, type[TLPMetric]] = {
    Tagging: TaggingMetric,
    PairClassification: PairMetric,
    QuestionAnswering: AnswerMetric,
}


def load_metric(tlp: TLP | str) -> TLPMetric:
    """The metric of a TLP, e.g. of `qa_hi`.

    Raises:
        InputError: no TLP, or a task of a class that METRICS does not know.
    """
    tlp = TLP.parse(tlp) if isinstance(tlp, str) else tlp
    for kind, metric in METRICS.items():
        if isinstance(TASKS[tlp.task], kind):
            return metric(tlp)
    raise InputError(f"{tlp}: METRICS has no line for {type(TASKS[tlp.task]).__name__}")
