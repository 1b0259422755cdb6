"""Answers of a model on encoded splits, and their scores, one TLP per rank at a time.

A TLP is scored whole on one rank, or, where a forward pass needs several ranks at once, on one TLP
group, whose members take the batches in turn. Neither changes a batch, and so no score.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from metatlp.data.encoded import EncodedSplit
from metatlp.data.records import Example
from metatlp.engine.mesh import Mesh
from metatlp.engine.placement import Placement
from metatlp.engine.plan import Slot, assign
from metatlp.grid import TLP
from metatlp.model.multitask import MultiTaskModel
from metatlp.tasks import TASKS
from metatlp.tasks.metrics import Terms, scores
from metatlp.tasks.task import Padding, model_inputs

# Larger batches are slower there: what passes between two layers no longer fits a cache. Measured
# with 22.7M parameters on one core, against batches of 64 rows: NLI 1.1, PA 1.1, POS 1.3 and QA 2.1
# times as fast (docs/evaluate_zeroshot.md).
CPU_TOKENS = 1024

Scores = dict[str, float]
Autocast = Callable[[], AbstractContextManager]


@dataclass(frozen=True)
class EvalSplit:
    """An encoded split, and how to read the examples it was encoded from."""

    encoded: EncodedSplit
    examples: Callable[[], list[Example]]


def predict_split(
    model: MultiTaskModel,
    task_code: str,
    encoded: EncodedSplit,
    padding: Padding,
    batch_size: int,
    device: torch.device,
    autocast: Autocast,
    team: Mesh | None = None,
) -> list:
    """What the task predicts for every row, in row order.

    Args:
        batch_size: most rows of a batch; on a CPU it also holds at most CPU_TOKENS, or one row.
        autocast: context of the forward pass.
        team: the TLP group whose ranks compute together, all of which take part; None: this rank
            computes alone.
    """
    model.eval()
    most_tokens = CPU_TOKENS if device.type == "cpu" else None
    every = list(batches(encoded.tokens, batch_size, most_tokens))
    mesh = team or Mesh()
    predictions: dict[int, Any] = {}
    for first in range(0, len(every), mesh.ranks_per_tlp):
        # Each member has a batch in every round; where there are none left, the last once more.
        rows = every[min(first + mesh.member, len(every) - 1)]
        found = predict_rows(model, task_code, encoded, rows, padding, device, autocast)
        predictions |= zip(rows.tolist(), found, strict=True)
    gathered = mesh.gather_within(predictions)
    whole = {row: one for part in gathered for row, one in part.items()}
    return [whole[row] for row in range(encoded.num_rows)]


def batches(
    tokens: np.ndarray, most_rows: int, most_tokens: int | None = None
) -> Iterator[np.ndarray]:
    """Every row once, those of like length together, so that little is padded.

    Args:
        tokens: (n,) of each row.
        most_rows: of a batch.
        most_tokens: of a batch with its padding, where it has more than one row; None: no bound.
    """
    order = np.argsort(tokens, kind="stable")
    begin = 0
    for end in range(1, len(order) + 1):
        # What the batch would hold with one row more, which is no shorter than those it has.
        rows = end + 1 - begin
        wider = rows * tokens[order[end]] if end < len(order) else 0
        full = rows > most_rows or (most_tokens is not None and wider > most_tokens)
        if full or end == len(order):
            yield order[begin:end]
            begin = end


def predict_rows(
    model: MultiTaskModel,
    task_code: str,
    encoded: EncodedSplit,
    rows: np.ndarray,
    padding: Padding,
    device: torch.device,
    autocast: Autocast,
) -> list:
    """What the task predicts for these rows, as one batch."""
    task = TASKS[task_code]
    batch = {
        name: tensor.to(device) for name, tensor in task.collate(encoded, rows, padding).items()
    }
    with torch.no_grad(), autocast():
        outputs = model(task_code, model_inputs(batch))
    return task.predict(outputs, batch)


class Evaluator:
    """Scores a model on fixed splits."""

    def __init__(
        self,
        model: MultiTaskModel,
        splits: Mapping[TLP, EvalSplit],
        padding: Padding,
        batch_size: int,
        placement: Placement,
        team: Mesh | None = None,
    ):
        """
        Args:
            team: the TLP groups, where a forward pass needs all ranks of one.
        """
        self.model, self.splits, self.padding = model, splits, padding
        self.batch_size, self.placement, self.team = batch_size, placement, team

    def scores(self) -> dict[TLP, Scores]:
        """TLP -> metrics, on every rank. Every rank takes part.

        Raises:
            InputError: a dev file can no longer be read.
        """
        return self._gathered(scores)

    def terms(self) -> dict[TLP, Terms]:
        """TLP -> metric -> (N, L, 2), what `tasks.metrics.scores` takes; otherwise as `scores`."""
        return self._gathered(lambda terms: terms)

    def _gathered(self, of_terms: Callable[[Terms], Any]) -> dict[TLP, Any]:
        queue = [Slot(i, tlp, 0) for i, tlp in enumerate(self.splits)]
        cost = {tlp: float(split.encoded.tokens.sum()) for tlp, split in self.splits.items()}
        worker, workers = self.placement.rank, self.placement.world
        if self.team is not None:
            worker, workers = self.team.group, self.team.groups
        own = assign(queue, cost, workers)[worker]
        examples: dict[TLP, list[Example]] = {}
        # The dev files are read again, and may have gone meanwhile. Not between forward passes, in
        # which the rest of a TLP group would wait for a rank that cannot read them.
        with self.placement.together():
            examples = {slot.tlp: self.splits[slot.tlp].examples() for slot in own}
        predictions = {tlp: self._predictions(tlp) for tlp in examples}
        found = []
        with self.placement.together():
            for tlp, read in examples.items():
                encoded = self.splits[tlp].encoded
                terms = TASKS[tlp.task].terms(tlp, encoded, predictions[tlp], read)
                found.append((str(tlp), of_terms(terms)))
        gathered = dict(self.placement.gather(found))
        return {tlp: gathered[str(tlp)] for tlp in self.splits}

    def _predictions(self, tlp: TLP) -> list:
        return predict_split(
            self.model,
            tlp.task,
            self.splits[tlp].encoded,
            self.padding,
            self.batch_size,
            self.placement.device,
            self.placement.accelerator.autocast,
            self.team,
        )
