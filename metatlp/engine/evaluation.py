"""Scores of the current parameters on dev splits, one TLP per rank at a time.

A TLP is scored whole on one rank, so the number of ranks does not change a score.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
import torch

from metatlp.data.encoded import EncodedSplit
from metatlp.data.records import Example
from metatlp.engine.placement import Placement
from metatlp.engine.plan import Slot, assign
from metatlp.grid import TLP
from metatlp.model.multitask import MultiTaskModel
from metatlp.tasks import TASKS
from metatlp.tasks.metrics import scores
from metatlp.tasks.task import Padding, model_inputs

Scores = dict[str, float]


@dataclass(frozen=True)
class EvalSplit:
    """An encoded split, and how to read the examples it was encoded from."""

    encoded: EncodedSplit
    examples: Callable[[], list[Example]]


class Evaluator:
    """Scores a model on fixed splits."""

    def __init__(
        self,
        model: MultiTaskModel,
        splits: Mapping[TLP, EvalSplit],
        padding: Padding,
        batch_size: int,
        placement: Placement,
    ):
        self.model, self.splits, self.padding = model, splits, padding
        self.batch_size, self.placement = batch_size, placement

    def scores(self) -> dict[TLP, Scores]:
        """TLP -> metrics, on every rank. Every rank takes part.

        Raises:
            InputError: a dev file can no longer be read.
        """
        queue = [Slot(i, tlp, 0) for i, tlp in enumerate(self.splits)]
        cost = {tlp: float(split.encoded.tokens.sum()) for tlp, split in self.splits.items()}
        own = assign(queue, cost, self.placement.world)[self.placement.rank]
        found = []
        # Scoring reads the dev files again, which may have gone meanwhile.
        with self.placement.together():
            found = [(str(slot.tlp), self._score(slot.tlp)) for slot in own]
        gathered = dict(self.placement.gather(found))
        return {tlp: gathered[str(tlp)] for tlp in self.splits}

    def _score(self, tlp: TLP) -> Scores:
        task, split = TASKS[tlp.task], self.splits[tlp]
        self.model.eval()
        # Rows of like length together; predictions go back to row order.
        order = np.argsort(split.encoded.tokens, kind="stable")
        predictions: list = [None] * len(order)
        for begin in range(0, len(order), self.batch_size):
            rows = order[begin : begin + self.batch_size]
            for row, prediction in zip(rows, self._predict(tlp, rows), strict=True):
                predictions[row] = prediction
        return scores(task.terms(tlp, split.encoded, predictions, split.examples()))

    def _predict(self, tlp: TLP, rows: np.ndarray) -> list:
        task = TASKS[tlp.task]
        batch = task.collate(self.splits[tlp].encoded, rows, self.padding)
        batch = {name: tensor.to(self.placement.device) for name, tensor in batch.items()}
        autocast: AbstractContextManager = self.placement.accelerator.autocast()
        with torch.no_grad(), autocast:
            outputs = self.model(tlp.task, model_inputs(batch))
        return task.predict(outputs, batch)
