"""A table of scores as text: as the paper prints it, and every number of it, a line each.

Knows how numbers are written; computes none.
"""

from __future__ import annotations

from metatlp.report.numbers import NONE, interval, p_value, percent, points, spread
from metatlp.report.readings import SECOND
from metatlp.report.sheets import Sheet, csv_text
from metatlp.report.significance import Estimate
from metatlp.report.tables import Compared, Entry, Row, Table
from metatlp.tasks import TASKS

CSV_COLUMNS = (
    *("target", "group", "row", "label", "task", "lang", "metric", "value", "sd", "seeds"),
    *("low", "high", "reference", "difference", "difference_low", "difference_high"),
    *("p", "p_models", "second_metric", "second", "second_sd", "dev", "distance"),
    *("paper", "minus_paper", "best"),
)
METRIC_NAMES = {"f1": "F1", "accuracy": "Acc."}
SECOND_NAMES = {"macro_f1": "F1", "entity_f1": "F1", "em": "EM"}


def sheets_of(table: Table, confidence: float) -> list[Sheet]:
    """A sheet per task of a table of scores, as the paper has them side by side, and the means."""
    found = []
    for task, tlps in table.tasks.items():
        rows: list[list[str]] = []
        bold = set()
        for group, row in _labelled(table):
            if any(tlp in row.entries for tlp in tlps):
                for column, tlp in enumerate(tlps, 2):
                    if tlp in row.entries and row.entries[tlp].best:
                        bold.add((len(rows), column))
                cells = [short(row.entries.get(tlp), confidence) for tlp in tlps]
                rows.append([group, row.label, *cells])
        metric = METRIC_NAMES.get(TASKS[task].metric, TASKS[task].metric)
        head = ["", "Model", *(tlp.lang for tlp in tlps)]
        found.append(Sheet(f"{task.upper()} ({metric})", head, rows, frozenset(bold)))
    means = [
        [group, row.label, short_mean(row, confidence)]
        for group, row in _labelled(table)
        if row.mean
    ]
    if means:
        head = ["", "Model", f"mean of {len(table.columns)}"]
        found.append(Sheet("Mean of all columns", head, means))
    return found


def short(entry: Entry | None, confidence: float) -> str:
    """What a cell shows: the score, or the difference with the score behind it; both with sd.

    A star: Holm's p over seeds and examples is at most 1 - confidence; a ring: that of these models
    over examples is.
    """
    if entry is None:
        return NONE
    estimate = entry.number.estimate
    text = _score(estimate)
    if entry.number.second is not None and estimate.by_seed and _is_tagging(entry):
        text += f", F1 {percent(entry.number.second[0])}"
    if entry.compared is None:
        return text
    less = points(entry.compared.estimate.value)
    return f"{less}{marks(entry.compared, confidence)} ({text})"


def short_mean(row: Row, confidence: float) -> str:
    """The same of the mean of all columns, whose p-values stand for themselves."""
    assert row.mean is not None
    if row.mean_compared is None:
        return _score(row.mean)
    less = points(row.mean_compared.estimate.value) + marks(row.mean_compared, confidence)
    return f"{less} ({_score(row.mean)})"


def marks(compared: Compared, confidence: float) -> str:
    """A star, a ring, or nothing."""
    alpha = 1 - confidence + 1e-12
    if compared.p is not None and compared.p <= alpha:
        return "*"
    return "°" if compared.p_models is not None and compared.p_models <= alpha else ""


def csv_of(table: Table, confidence: float) -> str:
    """Every number of a table, scores and differences in percent."""
    rows = [
        _csv_row(table.target, group, row, entry, confidence)
        for group, rows in table.groups.items()
        for row in rows
        for entry in row.entries.values()
    ]
    return csv_text(CSV_COLUMNS, rows)


def _csv_row(
    target: str, group: str, row: Row, entry: Entry, confidence: float
) -> list[str | int | float]:
    number, compared, tlp = entry.number, entry.compared, entry.number.readings[0].tlp
    estimate = number.estimate
    second = number.second or (None, None)
    less = None if entry.paper is None else 100 * estimate.value - entry.paper
    return [
        *(target, group, row.name, row.label, tlp.task, tlp.lang, TASKS[tlp.task].metric),
        *(_hundred(estimate.value), _hundred(estimate.sd), estimate.num_seeds),
        *_ends(estimate, confidence),
        compared.reference if compared else "",
        _hundred(compared.estimate.value if compared else None),
        *(_ends(compared.estimate, confidence) if compared else ("", "")),
        _digits(compared.p if compared else None),
        _digits(compared.p_models if compared else None),
        SECOND.get(tlp.task, "") if number.second else "",
        *(_hundred(second[0]), _hundred(second[1])),
        _hundred(number.dev),
        _digits(number.distance),
        _digits(entry.paper),
        _digits(less),
        int(entry.best),
    ]


def detail_head(with_paper: bool) -> list[str]:
    """The columns of `detail_rows`."""
    head = ["system", "pair", "score", "sd", "seeds", "interval", "second metric", "dev"]
    head += ["compared with", "difference", "interval", "p", "p, these models"]
    return head + (["paper", "ours less paper", "interval"] if with_paper else [])


def detail_rows(table: Table, confidence: float) -> list[list[str]]:
    """Every number of a table, as text."""
    found = []
    for group, row in _labelled(table):
        label = f"{group} {row.label}".strip()
        for tlp, entry in row.entries.items():
            found.append([label, str(tlp), *_detail(entry, confidence)])
            if table.with_paper:
                found[-1] += _beside_paper(entry, confidence)
        if row.mean is not None:
            cells = [*_estimate(row.mean, confidence), NONE, NONE]
            found.append([label, "mean", *cells, *_difference(row.mean_compared, confidence)])
            found[-1] += [NONE] * (3 if table.with_paper else 0)
    return found


def _detail(entry: Entry, confidence: float) -> list[str]:
    number = entry.number
    task = number.readings[0].tlp.task
    second = NONE
    if number.second is not None:
        mean, sd = number.second
        name = SECOND_NAMES.get(SECOND[task], SECOND[task])
        second = f"{name} {percent(mean)}" + ("" if sd is None else f" ± {100 * sd:.2f}")
    return [
        *_estimate(number.estimate, confidence),
        second,
        percent(number.dev),
        *_difference(entry.compared, confidence),
    ]


def _estimate(estimate: Estimate, confidence: float) -> list[str]:
    sd = percent(estimate.sd)
    return [percent(estimate.value), sd, str(estimate.num_seeds), interval(estimate, confidence)]


def _difference(compared: Compared | None, confidence: float) -> list[str]:
    if compared is None:
        return [NONE] * 5
    estimate = compared.estimate
    return [
        compared.reference,
        points(estimate.value),
        interval(estimate, confidence),
        p_value(compared.p),
        p_value(compared.p_models),
    ]


def _beside_paper(entry: Entry, confidence: float) -> list[str]:
    if entry.paper is None:
        return [NONE] * 3
    estimate = entry.number.estimate
    return [
        f"{entry.paper:.2f}",
        f"{100 * estimate.value - entry.paper:+.2f}",
        interval(estimate, confidence, less=entry.paper),
    ]


def _labelled(table: Table) -> list[tuple[str, Row]]:
    """The rows, each with the title of its group; that of the baselines goes without saying."""
    return [
        ("" if group in ("Baselines", table.baselines) else group, row)
        for group, rows in table.groups.items()
        for row in rows
    ]


def _score(estimate: Estimate) -> str:
    return f"{percent(estimate.value)} {spread(estimate)}".rstrip()


def _is_tagging(entry: Entry) -> bool:
    return SECOND.get(entry.number.readings[0].tlp.task) in ("macro_f1", "entity_f1")


def _ends(estimate: Estimate, confidence: float) -> tuple[str, str]:
    found = estimate.interval(confidence)
    return ("", "") if found is None else (_hundred(found[0]), _hundred(found[1]))


def _hundred(fraction: float | None) -> str:
    return "" if fraction is None else f"{100 * fraction:.4f}"


def _digits(number: float | None) -> str:
    return "" if number is None else f"{number:.4f}"
