"""What a meta step costs beside the floor (its bare passes) and beside the naive way.

    python benchmarks/bench_meta_step.py --data-dir DATA --model ENCODER --output RESULTS.md

Without --data-dir or --data hub it measures the demo. Refuses to report times unless ours and the
naive way agree on theta after a step.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from meta_step.kernel_share import reward_update
from meta_step.measure import (
    breakdown,
    cost_of_exact,
    interleaved,
    memory,
    over_ranks,
    paired_ratio,
    quantiles,
)
from meta_step.report import markdown, show
from meta_step.variants import Floor, Ours, Variant, agreement, builders
from meta_step.workload import Workload, build_workload
from results_file import check_output, machine, save, without_paths

from metatlp.engine.arguments.command_line import parse_flags, run_script
from metatlp.engine.arguments.data import DataArguments
from metatlp.engine.arguments.flags import at_least, flag
from metatlp.engine.arguments.meta import MetaArguments
from metatlp.engine.arguments.presets import preset_defaults
from metatlp.engine.averaging import AveragingConfig
from metatlp.engine.cost import Cost
from metatlp.engine.demo import build_demo, demo_lines
from metatlp.engine.placement import Placement
from metatlp.engine.placement import start as start_process
from metatlp.errors import InputError

SPREAD = "qa_en,nli_en,nli_de,pa_en,pos_en,pos_hi,ner_en,ner_es"
# Where these differ from train_meta.py's and from those of its preset for the data.
DATA_DEFAULTS = {"selection": SPREAD, "train_languages": "all", "max_examples": 2000}
QUICK = {"selection": "pos_en,ner_en", "batch_size": "8", "k": 2, "repeats": 2}
# Of the step: two orders of summation in float32 (1e-6), through k AdamW steps.
TOLERANCE = 1e-4
# Parameters, gradients and two moments; the naive way adds a clone and a running sum.
FORMULAS = {"floor": 16, "naive": 24}


@dataclass(frozen=True)
class BenchArguments:
    """What is measured, besides the flags of the data, which are train_meta.py's."""

    model: str | None = flag("encoder: a hub id or a folder [default on the demo: its own]")
    m: int | None = flag("slots per meta step; one per selected TLP if not given")
    k: int = flag("inner steps per slot", 3)
    repeats: int = flag("measured rounds; every round runs each variant once", 7)
    warmup: int = flag("rounds before them", 1)
    threads: int | None = flag("threads; with --world they are divided among the processes")
    world: int = flag("also measure on this many processes, through torchrun", 1)
    breakdown: bool = flag("also time the parts of a meta step", False)
    memory: bool = flag("also measure peak memory, a process per variant", False)
    quick: bool = flag("two small slots, two inner steps, two rounds: does it run?", False)
    output: str | None = flag("write this Markdown file, and a JSON file beside it")
    part: str = flag("used by the script itself: all, memory:VARIANT or ranks:FILE", "all")

    def __post_init__(self) -> None:
        at_least(1, self, "m", "k", "repeats", "threads", "world")
        at_least(0, self, "warmup")


def main(argv: Sequence[str]) -> int:
    description = (__doc__ or "").splitlines()[0]
    data, arguments = parse_flags((DataArguments, BenchArguments), defaults, description, argv)
    output = check_output(arguments.output)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    kind, _, value = arguments.part.partition(":")
    if data.source == "demo" and kind == "all":
        for line in demo_lines(data, MetaArguments(model=arguments.model), {}, ""):
            print(line, flush=True)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(data, arguments, start_process("none", folder))
        if kind == "memory":
            print(json.dumps(memory(bench.prepare(2), value)))
        elif kind == "ranks":
            measure_rank(bench, Path(value))
        else:
            measure_all(bench, argv, output, folder)
    return 0


def defaults(given: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the data are the preset's, but for a few."""
    names = {field.name for field in dataclasses.fields(DataArguments)}
    preset = {name: v for name, v in preset_defaults(given).items() if name in names}
    return {**preset, **DATA_DEFAULTS, **(QUICK if given.get("quick") else {})}


@dataclass(frozen=True)
class Bench:
    """The flags, and where this process stands."""

    data: DataArguments
    arguments: BenchArguments
    placement: Placement

    def prepare(self, num_steps: int) -> Workload:
        """Every rank takes part."""
        meta = MetaArguments(model=self.arguments.model)
        if self.data.source == "demo":
            meta = build_demo(self.data, meta, self.placement, log_line)
        assert meta.model is not None
        m, k = self.arguments.m, self.arguments.k
        return build_workload(self.data, meta.model, m, k, num_steps, self.placement)


def log_line(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def measure_all(bench: Bench, argv: Sequence[str], output: Path | None, folder: str) -> None:
    arguments = bench.arguments
    warmup, repeats = arguments.warmup, arguments.repeats
    work = bench.prepare(warmup + repeats)
    agreed = agreement(work)
    if not all(error <= TOLERANCE for error in agreed.values()):
        raise InputError(f"ours and the naive way disagree, so no times: {agreed}")
    results: dict[str, Any] = {
        "command": "python benchmarks/bench_meta_step.py " + " ".join(without_paths(argv)),
        "machine": machine(work.device),
        "queue": " ".join(str(slot.tlp) for slot in work.queues[0]),
        "k": work.inner_steps,
        "rounds": repeats,
        "agreement": {name: float(f"{error:.2g}") for name, error in agreed.items()},
    }
    print(json.dumps(results["machine"]), json.dumps(results["agreement"]), sep="\n", flush=True)
    results |= measure_times(work, repeats, warmup)
    save(output, markdown(results), results)
    if arguments.breakdown:
        settings = [("exact", "average"), ("fp32", "average"), ("exact", "reset")]
        results["breakdown"] = breakdown(work, settings)
        results["cost_of_exact"] = cost_of_exact(results["breakdown"])
        results["reward_update"] = reward_update(work)
        results["pairs"] = len({slot.tlp for slot in work.queues[0]})
        save(output, markdown(results), results)
    if arguments.memory:
        results["memory"] = measure_memory(argv, work, results["num_parameters"])
        save(output, markdown(results), results)
    if arguments.world > 1:
        results["ranks"] = measure_ranks(arguments, argv, Path(folder) / "ranks.json")
        save(output, markdown(results), results)
    show(results)


def measure_times(work: Workload, repeats: int, warmup: int) -> dict[str, Any]:
    """All variants side by side."""
    variants: list[Variant] = [build() for build in builders(work).values()]
    seconds = interleaved(variants, repeats, warmup, work.device)
    tokens = sum(work.tokens(step) for step in range(warmup, warmup + repeats)) / repeats
    for variant in variants:
        if isinstance(variant, Ours):
            variant.loader.close()
    floor = next(v for v in variants if isinstance(v, Floor))
    return {
        "num_parameters": sum(p.numel() for p in floor.model.parameters()),
        "tokens_per_step": tokens,
        "variants": {
            name: {
                "seconds": quantiles(values),
                "tokens_per_second": tokens / quantiles(values)[1],
                "to_floor": paired_ratio(values, seconds["floor"]),
                "all_seconds": values,
            }
            for name, values in seconds.items()
        },
        "ratios": ratio_lines(seconds),
    }


def ratio_lines(seconds: dict[str, list[float]]) -> list[str]:
    lines = []
    for one, other in (
        ("ours, exact, average", "floor"),
        ("ours, fp32, average", "floor"),
        ("naive", "ours, exact, average"),
        ("ours, exact, average", "ours, fp32, average"),
        ("ours, exact, reset", "ours, fp32, reset"),
    ):
        low, middle, high = paired_ratio(seconds[one], seconds[other])
        lines.append(f"{one} / {other}: {low:.3f}, {middle:.3f}, {high:.3f}")
    return lines


def measure_memory(argv: Sequence[str], work: Workload, num_parameters: int) -> dict[str, Any]:
    """Peak of each variant, in a process of its own."""
    found = {}
    for name in builders(work):
        command = [sys.executable, __file__, *argv, "--part", f"memory:{name}"]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        measured = json.loads(output.splitlines()[-1])
        found[name] = {
            "grown": measured["peak"] - measured["before"],
            "formula": formula(name, num_parameters),
        }
    return found


def formula(name: str, num_parameters: int) -> int:
    """Bytes per parameter that the variant holds in long vectors."""
    if name in FORMULAS:
        return FORMULAS[name]
    _, reduce, inner_state = name.split(", ")
    config = AveragingConfig(reduce=reduce, inner_state=inner_state)
    return sum(Cost(num_parameters, config).bytes_per_parameter().values())


def measure_ranks(arguments: BenchArguments, argv: Sequence[str], file: Path) -> list[str]:
    """Run this script on several ranks; returns lines for the report."""
    threads = max(1, torch.get_num_threads() // arguments.world)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += [f"--nproc_per_node={arguments.world}", __file__, *argv]
    command += ["--part", f"ranks:{file}", "--threads", str(threads)]
    subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": str(threads)})
    lines = [f"{arguments.world} ranks, {threads} threads each; p20, p50, p80 in seconds"]
    seconds = json.loads(file.read_text())
    for name, parts in seconds.items():
        for part, values in parts.items():
            lines.append(f"{name}: {part} " + ", ".join(f"{v:.3f}" for v in quantiles(values)))
    exact, fp32 = (parts["step"] for parts in seconds.values())
    ratio = ", ".join(f"{v:.3f}" for v in paired_ratio(exact, fp32))
    return [*lines, f"exact / fp32, whole step: {ratio}"]


def measure_rank(bench: Bench, file: Path) -> None:
    """One rank's part. Every rank takes part."""
    warmup, repeats = bench.arguments.warmup, bench.arguments.repeats
    seconds = over_ranks(bench.prepare(warmup + repeats), repeats, warmup)
    if bench.placement.is_main:
        file.write_text(json.dumps(seconds))


if __name__ == "__main__":
    run_script(main)
