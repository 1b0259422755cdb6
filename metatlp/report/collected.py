"""The numbers of a target's rows and columns: cells read, candidates chosen, seeds put together.

Knows readings and estimates; knows no layout.
R resamples.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from metatlp.engine.scoring.bootstrap import Sample, sampled
from metatlp.errors import InputError
from metatlp.grid import TLP, Grid
from metatlp.report.choice import Choice, choose
from metatlp.report.layouts import BASELINES
from metatlp.report.plan_file import Cell, Plan
from metatlp.report.readings import SECOND, Reader, Reading, check_alike
from metatlp.report.significance import Estimate
from metatlp.seeds import derive_seed
from metatlp.tasks import TASKS

Key = tuple[str, TLP]  # row, column
LENDERS = ("table2", "table3", "table4", "grid_search")
NOT_SCORES = ("metrics", "train")  # splits of cells that are read otherwise


@dataclass(frozen=True)
class Number:
    """A cell of a table.

    Attributes:
        estimate: of the headline metric, a fraction.
        second: of another metric, its mean over seeds and their standard deviation.
        dev: mean dev score; None where one is missing. distance: mean |theta - theta_0|, likewise.
        readings: one per seed.
    """

    estimate: Estimate
    readings: tuple[Reading, ...]
    second: tuple[float, float | None] | None = None
    dev: float | None = None
    distance: float | None = None


@dataclass(frozen=True)
class Collected:
    """A target's numbers.

    Attributes:
        target: its name. rows: in the plan's order. tlps: the columns, in the grid's order.
        numbers: row and column -> number. choices: of the rows that had one.
        references: row -> the row that its differences are from, where the plan says it.
        missing: lines on what is not there, with --partial.
    """

    target: str
    rows: tuple[str, ...]
    tlps: tuple[TLP, ...]
    numbers: Mapping[Key, Number]
    choices: tuple[Choice, ...] = ()
    references: Mapping[str, str] = field(default_factory=dict)
    missing: tuple[str, ...] = ()

    def columns_of(self, row: str) -> tuple[TLP, ...]:
        return tuple(tlp for tlp in self.tlps if (row, tlp) in self.numbers)


class Resampler:
    """Samples of readings; the examples of a file are drawn once for all systems."""

    def __init__(self, num_resamples: int):
        """num_resamples: R."""
        self.num_resamples = num_resamples

    def samples(self, readings: Sequence[Reading]) -> list[Sample]:
        """Of the headline metric, of scores of one TLP and split.

        Raises:
            InputError: they are not of the same examples.
        """
        check_alike(readings)
        metric = TASKS[readings[0].tlp.task].metric
        terms = {
            str(i): reading.terms[metric]
            for i, reading in enumerate(readings)
            if metric in reading.terms
        }
        drawn: dict[str, Sample] = {}
        if terms:
            cell, size = readings[0].cell, len(next(iter(terms.values())))
            seed = derive_seed(0, "bootstrap", readings[0].tlp.task, cell.split, size)
            drawn = sampled(terms, self.num_resamples, seed)
        found = []
        for i, reading in enumerate(readings):
            sample = drawn.get(str(i))
            if sample is None:
                sample = Sample(reading.value, np.full(self.num_resamples, reading.value))
            elif abs(sample.value - reading.value) > 1e-6:
                raise InputError(
                    f"{reading.cell.file}: {metric} of {reading.cell} is {reading.value:.6f}, but "
                    f"its examples give {sample.value:.6f}"
                )
            found.append(sample)
        return found


def collect(
    plan: Plan, target: str, reader: Reader, resampler: Resampler, partial: bool = False
) -> Collected:
    """Everything of a target that has scores.

    Args:
        partial: leave out what is missing, and say so.

    Raises:
        InputError: a file is missing (unless `partial`) or damaged.
    """
    cells = cells_of(plan, target)
    rows = list(dict.fromkeys(cell.row for cell in cells))
    kept: dict[Key, list[Reading]] = {}
    choices, missing = [], []
    for row in rows:
        own = [cell for cell in cells if cell.row == row]
        there = [cell for cell in own if not partial or (plan.folder / cell.file).exists()]
        missing += [f"{cell}: {cell.file} is missing" for cell in own if cell not in there]
        readings, choice = choose(row, _read(there, reader)) if there else ([], None)
        choices += [choice] if choice else []
        for reading in readings:
            kept.setdefault((row, reading.tlp), []).append(reading)
    numbers = _numbers(target, kept, resampler)
    tlps = Grid.of(tlp for _, tlp in numbers).tlps
    references = {cell.row: cell.reference for cell in cells if cell.reference}
    return Collected(target, tuple(rows), tlps, numbers, tuple(choices), references, tuple(missing))


def cells_of(plan: Plan, target: str) -> list[Cell]:
    """The cells of a target that have scores, and those that it borrows: the rows that it takes
    differences from, where only another target has them, and for table 4 table 2's baselines.

    Raises:
        InputError: no target has a row that is named as a reference.
    """
    own = _scored(plan, target)
    rows = {cell.row for cell in own}
    columns = {cell.tlp for cell in own}
    wanted = {cell.reference: cell.row for cell in own if cell.reference}
    found = []
    if target == "table4" and not rows & BASELINES.keys():
        found = [cell for cell in _scored(plan, "table2") if cell.row in BASELINES]
    for reference in sorted(wanted.keys() - rows):
        others = (
            [cell for cell in _scored(plan, other) if cell.row == reference]
            for other in LENDERS
            if other != target
        )
        lent = next((cells for cells in others if cells), [])
        if not lent:
            raise InputError(
                f"plan.json: {target} {wanted[reference]}: no row {reference} to compare it with"
            )
        found += lent
    lent = [replace(cell, target=target) for cell in found if cell.tlp in columns]
    return [*lent, *own]


def _scored(plan: Plan, target: str) -> list[Cell]:
    return [cell for cell in plan.of(target) if cell.split not in NOT_SCORES]


def _read(cells: Iterable[Cell], reader: Reader) -> list[Reading]:
    """The readings of a row; cells of dev beside others only give these their dev scores."""
    readings = [reader.read(cell) for cell in cells]
    dev = {_same(one.cell): one.value for one in readings if one.cell.split == "dev"}
    others = [one for one in readings if one.cell.split != "dev"]
    if not others:
        return [_with_dev(one, one.value) for one in readings]
    return [_with_dev(one, dev.get(_same(one.cell), one.dev)) for one in others]


def _same(cell: Cell) -> tuple[str, TLP | None, int | None, str]:
    return cell.row, cell.tlp, cell.seed, cell.candidate


def _with_dev(reading: Reading, dev: float | None) -> Reading:
    return Reading(reading.cell, reading.values, reading.terms, dev, reading.distance, reading.lr)


def _numbers(
    target: str, kept: Mapping[Key, Sequence[Reading]], resampler: Resampler
) -> dict[Key, Number]:
    """Row and column -> number, in the order of the rows."""
    by_file: dict[tuple[TLP, str], list[Key]] = {}
    for key, readings in kept.items():
        by_file.setdefault((key[1], readings[0].cell.split), []).append(key)
    samples: dict[Key, dict[int, Sample]] = {}
    for keys in by_file.values():
        flat = [(key, reading) for key in keys for reading in kept[key]]
        drawn = resampler.samples([reading for _, reading in flat])
        for (key, reading), sample in zip(flat, drawn, strict=True):
            samples.setdefault(key, {})[reading.seed] = sample
    return {
        key: _number(f"{target} {key[0]} {key[1]}", samples[key], readings)
        for key, readings in kept.items()
    }


def _number(name: str, by_seed: Mapping[int, Sample], readings: Sequence[Reading]) -> Number:
    in_order = dict(sorted(by_seed.items()))
    dev = [one.dev for one in readings if one.dev is not None]
    moved = [one.distance for one in readings if one.distance is not None]
    return Number(
        Estimate.of(in_order, name),
        tuple(sorted(readings, key=lambda one: one.seed)),
        _second(readings),
        statistics.fmean(dev) if len(dev) == len(readings) else None,
        statistics.fmean(moved) if len(moved) == len(readings) else None,
    )


def _second(readings: Sequence[Reading]) -> tuple[float, float | None] | None:
    metric = SECOND.get(readings[0].tlp.task)
    values = [one.values[metric] for one in readings if metric and metric in one.values]
    if len(values) < len(readings):
        return None
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None
