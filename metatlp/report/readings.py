"""From a cell of the plan to its numbers, out of results.json, scores.json and terms.npz, or dev
scores out of metrics.jsonl.

Knows the files that the scripts write; knows no table.
N examples, L labels.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from metatlp.engine.scoring.terms_file import NAME as TERMS_FILE
from metatlp.engine.scoring.terms_file import read_terms
from metatlp.errors import InputError
from metatlp.grid import TLP
from metatlp.report.json_file import number_at, read_json, read_lines
from metatlp.report.plan_file import Cell
from metatlp.tasks import TASKS

Terms = Mapping[str, np.ndarray]
SECOND = {"pos": "macro_f1", "ner": "entity_f1", "qa": "em"}  # beside the headline metric


@dataclass(frozen=True)
class Reading:
    """What stands in a cell's file.

    Attributes:
        cell: that it was read for.
        values: metric -> fraction.
        terms: metric -> (N, L, 2); empty where the run kept none.
        dev: the headline metric on dev data; None where the file has none.
        distance: |theta - theta_0|, where it is told. lr: the learning rate that was kept.
    """

    cell: Cell
    values: Mapping[str, float]
    terms: Terms = field(default_factory=dict)
    dev: float | None = None
    distance: float | None = None
    lr: float | None = None

    @property
    def tlp(self) -> TLP:
        assert self.cell.tlp is not None
        return self.cell.tlp

    @property
    def seed(self) -> int:
        assert self.cell.seed is not None
        return self.cell.seed

    @cached_property
    def value(self) -> float:
        """The headline metric of the TLP's task."""
        return self.values[TASKS[self.tlp.task].metric]


class Reader:
    """Reads cells, every file once."""

    def __init__(self, folder: Path):
        """folder: that the cells' files are relative to."""
        self.folder = folder
        self._json: dict[Path, dict[str, Any]] = {}
        self._terms: dict[Path, Terms | None] = {}
        self._last: dict[Path, dict[str, Any]] = {}
        self.without_terms: dict[Path, None] = {}  # folders, in the order they were met

    def read(self, cell: Cell) -> Reading:
        """Raises InputError: the file is missing or damaged, or has not what the cell names."""
        if cell.tlp is None or cell.seed is None:
            raise InputError(f"plan.json: a cell of {cell.target} {cell.row} needs tlp and seed")
        path = self.folder / cell.file
        if path.name == "results.json":
            return self._finetuned(cell, path)
        if path.name == "scores.json":
            return self._evaluated(cell, path)
        if path.name == "metrics.jsonl" and cell.split == "dev":
            return self._last_dev(cell, path)
        raise InputError(
            f"{path}: a cell's scores are in results.json or scores.json, or for dev in "
            "metrics.jsonl"
        )

    def json(self, path: Path, what: str) -> dict[str, Any]:
        """A file of a run."""
        if path not in self._json:
            self._json[path] = read_json(path, what)
        return self._json[path]

    def _finetuned(self, cell: Cell, path: Path) -> Reading:
        results = self.json(path, f"the scores of {cell}").get("results")
        if not isinstance(results, list) or not all(isinstance(one, dict) for one in results):
            raise InputError(f"{path}: damaged (no results)")
        wanted = (str(cell.tlp), "full", cell.seed)
        own = [r for r in results if (r.get("tlp"), r.get("shots"), r.get("seed")) == wanted]
        if len(own) != 1:
            raise InputError(
                f"{path}: {len(own)} results of {cell.tlp}, seed {cell.seed}, all examples; one is "
                "needed"
            )
        (result,) = own
        scores = result.get("scores")
        if not isinstance(scores, dict):
            raise InputError(f"{path}: damaged (no scores of {cell.tlp})")
        terms = self._terms_of(path.parent / str(cell.tlp) / f"seed_{cell.seed}")
        metric = TASKS[cell.tlp.task].metric if cell.tlp else ""
        dev = number_at(scores, "dev", metric, path=path) if "dev" in scores else None
        return Reading(
            cell,
            _values(scores, cell, path),
            _under(terms, f"{cell.split}/"),
            dev,
            result.get("distance"),
            result.get("lr"),
        )

    def _evaluated(self, cell: Cell, path: Path) -> Reading:
        found = self.json(path, f"the scores of {cell}")
        by_system = found.get("scores")
        if not isinstance(by_system, dict) or cell.system not in by_system:
            there = ", ".join(by_system) if isinstance(by_system, dict) else "nothing"
            raise InputError(f"{path}: no system {cell.system}; there is {there}")
        by_tlp = by_system[cell.system].get(cell.split, {})
        entry = by_tlp.get(str(cell.tlp), {}).get("metrics")
        if not isinstance(entry, dict) or not entry:
            raise InputError(f"{path}: {cell.system} has no {cell.split} score of {cell.tlp}")
        values = {name: number_at(entry, name, "value", path=path) for name in entry}
        terms = self._terms_of(path.parent)
        prefix = f"{cell.system}/{cell.tlp}/{cell.split}/"
        checked = _values({cell.split: values}, cell, path)
        return Reading(cell, checked, _under(terms, prefix), self._dev(found, cell, path))

    def _last_dev(self, cell: Cell, path: Path) -> Reading:
        """The last evaluation of a run of train_meta.py or train_mtl.py."""
        if path not in self._last:
            lines = read_lines(path, f"the dev scores of {cell}")
            self._last[path] = next((r["dev"] for r in reversed(lines) if "dev" in r), {})
        values = _values({"dev": self._last[path].get(str(cell.tlp))}, cell, path)
        return Reading(cell, values)

    def _dev(self, found: Mapping[str, Any], cell: Cell, path: Path) -> float | None:
        """Mean dev score of the model's own TLPs of the task, as its training script wrote it."""
        assert cell.tlp is not None
        model = found.get("systems", {}).get(cell.system, {}).get(cell.tlp.task, {})
        by_tlp = ((model.get("provenance") or {}).get("scores") or {}).get("dev") or {}
        metric = TASKS[cell.tlp.task].metric
        names = [name for name in by_tlp if name.startswith(f"{cell.tlp.task}_")]
        if str(cell.tlp) in names:
            names = [str(cell.tlp)]
        own = [number_at(by_tlp, name, metric, path=path) for name in names]
        return statistics.fmean(own) if own else None

    def _terms_of(self, folder: Path) -> Terms | None:
        if folder not in self._terms:
            self._terms[folder] = read_terms(folder)
        if self._terms[folder] is None:
            self.without_terms[folder] = None
        return self._terms[folder]


def _values(scores: Mapping[str, Any], cell: Cell, path: Path) -> dict[str, float]:
    """The metrics of the cell's split. Raises InputError: its headline metric is not there."""
    assert cell.tlp is not None
    number_at(scores, cell.split, TASKS[cell.tlp.task].metric, path=path)
    own = scores[cell.split]
    return {name: number_at(own, name, path=path) for name in own}


def _under(terms: Terms | None, prefix: str) -> dict[str, np.ndarray]:
    return {n.removeprefix(prefix): t for n, t in (terms or {}).items() if n.startswith(prefix)}


def check_alike(readings: Iterable[Reading]) -> None:
    """That the readings of one TLP and split are scores of the same examples.

    Raises:
        InputError: two have other numbers of examples, or of words in an example.
    """
    first: Reading | None = None
    for reading in readings:
        metric = TASKS[reading.tlp.task].metric
        if metric not in reading.terms:
            continue
        if first is None:
            first = reading
        one, other = (r.terms[metric][..., 1] for r in (first, reading))
        if one.shape != other.shape or not np.array_equal(one, other):
            raise InputError(
                f"{reading.cell.file} and {first.cell.file} did not score the same "
                f"{reading.cell.split} examples of {reading.tlp} ({TERMS_FILE})"
            )
