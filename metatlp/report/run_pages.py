"""The page of one run of train_meta.py or train_mtl.py: curves, draws, rewards, dev, time, memory.

Knows args.json, metrics.jsonl and cost.json; finetune.py's page is in finetuning_page.py.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from metatlp.errors import InputError
from metatlp.grid import TLP, Grid
from metatlp.report import figures
from metatlp.report.curves import Curves, read_curves
from metatlp.report.json_file import number_at, read_json, read_lines
from metatlp.report.numbers import duration, percent, plain
from metatlp.report.page import picture
from metatlp.report.readings import SECOND
from metatlp.report.sheets import Sheet
from metatlp.tasks import TASKS

Record = Mapping[str, Any]
_POINTS = 300  # of a curve; more are averaged
Section = dict[str, Any]


def section(
    title: str, *sheets: Sheet, text: Sequence[str] = (), shown: Sequence[Any] = ()
) -> Section:
    """For the template."""
    return {"title": title, "text": text, "figures": shown, "sheets": sheets}


def training_sections(folder: Path, is_meta: bool) -> tuple[list[Section], list[tuple[str, str]]]:
    """The sections, and the facts above them.

    Raises:
        InputError: metrics.jsonl or cost.json is missing or damaged.
    """
    path = folder / "metrics.jsonl"
    records = read_lines(path, "the metrics of a run")
    steps = [record for record in records if "loss" in record]
    if not steps:
        raise InputError(f"{path}: no step is finished yet")
    unit = "meta step" if is_meta else "update"
    found = [_curves(steps, path, unit)]
    if is_meta:
        found.append(_draws(steps, path))
    updates = [record for record in records if "rewards" in record]
    if updates:
        found.append(_sampler(folder, read_curves(path)))
    evaluations = [record for record in records if "dev" in record]
    found += [_dev(evaluations, path, unit)] if evaluations else []
    found.append(_time(steps, updates, evaluations, path))
    if (folder / "cost.json").exists():
        found.append(_memory(folder / "cost.json"))
    last = steps[-1]
    facts = [
        (f"{unit}s finished", f"{number_at(last, 'step', path=path):,.0f}"),
        ("last loss (nats)", f"{number_at(last, 'loss', path=path):.3f}"),
        ("|θ - θ₀|", f"{number_at(last, 'distance', path=path):.3g}"),
    ]
    if evaluations:
        means = [statistics.fmean(each.values()) for each in _headlines(evaluations[-1:], path)]
        facts.append(("mean dev score (%)", percent(means[-1])))
    return found, facts


def _curves(steps: Sequence[Record], path: Path, unit: str) -> Section:
    """Loss, of all and by task; learning rate, distance, tokens per second."""
    by_task: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for record in steps:
        losses: dict[str, list[float]] = defaultdict(list)
        for slot in record.get("slots", []):
            losses[slot["tlp"].partition("_")[0]].append(number_at(slot, "loss", path=path))
        for name in record.get("losses", {}):
            losses[name.partition("_")[0]].append(number_at(record, "losses", name, path=path))
        for task, values in losses.items():
            by_task[task].append((record["step"], statistics.fmean(values)))

    def line(key: str) -> tuple[list[float], list[float]]:
        return thinned([(record["step"], number_at(record, key, path=path)) for record in steps])

    speed = [(record["step"], record["tokens"] / max(record["seconds"], 1e-9)) for record in steps]
    panels = {
        "loss (nats)": {"all": line("loss")},
        "loss by task (nats)": {task: thinned(pairs) for task, pairs in sorted(by_task.items())},
        "learning rate": {"lr": line("lr")},
        "|θ - θ₀|": {"distance": line("distance")},
        "tokens per second": {"tokens": thinned(speed)},
    }
    figure = figures.curves_figure({title: each for title, each in panels.items() if each}, unit)
    caption = f"over the {unit}s; each point is the mean of those since the last"
    return section("Curves", shown=[drawn(figure, caption)])


def thinned(pairs: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    """x and y of at most _POINTS points, each the last x and the mean y of neighbours."""
    width = -(-len(pairs) // _POINTS)
    groups = [pairs[i : i + width] for i in range(0, len(pairs), width)]
    return [g[-1][0] for g in groups], [statistics.fmean(y for _, y in g) for g in groups]


def drawn(figure: Any, caption: str) -> dict[str, Any]:
    """The picture of a figure, which is closed."""
    svg = figures.as_svg(figure)
    figures.close(figure)
    return picture(svg, caption)


def _draws(steps: Sequence[Record], path: Path) -> Section:
    """What was drawn how often, and its losses."""
    slots: dict[TLP, list[Record]] = defaultdict(list)
    for record in steps:
        for slot in record.get("slots", []):
            slots[TLP.parse(slot["tlp"])].append(slot)
    total = sum(map(len, slots.values()))
    rows = []
    for tlp in Grid.of(slots).tlps:
        own = slots[tlp]
        part = max(1, len(own) // 10)
        losses = [number_at(slot, "loss", path=path) for slot in own]
        rows.append(
            [
                str(tlp),
                f"{len(own):,}",
                percent(len(own) / total),
                f"{statistics.fmean(losses[:part]):.3f}",
                f"{statistics.fmean(losses[-part:]):.3f}",
                percent(statistics.fmean(number_at(s, "clipped", path=path) for s in own)),
                f"{sum(number_at(s, 'tokens', path=path) for s in own):,.0f}",
            ]
        )
    head = ["pair", "slots", "share (%)", "loss, first tenth", "loss, last tenth"]
    return section("What was drawn", Sheet("", [*head, "clipped steps (%)", "tokens"], rows))


def _sampler(folder: Path, curves: Curves) -> Section:
    figure = figures.sampler_figure([(folder.resolve().name, [curves])])
    rows = [
        [
            str(tlp),
            percent(curves.p[tlp][0]),
            percent(curves.p[tlp][-1]),
            plain(statistics.fmean(curves.rewards[tlp])),
            plain(curves.rewards[tlp][-1]),
        ]
        for tlp in curves.p
    ]
    head = ["pair", "p at first (%)", "p at last (%)", "mean reward", "last reward"]
    caption = "psi or probability (above) and rewards (below), after each update of the sampler"
    return section("Sampler", Sheet("", head, rows), shown=[drawn(figure, caption)])


def _dev(evaluations: Sequence[Record], path: Path, unit: str) -> Section:
    headlines = _headlines(evaluations, path)
    last = evaluations[-1]["dev"]
    rows = []
    for name, value in headlines[-1].items():
        task = TLP.parse(name).task
        second = SECOND.get(task, "macro_f1")
        known = isinstance(last[name].get(second), (int, float))
        rows.append(
            [
                name,
                f"{TASKS[task].metric} {percent(value)}",
                f"{second} {percent(last[name][second])}" if known else "-",
                f"{number_at(last, name, 'examples', path=path):,.0f}",
            ]
        )
    sheet = Sheet("Last evaluation", ["pair", "score", "second metric", "examples"], rows)
    shown = []
    if len(evaluations) > 1:
        x = [record["step"] for record in evaluations]
        of_task: dict[str, dict[str, Any]] = defaultdict(dict)
        for name in headlines[-1]:
            y = [100 * each.get(name, float("nan")) for each in headlines]
            of_task[f"{name.partition('_')[0]} (%)"][name] = (x, y)
        shown = [drawn(figures.curves_figure(of_task, unit), "dev scores, by task")]
    return section("Dev scores", sheet, shown=shown)


def _headlines(evaluations: Sequence[Record], path: Path) -> list[dict[str, float]]:
    return [
        {
            name: number_at(each["dev"], name, TASKS[TLP.parse(name).task].metric, path=path)
            for name in each["dev"]
        }
        for each in evaluations
    ]


def _time(
    steps: Sequence[Record], updates: Sequence[Record], evaluations: Sequence[Record], path: Path
) -> Section:
    return section(
        "Time",
        time_sheet({"training": steps, "rewards": updates, "dev scores": evaluations}, path),
        text=["Loading, checkpoints and exports are not in these seconds."],
    )


def time_sheet(parts: Mapping[str, Sequence[Record]], path: Path) -> Sheet:
    """Seconds and shares of what a run did."""
    seconds = {
        name: sum(number_at(record, "seconds", path=path) for record in records)
        for name, records in parts.items()
        if records
    }
    total = sum(seconds.values())
    rows = [
        [name, str(len(parts[name])), duration(spent), percent(spent / total if total else 0.0)]
        for name, spent in seconds.items()
    ]
    return Sheet("", ["part", "times", "time", "share (%)"], rows)


def _memory(path: Path) -> Section:
    """The bytes of cost.json."""
    cost = read_json(path, "what a run holds and sends")
    parts = {name: number_at(cost, "memory", name, path=path) for name in cost.get("memory", {})}
    total = sum(parts.values())
    rows = [[name, size(n), percent(n / total)] for name, n in parts.items()]
    rows.append(["all", size(total), percent(1.0)])
    sent = number_at(cost, "communication", path=path)
    text = [
        f"Per process, activations left out; {number_at(cost, 'parameters', path=path):,.0f} "
        f"parameters. Sent in a meta step: {size(sent)}."
    ]
    return section("Memory", Sheet("", ["part", "bytes", "share (%)"], rows), text=text)


def size(number: float) -> str:
    """`1.5 GB`, in powers of 1000."""
    for unit in ("B", "kB", "MB"):
        if number < 1000:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.3g} GB"
