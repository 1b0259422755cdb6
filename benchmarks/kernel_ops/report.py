"""Tables and a bar chart of what was measured. Knows no tensor."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from results_file import page, table

from kernel_ops.adamw import MUL, SCALED
from kernel_ops.cases import COMPILED, EAGER, FOREACH, OURS, PUBLISHED
from kernel_ops.measure import COPY, paired_ratio, quantiles
from metatlp.errors import InputError

# Of the project, for one H200.
AIMS = {COPY: 0.92, EAGER: 1.8, PUBLISHED: 4.0}
OTHERS = {
    EAGER: "(a) eager",
    FOREACH: "(b) foreach",
    PUBLISHED: "(c) loop",
    COMPILED: "(d) compile",
}
COLOURS = {OURS: "C0", EAGER: "C1", FOREACH: "C2", PUBLISHED: "C3", COMPILED: "C4"}

Entry = dict[str, Any]


def summary(num_bytes: int, seconds: dict[str, list[float]]) -> dict[str, Any]:
    """Quantiles in seconds, and what they mean; ratios are taken within a round.

    Args:
        num_bytes: what the operation must move; the first way of `seconds` is judged by it.
    """
    ours = seconds[next(iter(seconds))]
    return {
        "p20_p50_p80": {way: quantiles(values) for way, values in seconds.items()},
        "gb_per_s": num_bytes / quantiles(ours)[1] / 1e9,
        "speed_up": {
            way: paired_ratio(values, ours) for way, values in seconds.items() if values is not ours
        },
    }


def of_copy(entry: Entry) -> float:
    """Share of the bandwidth of the copy in the same rounds (p50)."""
    share: float = entry["speed_up"][COPY][1] * entry["num_bytes"] / entry["copied_bytes"]
    return share


def sections(results: dict[str, Any]) -> list[tuple[str, list[str]]]:
    found = []
    for (model, parameters, dtype), entries in groups(results).items():
        rows = [_row(entry) for entry in entries if entry["op"] != "adamw"]
        title = f"{model}, P = {parameters:,}, {dtype}"
        if rows:
            found.append((title, table(_head(), rows)))
            found.append((f"{title}: p50 of every way, ms", _times(entries)))
            found.append((f"{title}: bytes per element of P that must move", _traffic(entries)))
    adamw = list(_adamw(results["measured"]))
    if adamw:
        head = ["P", "way", "p20 ms", "p50", "p80", f"times as fast as {SCALED}"]
        found.append(("An inner step's clip and AdamW, fp32", table(head, adamw)))
    return found


def groups(results: dict[str, Any]) -> dict[tuple[str, int, str], list[Entry]]:
    found: dict[tuple[str, int, str], list[Entry]] = {}
    for entry in results["measured"]:
        key = (entry["model"], entry["parameters"], entry["dtype"])
        found.setdefault(key, []).append(entry)
    return found


def _head() -> list[str]:
    others = [
        f"{label}, aim {AIMS[way]:g}x" if way in AIMS else label for way, label in OTHERS.items()
    ]
    head = ["operation", "p20 ms", "p50", "p80", "GB/s"]
    return [*head, f"of copy_, aim {AIMS[COPY]:.0%}", *others]


def _row(entry: Entry) -> list[str]:
    name = f"{entry['op']}, {entry['form']}"
    if "seconds" not in entry:
        return [name, f"left out: {entry['left_out'][OURS]}", *[""] * (len(_head()) - 2)]
    share = of_copy(entry)
    return [
        name,
        *(f"{1000 * value:.2f}" for value in entry["p20_p50_p80"][OURS]),
        f"{entry['gb_per_s']:.1f}",
        f"{share:.0%} {_met(share, COPY)}",
        *(_speed_up(entry, way) for way in OTHERS),
    ]


def _speed_up(entry: Entry, way: str) -> str:
    if way in entry["left_out"]:
        return f"left out: {entry['left_out'][way]}"
    if way not in entry["speed_up"]:
        return "-"
    ratio = entry["speed_up"][way][1]
    return f"{ratio:.2f}x {_met(ratio, way)}".strip()


def _met(value: float, aim: str) -> str:
    if aim not in AIMS:
        return ""
    return "met" if value >= AIMS[aim] else "not met"


def _times(entries: list[Entry]) -> list[str]:
    ways = [OURS, *OTHERS, COPY]
    rows = []
    for entry in entries:
        if entry["op"] == "adamw" or "seconds" not in entry:
            continue
        times = entry["p20_p50_p80"]
        cells = [f"{1000 * times[way][1]:.2f}" if way in times else "-" for way in ways]
        rows.append([f"{entry['op']}, {entry['form']}", *cells])
    return table(["operation", OURS, *OTHERS.values(), COPY], rows)


def _traffic(entries: list[Entry]) -> list[str]:
    return [f"- {e['op']}, {e['form']}: {e['bytes_per_element']}: {e['traffic']}" for e in entries]


def _adamw(measured: list[Entry]) -> Iterator[list[str]]:
    for entry in measured:
        if entry["op"] != "adamw":
            continue
        name = f"{entry['model']}, {entry['parameters']:,}"
        if "seconds" not in entry:
            yield [name, f"left out: {entry['left_out'][MUL]}", *[""] * 4]
            continue
        seconds = entry["seconds"]
        for way, times in entry["p20_p50_p80"].items():
            if way != COPY:
                ratio = paired_ratio(seconds[SCALED], seconds[way])[1]
                yield [name, way, *(f"{1000 * t:.2f}" for t in times), f"{ratio:.2f}x"]


def markdown(results: dict[str, Any]) -> str:
    """The results file."""
    facts = [
        f"measured: {results['path']}",
        *(f"{key}: {value}" for key, value in results["machine"].items()),
        f"{results['rounds']} rounds after {results['warmup']} more, all ways in turn in each; "
        "ratios are the median of those within a round",
        "every operation agreed with float64 at the measured size before anything was timed",
        "bf16: the model (or its gradients) in bfloat16, what slots start from in float32",
        "GB/s: the bytes per element that must move, each counted once, over p50; copy_ reads and "
        "writes as many, or a tenth of the free memory",
    ]
    title = f"Operations on flat vectors, {results['machine']['device']}"
    return page(title, results["command"], facts, sections(results))


def matplotlib_figure() -> Any:
    """matplotlib's class Figure. Raises InputError where it is not installed."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise InputError("--output draws a bar chart: pip install matplotlib") from error
    return Figure


def draw(results: dict[str, Any], file: Path) -> None:
    """Bars of GB/s (bytes that must move over p50), a row of bars per model and precision."""
    shown = {
        key: [e for e in entries if e["op"] != "adamw" and "seconds" in e]
        for key, entries in groups(results).items()
    }
    shown = {key: entries for key, entries in shown.items() if entries}
    if not shown:
        return
    figure = matplotlib_figure()(figsize=(15, 4.5 * len(shown)), layout="constrained")
    axes = figure.subplots(len(shown), squeeze=False)[:, 0]
    for axis, ((model, parameters, dtype), entries) in zip(axes, shown.items(), strict=True):
        _bars(axis, entries)
        axis.set_title(f"{model}, P = {parameters:,}, {dtype}; {results['machine']['device']}")
    figure.savefig(file, dpi=110)


def _bars(axis: Any, entries: list[Entry]) -> None:
    ways = [way for way in COLOURS if any(way in entry["seconds"] for entry in entries)]
    width = 0.8 / len(ways)
    for place, way in enumerate(ways):
        there = [(i, e) for i, e in enumerate(entries) if way in e["seconds"]]
        heights = [e["num_bytes"] / e["p20_p50_p80"][way][1] / 1e9 for _, e in there]
        at = [i + (place - (len(ways) - 1) / 2) * width for i, _ in there]
        axis.bar(at, heights, width, label=OTHERS.get(way, way), color=COLOURS[way])
    for i, entry in enumerate(entries):
        copy = entry["copied_bytes"] / entry["p20_p50_p80"][COPY][1] / 1e9
        axis.hlines(copy, i - 0.45, i + 0.45, "black", label=COPY if i == 0 else None)
    axis.set_xticks(range(len(entries)), [f"{e['op']}\n{e['form']}" for e in entries], fontsize=7)
    axis.set_ylabel("GB/s")
    axis.legend(fontsize=8)
