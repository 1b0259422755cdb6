"""The metrics as evaluate.Metric: plain values in, fractions out, nothing on the disk."""

import socket

import evaluate
import numpy as np
import pytest

from metatlp.data.encoded import EncodedSplit
from metatlp.data.records import Answer, Question, TaggedSentence, TextPair
from metatlp.errors import InputError
from metatlp.grid import TLP
from metatlp.tasks import TASKS, Limits
from metatlp.tasks.evaluate_metrics import load_metric
from metatlp.tasks.metrics import scores

TAGS = [["B-LOC", "I-LOC", "O"], ["I-PER"], []]


@pytest.mark.parametrize(
    ("name", "predictions", "references", "expected"),
    [
        ("ner_de", [["B-LOC", "O", "O"], ["B-PER"], []], TAGS,
         {"accuracy": 0.5, "entity_f1": 0.5, "words": 4, "examples": 2}),
        ("pos_zh", [["X", "NOUN"], ["VERB"]], [["X", "X"], ["VERB"]],
         {"accuracy": 2 / 3, "macro_f1": (2 / 3 + 0 + 1) / 3, "words": 3, "examples": 2}),
        ("nli_sw", ["neutral", "neutral"], ["neutral", "entailment"],
         {"accuracy": 0.5, "macro_f1": (2 / 3 + 0) / 2, "examples": 2}),
        ("pa_ko", ["0", "1"], ["0", "1"],
         {"accuracy": 1.0, "macro_f1": 1.0, "examples": 2}),
        ("qa_de", ["Hund", ""], [["Katze", "der Hund"], ["der Hund"]],
         {"f1": 0.5, "em": 0.5, "squad_f1": 1 / 3, "squad_em": 0.0, "examples": 2}),
        ("qa_zh", ["北京。"], [["在北京"]],
         {"f1": 0.8, "em": 0.0, "squad_f1": 0.0, "squad_em": 0.0, "examples": 1}),
    ],
)  # fmt: skip
def test_scores_by_hand(name, predictions, references, expected):
    metric = load_metric(name)
    assert isinstance(metric, evaluate.Metric)
    assert metric.compute(predictions=predictions, references=references) == pytest.approx(expected)
    # One by one and in batches, and a second time.
    metric.add(prediction=predictions[0], reference=references[0])
    metric.add_batch(predictions=predictions[1:], references=references[1:])
    assert metric.compute() == pytest.approx(expected)


def test_metrics_do_not_mix_and_write_no_file(tmp_path, monkeypatch):
    def refuse(*_):
        raise AssertionError("a metric asks the network")

    cache = tmp_path / "cache"
    monkeypatch.setattr(evaluate.config, "HF_METRICS_CACHE", str(cache))
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.chdir(tmp_path)
    same = [load_metric("nli_en") for _ in range(3)]
    for metric, found in zip(same, ("neutral", "entailment", "neutral"), strict=True):
        metric.add(prediction=found, reference="neutral")
    assert [metric.compute()["accuracy"] for metric in same] == [1.0, 0.0, 1.0]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "predictions", "references", "message"),
    [
        ("nli_en", ["neutral"], ["neutral"] * 2, "nli_en: 1 predictions for 2 references"),
        ("nli_en", ["neutral", None], ["neutral"] * 2, "nli_en: 1 of 2 predictions are missing"),
        ("nli_en", [], [], "nli_en: nothing to score"),
        ("nli_en", ["no"], ["neutral"], "nli_en: no label 'no'; choose from entailment, "),
        ("pa_en", [0], ["0"], "pa_en: predictions and references are labels"),
        ("pos_en", ["X"], [["X"]], "pos_en: .* lists of tags, one tag per word"),
        ("pos_en", [["X"]], [["X", "X"]], "pos_en: sentence 1: 1 tags for 2 words"),
        ("pos_en", [None], [["X"]], "pos_en: 1 of 1 predictions are missing"),
        ("qa_en", ["a"], ["a"], "qa_en: .* references lists of right answers"),
        ("qa_en", ["a"], [[]], "qa_en: question 1 has no right answer"),
    ],
)
def test_what_cannot_be_scored(name, predictions, references, message):
    with pytest.raises(InputError, match=message):
        load_metric(name).compute(predictions=predictions, references=references)


def test_no_such_tlp():
    with pytest.raises(InputError, match="'lm_en' is no task-language pair"):
        load_metric("lm_en")


EXAMPLES = {
    "pos": [TaggedSentence(("a", "b"), ("X", "NOUN")), TaggedSentence(("c",), ("VERB",))],
    "ner": [TaggedSentence(("a", "b"), ("B-LOC", "O")), TaggedSentence(("c",), ("I-PER",))],
    "nli": [TextPair("a", "b", "neutral"), TextPair("a", "c", "contradiction")],
    "pa": [TextPair("a", "b", "0"), TextPair("a", "c", "1")],
    "qa": [Question(str(i), "a", "a b c d", (Answer("b c", 2), Answer("d", 6))) for i in range(2)],
}


def wrong_predictions(task, data):
    """Of every row something that is right in part."""
    if task == "qa":
        return [np.array([[4, 4, 1.0]], dtype=np.float32)] * 2
    if task in ("nli", "pa"):
        return [np.int16(1)] * 2
    labels = data.ragged("labels")
    return [np.append(labels.row(0)[1:2], 3), labels.row(1)[1:2]]


@pytest.fixture
def task_data(letters):
    def build(task):
        result = TASKS[task].encode(EXAMPLES[task], letters, Limits())
        data = EncodedSplit(result.columns, result.counts)
        return data, wrong_predictions(task, data)

    return build


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_metric_gives_the_scores_of_the_task(name, task_data):
    task, tlp, examples = TASKS[name], TLP(name, "en"), EXAMPLES[name]
    data, predictions = task_data(name)
    own = scores(task.terms(tlp, data, predictions, examples))
    if name == "qa":
        references = [[answer.text for answer in example.answers] for example in examples]
    else:
        references = [getattr(e, "tags", None) or e.label for e in examples]
    decoded = task.decode(data, predictions, examples)
    got = load_metric(tlp).compute(predictions=decoded, references=references)
    assert got == pytest.approx(own) and 0 < own[task.metric] < 1


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_file_that_changed_is_not_scored(name, task_data):
    task, tlp, examples = TASKS[name], TLP(name, "en"), EXAMPLES[name]
    data, predictions = task_data(name)
    for other, number in ((examples[:1], 1), ([*examples, examples[0]], 3)):
        with pytest.raises(InputError, match=f"{tlp}: {number} examples to score, but 2 were enc"):
            task.terms(tlp, data, predictions, other)
    if name == "pos":
        longer = [examples[0], TaggedSentence(("c", "d"), ("VERB", "X"))]
        with pytest.raises(InputError, match="pos_en: 1 words to score were not encoded"):
            task.terms(tlp, data, predictions, longer)
