"""The tables of what was measured. Knows no model and no file."""

from __future__ import annotations

from typing import Any

from results_file import page, table

from meta_step.kernel_share import KERNELS, WHOLE

MIB = 2**20


def times_table(results: dict[str, Any]) -> list[str]:
    rows = [
        [
            name,
            *(f"{value:.3f}" for value in entry["seconds"]),
            f"{entry['tokens_per_second']:,.0f}",
            *(f"{value:.3f}" for value in entry["to_floor"]),
        ]
        for name, entry in results["variants"].items()
    ]
    head = ["variant", "p20 s", "p50 s", "p80 s", "tokens/s", "/floor p20", "p50", "p80"]
    return table(head, rows)


def memory_table(results: dict[str, Any]) -> list[str]:
    """Measured peaks, and what the formula says lies in flat vectors, without activations."""
    floor, rows = results["memory"]["floor"], []
    for name, entry in results["memory"].items():
        over = (entry["grown"] - floor["grown"]) / results["num_parameters"]
        formula = entry["formula"]
        rows.append(
            [
                name,
                f"{entry['grown'] / MIB:,.0f}",
                f"{over:+.1f}",
                f"{formula} P" if formula else "",
                f"{formula - floor['formula']:+d}" if formula else "",
            ]
        )
    return table(
        ["variant", "peak MiB", "over floor, B/parameter", "formula", "over floor, formula"], rows
    )


def breakdown_table(parts: dict[str, tuple[float, float]]) -> list[str]:
    floor = parts["whole step"][1]
    rows = [
        [name, f"{1000 * ours:.1f}", f"{1000 * other:.1f}", f"{100 * (ours - other) / floor:+.2f}"]
        for name, (ours, other) in parts.items()
        if not name.startswith(tuple(f"{kernel}, " for kernel in KERNELS))
    ]
    return table(["part of a meta step", "ours ms", "floor ms", "% of floor"], rows)


def kernels_table(breakdown: dict[str, dict[str, tuple[float, float]]]) -> list[str]:
    """Each kernel's share of the whole meta step, by setting and vector."""
    rows = []
    for setting, parts in breakdown.items():
        whole = parts["whole step"][0]
        for kernel in KERNELS:
            found = {
                name: ours for name, (ours, _) in parts.items() if name.startswith(f"{kernel}, ")
            }
            for name, seconds in [*found.items(), (f"{kernel}, in all", sum(found.values()))]:
                rows.append([setting, name, f"{1000 * seconds:.1f}", f"{seconds / whole:.2%}"])
    return table(["setting", "kernel, vector", "ms", "of the meta step"], rows)


def reward_table(parts: dict[str, float]) -> list[str]:
    """Parts of a reward update, the kernels among them."""
    rows = [
        [name, f"{1000 * seconds:.1f}", f"{seconds / parts[WHOLE]:.2%}"]
        for name, seconds in parts.items()
    ]
    return table(["part of a reward update", "ms", "of the update"], rows)


def exact_lines(results: dict[str, Any]) -> list[str]:
    cost = results["cost_of_exact"]
    exact, fp32, whole = cost["exact"], cost["fp32"], cost["whole step"]
    return [
        f"- scales, accumulate_delta_ and apply_delta_ under average: {1000 * exact:.0f} ms exact, "
        f"{1000 * fp32:.0f} ms fp32, in a step of {1000 * whole:,.0f} ms: "
        f"{100 * cost['share']:.2f} % of the step"
    ]


def markdown(results: dict[str, Any]) -> str:
    """The results file."""
    facts = [
        *(f"{key}: {value}" for key, value in results["machine"].items()),
        f"model: {results['num_parameters']:,} parameters",
        f"queue: {results['queue']}, k = {results['k']}; {results['rounds']} rounds, interleaved",
        f"agreement with the naive way after a step: {results['agreement']}",
    ]
    title = f"Meta step, {results['machine']['device']}"
    return page(title, results["command"], facts, sections(results))


def sections(results: dict[str, Any]) -> list[tuple[str, list[str]]]:
    """Title and lines of every part that was measured."""
    found = [("Time of a meta step; ratios are taken within a round", times_table(results))]
    found.append(("Ratios (p20, p50, p80)", [f"- {line}" for line in results["ratios"]]))
    if results.get("cost_of_exact"):
        found.append(("What exact adds, by the parts that differ", exact_lines(results)))
    if results.get("memory"):
        found.append(("Peak memory above the start", memory_table(results)))
    if results.get("breakdown"):
        found.append(("What the kernels take of a meta step", kernels_table(results["breakdown"])))
    if results.get("reward_update"):
        num = results["pairs"]
        title = f"What the kernels take of a reward update (n = d = {num}, quickest)"
        found.append((title, reward_table(results["reward_update"])))
    for name, parts in results.get("breakdown", {}).items():
        found.append((f"Where the time goes ({name}; quickest step)", breakdown_table(parts)))
    if results.get("ranks"):
        found.append(("Over ranks", [f"- {line}" for line in results["ranks"]]))
    return found


def show(results: dict[str, Any]) -> None:
    for title, body in sections(results):
        print("\n".join(["", title, *body]))
