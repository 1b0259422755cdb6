"""The tables of what was measured and simulated. Knows no model and no process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from meta_step.measure import quantiles
from results_file import page, table

from scaling.simulate import AIM, IN_TURN, SLOTS, TOKENS, WAYS
from scaling.worlds import World

MIB, MB = 2**20, 1e6
# When memory is looked at.
_MOMENTS = ("between", "stepping", "building")

Ranks = Sequence[Mapping[str, Any]]


def markdown(results: Mapping[str, Any]) -> str:
    """The results file."""
    facts = [f"{name}: {value}" for name, value in results["machine"].items()]
    facts += [f"{name}: {value}" for name, value in results["settings"].items()]
    return page("Scaling", results["command"], facts, sections(results))


def sections(results: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    """Title and lines of every part that is there."""
    worlds = results["worlds"]
    found = [
        ("Seconds of a meta step", times_table(worlds)),
        ("Memory of a rank, bytes per parameter of the model", memory_table(worlds)),
        ("MB of a meta step, of the rank that sends most", bytes_table(worlds)),
        ("Collectives of a meta step, of the first rank", collectives_table(worlds)),
    ]
    if results.get("simulation"):
        title = f"Simulated efficiency, {TOKENS} / {IN_TURN}, by ranks and slots (m)"
        found.append((title, efficiency_table(results["simulation"])))
        title = f"The fewest slots (m) for {AIM:.0%} efficiency"
        found.append((title, enough_table(results["simulation"])))
        title = "What it was simulated from: an episode on one process"
        found.append((title, costs_table(results["costs"])))
    return found


def times_table(worlds: Mapping[str, Ranks]) -> list[str]:
    """A round is as long as on its slowest rank."""
    rows = []
    for name, ranks in worlds.items():
        rounds = [max(each) for each in zip(*(rank["seconds"] for rank in ranks), strict=True)]
        rows.append([*_names(name), *(f"{value:.3f}" for value in quantiles(rounds))])
    return table(["placement", "T x R", "p20 s", "p50 s", "p80 s"], rows)


def memory_table(worlds: Mapping[str, Ranks]) -> list[str]:
    """Of the rank that holds most; the formula is cost.py's, without activations."""
    rows = []
    for name, ranks in worlds.items():
        most = max(ranks, key=lambda rank: rank["grown"]["between"])
        held = [most["formula_memory"], *(most["grown"][at] for at in _MOMENTS)]
        per = (f"{value / most['num_parameters']:.1f}" for value in held)
        rows.append([*_names(name), *per, f"{most['peak'] / MIB:,.0f}"])
    return table(["placement", "T x R", "formula", *_MOMENTS, "peak MiB"], rows)


def bytes_table(worlds: Mapping[str, Ranks]) -> list[str]:
    """The formulas are cost.py's, of the bytes put into all-reduces."""
    rows = []
    for name, ranks in worlds.items():
        if len(ranks) == 1:
            continue
        most = max(ranks, key=lambda rank: sum(rank["sent"].values()))
        per_step = most["sent"]["within"] / most["num_parameters"] / (most["inner_steps"] or 1)
        across, formula = most["put_in"]["across"], most["formula"]["across"]
        rows.append(
            [
                *_names(name),
                _mb(most["sent"]["within"]),
                f"{per_step:.2f}" if per_step else "",
                _mb(most["sent"]["across"]),
                _mb(across),
                _mb(formula),
                f"{across / formula - 1:+.3%}" if formula else "",
                _mb(most["put_in"]["within"]) if most["formula"]["within"] else "",
                _mb(most["formula"]["within"] or 0),
            ]
        )
    head = ["placement", "T x R", "sent within", "B/parameter, inner step", "sent across"]
    head += ["put in across", "formula across", "off", "put in within", "formula within"]
    return table(head, rows)


def collectives_table(worlds: Mapping[str, Ranks]) -> list[str]:
    rows = [
        [
            *_names(name),
            row["where"],
            row["operator"].strip("_"),
            str(row["calls"]),
            _mb(row["whole"]),
            _mb(row["sent"]),
        ]
        for name, ranks in worlds.items()
        for row in ranks[0]["collectives"]
    ]
    return table(["placement", "T x R", "where", "operator", "calls", "whole MB", "sent MB"], rows)


def efficiency_table(simulation: Sequence[Mapping[str, Any]]) -> list[str]:
    rows = []
    for entry in simulation:
        ways = [entry["efficiency"][way] for way in (TOKENS, IN_TURN)]
        cells = [" / ".join(f"{100 * way[m]:.0f}" for way in ways) for m in SLOTS]
        rows.append([str(entry["world"]), f"{1000 * entry['all_reduce']:.1f}", *cells])
    return table(["ranks", "all-reduce ms", *(f"m = {m}, %" for m in SLOTS)], rows)


def enough_table(simulation: Sequence[Mapping[str, Any]]) -> list[str]:
    rows = []
    for entry in simulation:
        found = [entry["enough"][way] for way in WAYS]
        cells = [f"{each[0]} ({each[1]:.0%})" if each else "none tried" for each in found]
        rows.append([str(entry["world"]), *cells])
    return table(["ranks", *WAYS], rows)


def costs_table(costs: Mapping[str, Any]) -> list[str]:
    """Time per token says how good a measure of cost the tokens are."""
    rows = []
    for name, seconds in costs["seconds"].items():
        tokens, share = costs["tokens"][name], costs["probabilities"][name]
        cells = [f"{1000 * seconds:.1f}", f"{tokens:,.0f}", f"{1e6 * seconds / tokens:.1f}"]
        rows.append([name, *cells, f"{share:.3f}"])
    rest, put_in = 1000 * costs["rest"], costs["payload"] / MB
    return [
        *table(["TLP", "ms", "expected tokens", "us per token", "probability"], rows),
        "",
        f"- a meta step adds {rest:.1f} ms to its slots; {put_in:,.1f} MB go into all-reduces",
    ]


def _names(name: str) -> list[str]:
    world = World.parse(name)
    return [world.title, world.shape]


def _mb(num_bytes: float) -> str:
    return f"{num_bytes / MB:,.3f}" if num_bytes else ""
