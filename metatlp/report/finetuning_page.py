"""The page of one call of finetune.py: scores, the rates tried, dev curves, time.

Knows results.json and the folders of the trainings beside it.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from metatlp.errors import InputError
from metatlp.grid import TLP
from metatlp.report import figures
from metatlp.report.json_file import number_at, read_json, read_lines
from metatlp.report.numbers import percent
from metatlp.report.readings import SECOND
from metatlp.report.run_pages import Section, drawn, section, time_sheet
from metatlp.report.sheets import Sheet
from metatlp.tasks import TASKS

_MOST_PANELS = 12


def finetuning_sections(folder: Path) -> tuple[list[Section], list[tuple[str, str]]]:
    """The sections, and the facts above them.

    Raises:
        InputError: a file is missing or damaged.
    """
    path = folder / "results.json"
    results = read_json(path, "the scores of finetuning").get("results")
    if not isinstance(results, list) or not results:
        raise InputError(f"{path}: damaged (no results)")
    rows: list[list[str]] = []
    tried: list[list[str]] = []
    curves: dict[str, dict[str, Any]] = {}
    try:
        for result in results:
            tlp = TLP.parse(result["tlp"])
            name = f"{tlp}, {result['shots']}, seed {result['seed']}"
            metric = TASKS[tlp.task].metric
            cells = [_score(result["scores"], split, tlp) for split in ("dev", "test")]
            rows.append([name, _rate(result["lr"]), *cells, f"{result['distance']:.3g}"])
            for trial in result["trials"]:
                dev = percent((trial["dev"] or {}).get(metric))
                kept = "kept" if trial["lr"] == result["lr"] else ""
                tried.append([name, _rate(trial["lr"]), dev, f"{trial['distance']:.3g}", kept])
                if len(curves) < _MOST_PANELS or name in curves:
                    x, y = zip(*trial["curve"], strict=True) if trial["curve"] else ((), ())
                    line = (list(x), [100 * value for value in y])
                    curves.setdefault(name, {})[f"lr {_rate(trial['lr'])}"] = line
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: damaged ({error})") from error
    head = ["training", "kept rate", "dev", "test", "|θ - θ₀|"]
    found = [section("Scores", Sheet("Headline and second metric, percent", head, rows))]
    if tried:
        columns = ["training", "learning rate", "dev (%)", "|θ - θ₀|", ""]
        figure = figures.curves_figure(curves, "update")
        shown = [drawn(figure, "dev score (percent) over the updates, by learning rate")]
        sheet = Sheet("", columns, tried)
        found.append(section("Learning rates, chosen on dev", sheet, shown=shown))
    time = _time(folder)
    found += [time] if time else []
    means = [
        number_at(result, "scores", "test", TASKS[TLP.parse(result["tlp"]).task].metric, path=path)
        for result in results
        if "test" in result["scores"]
    ]
    facts = [("trainings", str(len(results)))]
    facts += [("mean test score (%)", percent(statistics.fmean(means)))] if means else []
    return found, facts


def _time(folder: Path) -> Section | None:
    """Of all trainings that left their metrics."""
    parts: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for path in sorted(folder.rglob("metrics.jsonl")):
        for record in read_lines(path, "the metrics of a training"):
            parts["training" if "loss" in record else "dev scores"].append(record)
    return section("Time", time_sheet(parts, folder / "metrics.jsonl")) if parts else None


def _score(scores: Mapping[str, Any], split: str, tlp: TLP) -> str:
    if split not in scores:
        return "-"
    own, second = scores[split], SECOND.get(tlp.task, "macro_f1")
    text = percent(own[TASKS[tlp.task].metric])
    return f"{text}, {second} {percent(own[second])}" if second in own else text


def _rate(rate: float | None) -> str:
    return "-" if rate is None else f"{rate:g}"
