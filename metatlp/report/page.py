"""HTML pages that need nothing beside themselves: templates in pages/, pictures as data URIs.

Knows the templates' variables; computes no number.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from metatlp.report.numbers import percent, spread
from metatlp.report.score_sheets import METRIC_NAMES, marks, short_mean
from metatlp.report.tables import Entry, Row, Table
from metatlp.tasks import TASKS

# As in the paper, whose tables have these tasks side by side, and the others below.
_UPPER = ("qa", "nli", "pa")
_MOST_COLUMNS = 13  # side by side, as many as the paper's upper half has


def render(template: str, **values: Any) -> str:
    """A page; everything is escaped."""
    return _environment().get_template(template).render(**values)


@lru_cache(maxsize=1)
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(Path(__file__).parent / "pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def picture(svg: bytes, caption: str) -> dict[str, Any]:
    """For the macro `picture`. svg: of the figure. caption: below it, and for those who do not
    see it."""
    data = base64.b64encode(svg).decode("ascii")
    points = re.search(rb'<svg [^>]*?width="([0-9.]+)pt"', svg)
    assert points is not None, "matplotlib writes points"
    pixels = round(float(points.group(1)) / 72 * 96)
    uri = f"data:image/svg+xml;base64,{data}"
    return {"uri": uri, "caption": caption, "width": pixels, "least": min(pixels, 640)}


def blocks_of(table: Table, confidence: float) -> list[dict[str, Any]]:
    """For the macro `scores`: one or two blocks of columns, and the mean at the end of the last."""
    tasks = table.tasks
    halves = [
        [task for task in tasks if task in _UPPER],
        [task for task in tasks if task not in _UPPER],
    ]
    halves = [half for half in halves if half]
    if len(table.columns) <= _MOST_COLUMNS:
        halves = [list(tasks)]
    mean = any(row.mean is not None for row in table.rows())
    return [
        _block(table, {task: tasks[task] for task in half}, mean and half is halves[-1], confidence)
        for half in halves
    ]


def _block(
    table: Table, tasks: Mapping[str, Sequence[Any]], mean: bool, confidence: float
) -> dict[str, Any]:
    columns = [tlp for tlps in tasks.values() for tlp in tlps]
    first = {tlps[0] for tlps in tasks.values()}
    means = [row for row in table.rows() if row.mean is not None and table.baselines is None]
    best_mean = max(means, key=lambda row: row.mean.value if row.mean else 0.0, default=None)
    groups = []
    for title, rows in table.groups.items():
        shown = [row for row in rows if any(tlp in row.entries for tlp in columns)]
        if shown:
            title = "" if title == table.baselines else title
            lines = []
            for row in shown:
                cells = [
                    _cell(table, title, row.entries.get(tlp), confidence, tlp in first)
                    for tlp in columns
                ]
                cells += [_mean_cell(row, row is best_mean, confidence)] if mean else []
                lines.append({"label": row.label, "cells": cells})
            groups.append({"title": title, "rows": lines})
    return {
        "tasks": [
            {
                "title": f"{task.upper()} ({_metric(task)})",
                "langs": [tlp.lang for tlp in tlps],
            }
            for task, tlps in tasks.items()
        ],
        "mean": mean,
        "width": 1 + len(columns) + mean,
        "groups": groups,
    }


def _cell(
    table: Table, group: str, entry: Entry | None, confidence: float, edge: bool
) -> dict[str, Any]:
    classes = ["edge"] if edge else []
    if entry is None:
        return {"main": "", "small": [], "classes": " ".join(classes)}
    estimate = entry.number.estimate
    score, sd = percent(estimate.value), spread(estimate)
    if entry.compared is None or table.baselines is None:
        main, small = score, [sd]
        if entry.compared is not None:
            small.append(f"{100 * entry.compared.estimate.value:+.2f}{_mark(entry, confidence)}")
    else:
        main = f"{100 * entry.compared.estimate.value:+.2f}{_mark(entry, confidence)}"
        small = [f"{score} {sd}".strip()]
    if entry.number.second is not None and estimate.by_seed and _tagging(entry):
        small.append(f"F1 {percent(entry.number.second[0])}")
    if entry.best:
        is_base = table.baselines is not None and not group
        classes += ["best", "base" if is_base or table.baselines is None else f"s{entry.shade}"]
    return {"main": main, "small": [line for line in small if line], "classes": " ".join(classes)}


def _mean_cell(row: Row, best: bool, confidence: float) -> dict[str, Any]:
    if row.mean is None:
        return {"main": "", "small": [], "classes": "edge"}
    main, _, rest = short_mean(row, confidence).partition(" ")
    classes = "edge best base" if best else "edge"
    return {"main": main, "small": [rest.strip("()")] if rest else [], "classes": classes}


def _mark(entry: Entry, confidence: float) -> str:
    return marks(entry.compared, confidence) if entry.compared else ""


def _tagging(entry: Entry) -> bool:
    return entry.number.readings[0].tlp.task in ("pos", "ner")


def _metric(task: str) -> str:
    return METRIC_NAMES.get(TASKS[task].metric, TASKS[task].metric)
