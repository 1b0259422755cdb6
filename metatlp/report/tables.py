"""The tables of the report: rows in groups, differences, what is best, and the paper's numbers.

Knows the layout of the paper's tables; knows no file format and no page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from metatlp.grid import TLP, Grid
from metatlp.report.collected import Collected, Number
from metatlp.report.layouts import LAYOUTS
from metatlp.report.paper import Numbers
from metatlp.report.significance import Estimate, difference, holm, mean_of

FURTHER = "Further systems"
SHADES = 4  # of light to dark
_STEP = 0.005  # of a difference, from shade to shade
_EQUAL = 1e-9  # sums of floats


@dataclass(frozen=True)
class Compared:
    """A difference from a reference.

    Attributes:
        reference: the row. estimate: of the difference, a fraction.
        p, p_models: over seeds and examples, and of these models over examples; adjusted by Holm
            over the columns of the row. None where unknown.
    """

    reference: str
    estimate: Estimate
    p: float | None = None
    p_models: float | None = None


@dataclass(frozen=True)
class Entry:
    """A number in its place.

    Attributes:
        compared: with the reference of its column; None for the reference's group.
        paper: the paper's number in percent.
        best: of its group in its column. shade: 0 (none) to SHADES, for the best of a group.
    """

    number: Number
    compared: Compared | None = None
    paper: float | None = None
    best: bool = False
    shade: int = 0


@dataclass(frozen=True)
class Row:
    """A row with its entries by column."""

    name: str
    label: str
    entries: Mapping[TLP, Entry]
    mean: Estimate | None = None
    mean_compared: Compared | None = None


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        target: its name. title: what it is. columns: the TLPs.
        groups: title -> rows. baselines: title of the group that differences are taken from; None
            where the reference is a row.
        with_paper: whether the paper's numbers were compared.
        notes: lines that a reader has to know.
    """

    target: str
    title: str
    columns: tuple[TLP, ...]
    groups: Mapping[str, Sequence[Row]]
    baselines: str | None
    with_paper: bool = False
    notes: Sequence[str] = field(default_factory=tuple)

    @property
    def tasks(self) -> dict[str, list[TLP]]:
        """Task -> its columns."""
        grid = Grid(self.columns)
        return {task: [tlp for tlp in self.columns if tlp.task == task] for task in grid.tasks}

    def rows(self) -> list[Row]:
        return [row for rows in self.groups.values() for row in rows]


def build_table(
    collected: Collected,
    title: str,
    paper: Numbers | None = None,
    labels: Mapping[str, str] | None = None,
) -> Table:
    """Args: paper: its numbers, where they may be compared. labels: of rows, by name."""
    layout = LAYOUTS.get(collected.target)
    groups = _grouped(collected, layout or {}, labels or {})
    baselines = next(iter(layout)) if layout else None
    if baselines is not None and baselines in groups:
        groups = _against_best(collected, groups, baselines)
    else:
        baselines = None
        groups = {title: _against_rows(collected, rows) for title, rows in groups.items()}
    groups = {title: [_with_paper(row, paper) for row in rows] for title, rows in groups.items()}
    notes = [*map(str, collected.choices), *collected.missing]
    return Table(
        collected.target, title, collected.tlps, groups, baselines, paper is not None, notes
    )


def _grouped(
    collected: Collected, layout: Mapping[str, Mapping[str, str]], labels: Mapping[str, str]
) -> dict[str, list[Row]]:
    """Those of the layout that there are, then the others."""
    places = {row: (group, label) for group, rows in layout.items() for row, label in rows.items()}
    in_order = [row for row in places if row in collected.rows]
    in_order += [row for row in collected.rows if row not in places]
    found: dict[str, list[Row]] = {}
    for name in in_order:
        group, label = places.get(name, (FURTHER if layout else "", name))
        entries = {tlp: Entry(collected.numbers[name, tlp]) for tlp in collected.columns_of(name)}
        if entries:
            mean = None
            if entries.keys() == set(collected.tlps) and len(entries) > 1:
                means = [entry.number.estimate for entry in entries.values()]
                mean = mean_of(means, f"{collected.target} {name} mean")
            label = label if name in places else labels.get(name, label)
            row = Row(name, label, entries, mean)
            found.setdefault(group, []).append(row)
    return found


def _against_best(
    collected: Collected, groups: Mapping[str, list[Row]], baselines: str
) -> dict[str, list[Row]]:
    """As in the paper: against the best baseline of each column, by its test score."""
    best = best_of(groups[baselines])
    highest = highest_of(groups[baselines])
    found = {baselines: [_marked(row, highest, 1) for row in groups[baselines]]}
    references = {tlp: next(r for r in groups[baselines] if r.name == n) for tlp, n in best.items()}
    for title, rows in groups.items():
        if title == baselines:
            continue
        compared = [_compared(collected.target, row, references) for row in rows]
        if title != FURTHER:
            of_group = highest_of(rows)
            compared = [_marked(row, of_group, None) for row in compared]
        found[title] = compared
    return found


def _against_rows(collected: Collected, rows: Sequence[Row]) -> list[Row]:
    """Against the row that the plan names, or else the first."""
    by_name = {row.name: row for row in rows}
    highest, found = highest_of(rows), []
    for row in rows:
        reference = by_name.get(collected.references.get(row.name, rows[0].name))
        if reference is not None and reference is not row:
            both = {tlp: reference for tlp in row.entries if tlp in reference.entries}
            row = _compared(collected.target, row, both)
        found.append(_marked(row, highest, 1))
    return found


def best_of(rows: Sequence[Row]) -> dict[TLP, str]:
    """Column -> the row with the largest mean; of equals the first."""
    found: dict[TLP, str] = {}
    highest: dict[TLP, float] = {}
    for row in rows:
        for tlp, entry in row.entries.items():
            if tlp not in highest or entry.number.estimate.value > highest[tlp]:
                found[tlp], highest[tlp] = row.name, entry.number.estimate.value
    return found


def highest_of(rows: Sequence[Row]) -> dict[TLP, float]:
    """Column -> the largest mean."""
    found: dict[TLP, float] = {}
    for row in rows:
        for tlp, entry in row.entries.items():
            found[tlp] = max(found.get(tlp, -1.0), entry.number.estimate.value)
    return found


def _marked(row: Row, highest: Mapping[TLP, float], shade: int | None) -> Row:
    """The best ones marked, equal ones alike; shade: theirs, or None for that of the difference."""
    entries = {
        tlp: replace(entry, best=True, shade=shade or _shade(entry))
        if entry.number.estimate.value >= highest[tlp] - _EQUAL
        else entry
        for tlp, entry in row.entries.items()
    }
    return replace(row, entries=entries)


def _shade(entry: Entry) -> int:
    """1 up to no difference, then one more each half point."""
    less = entry.compared.estimate.value if entry.compared else 0.0
    return 1 if less <= 0 else min(SHADES, 2 + int(less / _STEP))


def _compared(target: str, row: Row, references: Mapping[TLP, Row]) -> Row:
    """The differences of a row, with the p-values of all its columns adjusted together."""
    columns = [tlp for tlp in row.entries if tlp in references]
    differences = {
        tlp: difference(
            row.entries[tlp].number.estimate,
            references[tlp].entries[tlp].number.estimate,
            f"{target} {row.name} - {references[tlp].name} {tlp}",
        )
        for tlp in columns
    }
    over_all = adjusted([each.p_value() for each in differences.values()])
    of_models = adjusted([each.p_value_of_models() for each in differences.values()])
    entries = dict(row.entries)
    for tlp, p, p_models in zip(columns, over_all, of_models, strict=True):
        compared = Compared(references[tlp].name, differences[tlp], p, p_models)
        entries[tlp] = replace(entries[tlp], compared=compared)
    mean = None
    if row.mean is not None and len(columns) == len(row.entries):
        less = mean_of(list(differences.values()), f"{target} {row.name} mean difference")
        names = {reference.name for reference in references.values()}
        name = names.pop() if len(names) == 1 else "best of each column"
        mean = Compared(name, less, less.p_value(), less.p_value_of_models())
    return replace(row, entries=entries, mean_compared=mean)


def adjusted(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's adjustment of those that are known."""
    known = [p for p in p_values if p is not None]
    after = iter(holm(known))
    return [None if p is None else next(after) for p in p_values]


def _with_paper(row: Row, paper: Numbers | None) -> Row:
    if paper is None:
        return row
    entries = {
        tlp: replace(entry, paper=paper.get((row.name, tlp))) for tlp, entry in row.entries.items()
    }
    return replace(row, entries=entries)
