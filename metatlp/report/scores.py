"""Tables of scores: rows systems, columns TLPs by task, and the means; percent with intervals.

Knows numbers and names; knows no model and no data.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from metatlp.engine.scoring.bootstrap import Sample
from metatlp.grid import TLP, Grid

MARKS = {
    "t": "the TLP's own data trained the model or chose something of it",
    "l": "data of other tasks in this language did",
    "?": "nothing beside the model says what it has seen",
}
_MARKS = (*MARKS, "*")
ALL = "all"  # the column of the mean over all TLPs
NO_LABELS = "no labels"  # in place of a number

Row = dict[str, Sample]  # column -> number: a TLP's name, a task's code (its mean), or ALL


@dataclass(frozen=True)
class Comparison:
    """The headline metrics of several systems on one split.

    Attributes:
        split: that was scored.
        metrics: task -> its headline metric.
        tlps: the columns, in the order of the grid.
        rows: system -> its numbers, as fractions.
        confidence: of the intervals.
        marks: system -> name of a TLP -> a key of MARKS, or nothing.
        unlabelled: the columns without a number or a part in the means, for want of labels.
    """

    split: str
    metrics: Mapping[str, str]
    tlps: tuple[TLP, ...]
    rows: Mapping[str, Row]
    confidence: float
    marks: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    unlabelled: tuple[TLP, ...] = ()

    @classmethod
    def of(
        cls,
        split: str,
        metrics: Mapping[str, str],
        scores: Mapping[str, Mapping[TLP, Sample]],
        confidence: float,
        marks: Mapping[str, Mapping[str, str]],
        unlabelled: Collection[TLP] = (),
    ) -> Comparison:
        """Adds the means. A mean is over all columns with labels, or is not there.

        Args:
            scores: system -> TLP -> headline metric.
            unlabelled: TLPs that no system has a score of.
        """
        labelled = Grid.of(tlp for row in scores.values() for tlp in row).tlps
        rows = {name: with_means(row, labelled) for name, row in scores.items()}
        tlps, without = Grid.of((*labelled, *unlabelled)).tlps, Grid.of(unlabelled).tlps
        return cls(split, metrics, tlps, rows, confidence, marks, without)

    def groups(self) -> Iterator[tuple[str, dict[str, str]]]:
        """Title and columns (heading -> key of a row) of every table."""
        labelled = tuple(tlp for tlp in self.tlps if tlp not in self.unlabelled)
        for task in Grid(self.tlps).tasks:
            own = {tlp.lang: str(tlp) for tlp in self.tlps if tlp.task == task}
            mean = {"mean": task} if sum(tlp.task == task for tlp in labelled) > 1 else {}
            yield f"{task}, {self.metrics[task]}", own | mean
        if len(labelled) > 1:
            of_all = {f"mean of all {len(labelled)}": ALL}
            yield "means", {task: task for task in Grid(labelled).tasks} | of_all

    def missing(self, column: str) -> str:
        """What stands where a system has no number."""
        return NO_LABELS if column in map(str, self.unlabelled) else "-"

    def differences(self) -> Iterator[tuple[str, Row]]:
        """Every further system less the first, where both have a number."""
        first, *others = self.rows
        for name in others:
            both = [column for column in self.rows[first] if column in self.rows[name]]
            row = {column: self.rows[name][column] - self.rows[first][column] for column in both}
            yield f"{name} - {first}", row

    def as_json(self) -> dict[str, Any]:
        """Every number of the tables, as fractions."""
        return {
            "metrics": dict(self.metrics),
            "tlps": [str(tlp) for tlp in self.tlps],
            "unlabelled": [str(tlp) for tlp in self.unlabelled],
            "systems": {
                name: {column: estimate(sample, self.confidence) for column, sample in row.items()}
                for name, row in self.rows.items()
            },
            "differences": {
                name: {
                    column: estimate(sample, self.confidence) | {"p": sample.p_value()}
                    for column, sample in row.items()
                }
                for name, row in self.differences()
            },
        }


def with_means(scores: Mapping[TLP, Sample], tlps: Collection[TLP]) -> Row:
    """The numbers by name, with the mean of each task and of all where none is missing."""
    row = {str(tlp): scores[tlp] for tlp in tlps if tlp in scores}
    groups = {task: [t for t in tlps if t.task == task] for task in Grid(tuple(tlps)).tasks}
    for name, group in (*groups.items(), (ALL, list(tlps))):
        if group and all(tlp in scores for tlp in group):
            row[name] = Sample.mean([scores[tlp] for tlp in group])
    return row


def estimate(sample: Sample, confidence: float) -> dict[str, float]:
    """A number with its interval."""
    low, high = sample.interval(confidence)
    return {"value": sample.value, "low": low, "high": high}


def screen_lines(comparison: Comparison) -> list[str]:
    """A table per task and one of the means; a star where a difference's interval leaves out 0."""
    lines = []
    for title, columns in comparison.groups():
        head = [f"{title} (%)", *columns]
        rows = [
            [name, *(_short(comparison, name, key) for key in columns.values())]
            for name in comparison.rows
        ]
        rows += [
            [name, *(_signed(row, key, comparison.confidence) for key in columns.values())]
            for name, row in comparison.differences()
        ]
        lines += ["", *_aligned([head, *rows])]
    return lines[1:]


def markdown_lines(comparison: Comparison) -> list[str]:
    """The same tables with every interval."""
    lines = []
    for title, columns in comparison.groups():
        rows = [
            [name, *(_long(comparison, name, key) for key in columns.values())]
            for name in comparison.rows
        ]
        rows += [
            [name, *(_compared(row, key, comparison.confidence) for key in columns.values())]
            for name, row in comparison.differences()
        ]
        lines += [f"### {title} (%)", "", *_markdown([["system", *columns], *rows]), ""]
    return lines


def _short(comparison: Comparison, name: str, key: str) -> str:
    row, marks = comparison.rows[name], comparison.marks.get(name, {})
    if key not in row:
        return comparison.missing(key)
    return f"{100 * row[key].value:.1f}{marks.get(key, '')}"


def _signed(row: Row, key: str, confidence: float) -> str:
    if key not in row:
        return "-"
    low, high = row[key].interval(confidence)
    return f"{100 * row[key].value:+.1f}{'' if low <= 0 <= high else '*'}"


def _long(comparison: Comparison, name: str, key: str) -> str:
    row, short = comparison.rows[name], _short(comparison, name, key)
    return f"{short} {_interval(row[key], comparison.confidence)}" if key in row else short


def _compared(row: Row, key: str, confidence: float) -> str:
    if key not in row:
        return "-"
    sample = row[key]
    interval, p = _interval(sample, confidence), sample.p_value()
    return f"{100 * sample.value:+.1f} {interval} p = {p:.2g}"


def _interval(sample: Sample, confidence: float) -> str:
    low, high = sample.interval(confidence)
    return f"[{100 * low:.1f}, {100 * high:.1f}]"


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns of text: names to the left, numbers to the right, their marks behind them."""
    names, *numbers = zip(*rows, strict=True)
    widest = max(map(len, names))
    columns = [[name.ljust(widest) for name in names]]
    for head, *cells in numbers:
        marked = any(cell[-1] in _MARKS for cell in cells)
        column = [head, *cells]
        if marked:
            column = [head + " ", *(c if c[-1] in _MARKS else c + " " for c in cells)]
        width = max(map(len, column))
        columns.append([cell.rjust(width) for cell in column])
    return ["  ".join(row).rstrip() for row in zip(*columns, strict=True)]


def _markdown(rows: Sequence[Sequence[str]]) -> list[str]:
    head, *body = ["| " + " | ".join(row) + " |" for row in rows]
    return [head, "|" + "---|" * len(rows[0]), *body]
