"""What more ranks cost and give: placements on several processes, and a simulation of many.

    python benchmarks/bench_scaling.py --data-dir DATA --model ENCODER --output RESULTS.md

Without --data-dir or --data hub it measures the demo. Each placement runs in worlds of processes of
its own: seconds, bytes sent as counted from the collectives, peak memory. No figure is reported of
a world whose losses are not those of the first. Then the seconds of each TLP's episode on one
process say how many ranks the paper's grid keeps busy.
T: TLP groups; R: ranks per TLP; m: slots; k: inner steps.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from meta_step.workload import Workload, build_workload
from results_file import check_output, machine, save, without_paths
from scaling.rank import measure_costs, measure_world
from scaling.report import markdown
from scaling.simulate import Costs, Draw, simulate
from scaling.worlds import World, chosen_worlds, run_world

from metatlp.engine.arguments.command_line import parse_flags, run_script
from metatlp.engine.arguments.data import DataArguments
from metatlp.engine.arguments.flags import at_least, flag
from metatlp.engine.arguments.meta import MetaArguments
from metatlp.engine.arguments.presets import preset_defaults
from metatlp.engine.demo import build_demo, demo_lines
from metatlp.engine.placement import Placement
from metatlp.engine.placement import start as start_process
from metatlp.errors import InputError
from metatlp.grid import PAPER_SIZES, TLP
from metatlp.sampling import build_sampler

SPREAD = "qa_en,nli_en,nli_de,pa_en,pos_en,pos_hi,ner_en,ner_es"
# Where these differ from train_meta.py's and from those of its preset for the data.
DATA_DEFAULTS = {"selection": SPREAD, "train_languages": "all", "max_examples": 2000}
QUICK = {
    "selection": "pos_en,ner_en",
    "batch_size": "4",
    "k": 2,
    "repeats": 2,
    "worlds": "replicated:1x1,fsdp2:1x2",
    "simulated_steps": 5,
}
# Of a loss (nats): float32 sums in another order, through the AdamW steps of all rounds.
TOLERANCE = 1e-3


@dataclass(frozen=True)
class BenchArguments:
    """What is measured, besides the flags of the data, which are train_meta.py's."""

    model: str | None = flag("encoder: a hub id or a folder [default on the demo: its own]")
    worlds: str = flag("PLACEMENT:TxR, several with commas, e.g. replicated:2x1,zero3:2x2", "all")
    m: int | None = flag("slots per meta step; one per selected TLP if not given")
    k: int = flag("inner steps per slot", 3)
    reduce: str = flag("as train_meta.py's", MetaArguments.reduce, choices=("exact", "fp32"))
    repeats: int = flag("measured meta steps", 7)
    warmup: int = flag("meta steps before them", 2)
    threads: int = flag("threads of each process", 1)
    tau: float = flag("temperature of the simulated sampler", 2.0)
    simulated_steps: int = flag("meta steps that are drawn for each number of slots", 200)
    bandwidth: float = flag("of the simulated ranks, in GB/s that each can send", 10.0)
    quick: bool = flag("two small slots, two worlds, one in this process: does it run?", False)
    output: str | None = flag("write this Markdown file, and a JSON file beside it")
    part: str = flag("used by the script itself: all, or WHAT=WORLD=FILE", "all")

    def __post_init__(self) -> None:
        at_least(1, self, "m", "k", "repeats", "threads", "simulated_steps")
        at_least(0, self, "warmup")
        for name in ("tau", "bandwidth"):
            if not getattr(self, name) > 0:
                raise InputError(f"--{name} {getattr(self, name)}: must be positive")


def main(argv: Sequence[str]) -> int:
    description = (__doc__ or "").splitlines()[0]
    data, arguments = parse_flags((DataArguments, BenchArguments), defaults, description, argv)
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as folder:
        if arguments.part == "all":
            measure_all(data, arguments, argv, folder)
        else:
            measure_part(data, arguments, folder)
    return 0


def defaults(given: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the data are the preset's, but for a few."""
    names = {field.name for field in dataclasses.fields(DataArguments)}
    preset = {name: v for name, v in preset_defaults(given).items() if name in names}
    return {**preset, **DATA_DEFAULTS, **(QUICK if given.get("quick") else {})}


def log_line(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def measure_part(data: DataArguments, arguments: BenchArguments, folder: str) -> None:
    """What a process of a world does. Every rank takes part."""
    what, world, file = arguments.part.split("=", 2)
    placement = start_process("none", folder)
    warmup, rounds = arguments.warmup, arguments.warmup + arguments.repeats
    found: Any
    if what == "costs":
        work = prepare(grid_of_costs(data, arguments), arguments, None, rounds, placement)
        found = measure_costs(work, arguments.reduce, warmup)
    else:
        work = prepare(data, arguments, arguments.m, rounds + 1, placement)
        ranks_per_tlp = World.parse(world).ranks_per_tlp
        found = measure_world(work, arguments.reduce, ranks_per_tlp, warmup)
    if placement.is_main:
        Path(file).write_text(json.dumps(found))


def grid_of_costs(data: DataArguments, arguments: BenchArguments) -> DataArguments:
    """The paper's grid, as far as there is data."""
    if arguments.quick:
        return data
    return dataclasses.replace(data, selection="all", train_languages="paper")


def prepare(
    data: DataArguments,
    arguments: BenchArguments,
    m: int | None,
    num_steps: int,
    placement: Placement,
) -> Workload:
    """Every rank takes part."""
    meta = MetaArguments(model=arguments.model)
    if data.source == "demo":
        meta = build_demo(data, meta, placement, log_line)
    assert meta.model is not None
    return build_workload(data, meta.model, m, arguments.k, num_steps, placement)


def measure_all(
    data: DataArguments, arguments: BenchArguments, argv: Sequence[str], folder: str
) -> None:
    """The worlds one after another; what was measured is kept if a later one fails."""
    output, worlds = check_output(arguments.output), chosen_worlds(arguments.worlds)
    if data.source == "demo":
        for line in demo_lines(data, MetaArguments(model=arguments.model), {}, ""):
            print(line, flush=True)
    results: dict[str, Any] = {
        "command": "python benchmarks/bench_scaling.py " + " ".join(without_paths(argv)),
        "machine": machine(torch.device("cuda" if torch.cuda.is_available() else "cpu")),
        "settings": settings(data, arguments),
        "worlds": {},
    }

    def measure(what: str, world: World) -> Any:
        file = Path(folder) / f"{what}-{world.placement}-{world.shape}.json"
        part = f"{what}={world}={file}"
        log_line(f"{what} {world}")
        if arguments.quick and world.num_processes == 1:
            # Most of a process's seconds would be imports.
            measure_part(data, dataclasses.replace(arguments, part=part), folder)
            return json.loads(file.read_text())
        return run_world(world, __file__, argv, part, file, arguments.threads)

    for world in worlds:
        results["worlds"][str(world)] = measure("world", world)
        results["settings"] |= facts(results["worlds"])
        save(output, markdown(results), results)
    results["costs"] = measure("costs", World("replicated", 1, 1))
    results |= simulated(results["costs"], arguments)
    save(output, markdown(results), results)
    print(markdown(results))


def settings(data: DataArguments, arguments: BenchArguments) -> dict[str, Any]:
    """What the figures hang on, besides the machine."""
    rounds = f"{arguments.repeats} meta steps after {arguments.warmup}, then one that is counted"
    packages = ("accelerate", "deepspeed")
    return {
        "cores": os.cpu_count(),
        **{name: version(name) for name in packages if find_spec(name)},
        "threads per process": arguments.threads,
        "selection": data.selection,
        "steps": f"k = {arguments.k}, --reduce {arguments.reduce}, no dropout; {rounds}",
        "simulation": f"tau {arguments.tau:g}, {arguments.simulated_steps} drawn meta steps, "
        f"{arguments.bandwidth:g} GB/s",
    }


def facts(worlds: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """Size of the model, and how far the worlds' losses are apart.

    Raises:
        InputError: too far.
    """
    losses = {name: losses_of(ranks) for name, ranks in worlds.items()}
    first = next(iter(losses.values()))
    apart = {
        name: max(abs(found[slot] - first[slot]) for slot in first)
        for name, found in losses.items()
    }
    worst = max(apart, key=lambda name: apart[name])
    if not apart[worst] <= TOLERANCE:
        raise InputError(f"{worst}: losses are off by {apart[worst]:.2g}, so no figures")
    (num_parameters,) = {rank["num_parameters"] for ranks in worlds.values() for rank in ranks}
    return {
        "model": f"{num_parameters:,} parameters",
        "slots": len(first),
        "agreement": f"losses of the last meta step differ by {apart[worst]:.1g} nats at most",
    }


def losses_of(ranks: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Slot -> its mean loss, whichever rank had it."""
    return {slot: loss for rank in ranks for slot, loss in rank["losses"].items()}


def simulated(measured: Mapping[str, Any], arguments: BenchArguments) -> dict[str, Any]:
    """The simulation of what was measured, and the probabilities that it drew by."""
    names = list(measured["seconds"])
    sizes = [PAPER_SIZES[TLP.parse(name)] for name in names]
    sampler = build_sampler("temp", sizes, seed=0, tau=arguments.tau)
    steps, bandwidth = arguments.simulated_steps, 1e9 * arguments.bandwidth
    seconds, tokens = ([measured[kind][name] for name in names] for kind in ("seconds", "tokens"))
    costs = Costs(seconds, tokens, measured["rest"], measured["payload"], bandwidth)
    draw: Draw = cache(lambda m: [sampler.draw(step, m) for step in range(steps)])
    probabilities = dict(zip(names, map(float, sampler.probs()), strict=True))
    return {
        "costs": {**measured, "probabilities": probabilities},
        "simulation": simulate(draw, costs),
    }


if __name__ == "__main__":
    run_script(main)
