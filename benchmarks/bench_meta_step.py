"""What a meta step costs beside the floor (its bare passes) and beside the naive way.

    python benchmarks/bench_meta_step.py --data-dir DATA --model ENCODER --output RESULTS.md

Refuses to report times unless ours and the naive way agree on theta after a step.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from meta_step.measure import (
    breakdown,
    cost_of_exact,
    interleaved,
    memory,
    over_ranks,
    paired_ratio,
    quantiles,
)
from meta_step.report import machine, save, show
from meta_step.variants import Floor, Ours, Variant, agreement, builders
from meta_step.workload import Workload, build_workload

from metatlp.engine.command_line import parse_flags, run_script
from metatlp.engine.cost import Cost
from metatlp.engine.data_args import DataArguments
from metatlp.engine.flags import at_least, flag
from metatlp.engine.placement import Placement
from metatlp.engine.placement import start as start_process
from metatlp.engine.replicated import AveragingConfig
from metatlp.errors import InputError

SPREAD = "qa_en,nli_en,nli_de,pa_en,pos_en,pos_hi,ner_en,ner_es"
# Of the step: two orders of summation in float32 (1e-6), through k AdamW steps.
TOLERANCE = 1e-4
# Parameters, gradients and two moments; the naive way adds a clone and a running sum.
FORMULAS = {"floor": 16, "naive": 24}


@dataclass(frozen=True)
class BenchArguments:
    """What is measured, on what."""

    data_dir: str | None = flag("folder in XTREME's layout")
    model: str | None = flag("encoder: a hub id or a folder")
    selection: str = flag("TLPs that are the slots, in turn", SPREAD)
    batch_size: str | None = flag("examples per inner batch, as in train_meta.py")
    max_examples: int = flag("use only the first examples of every training file", 2000)
    cache_dir: str | None = flag("folder for encoded examples, as in train_meta.py")
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
        if not self.data_dir or not self.model:
            raise InputError("--data-dir and --model are needed")
        at_least(1, self, "max_examples", "m", "k", "repeats", "threads", "world")
        at_least(0, self, "warmup")

    @property
    def slots(self) -> int:
        return 2 if self.quick else self.m or len(self.selection.split(","))

    @property
    def rounds(self) -> tuple[int, int]:
        """Warm-up and measured rounds."""
        return (1, 2) if self.quick else (self.warmup, self.repeats)

    def data(self) -> DataArguments:
        return DataArguments(
            data_dir=self.data_dir,
            selection="pos_en,ner_en" if self.quick else self.selection,
            train_languages="all",
            batch_size="8" if self.quick else self.batch_size,
            max_examples=self.max_examples,
            cache_dir=self.cache_dir,
        )


def main(argv: Sequence[str]) -> int:
    (arguments,) = parse_flags((BenchArguments,), lambda given: {}, __doc__.splitlines()[0], argv)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as folder:
        placement = start_process("none", folder)
        kind, _, value = arguments.part.partition(":")
        if kind == "memory":
            print(json.dumps(memory(prepare(arguments, placement, 2), value)))
        elif kind == "ranks":
            measure_rank(arguments, placement, Path(value))
        else:
            measure_all(arguments, placement, argv, folder)
    return 0


def prepare(arguments: BenchArguments, placement: Placement, num_steps: int) -> Workload:
    assert arguments.model is not None
    k = 2 if arguments.quick else arguments.k
    return build_workload(
        arguments.data(), arguments.model, arguments.slots, k, num_steps, placement
    )


def measure_all(
    arguments: BenchArguments, placement: Placement, argv: Sequence[str], folder: str
) -> None:
    warmup, repeats = arguments.rounds
    work = prepare(arguments, placement, warmup + repeats)
    agreed = agreement(work)
    if not all(error <= TOLERANCE for error in agreed.values()):
        raise InputError(f"ours and the naive way disagree, so no times: {agreed}")
    results: dict[str, Any] = {
        "command": "python benchmarks/bench_meta_step.py " + " ".join(_shown(argv)),
        "machine": machine(work.device),
        "queue": " ".join(str(slot.tlp) for slot in work.queues[0]),
        "k": work.inner_steps,
        "rounds": repeats,
        "agreement": {name: float(f"{error:.2g}") for name, error in agreed.items()},
    }
    print(json.dumps(results["machine"]), json.dumps(results["agreement"]), sep="\n", flush=True)
    results |= measure_times(work, repeats, warmup)
    save(results, arguments.output)
    if arguments.breakdown:
        settings = [("exact", "average"), ("fp32", "average"), ("exact", "reset")]
        results["breakdown"] = breakdown(work, settings)
        results["cost_of_exact"] = cost_of_exact(results["breakdown"])
        save(results, arguments.output)
    if arguments.memory:
        results["memory"] = measure_memory(argv, work, results["num_parameters"])
        save(results, arguments.output)
    if arguments.world > 1:
        results["ranks"] = measure_ranks(arguments, argv, Path(folder) / "ranks.json")
        save(results, arguments.output)
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


def measure_rank(arguments: BenchArguments, placement: Placement, file: Path) -> None:
    """One rank's part. Every rank takes part."""
    warmup, repeats = arguments.rounds
    work = prepare(arguments, placement, warmup + repeats)
    seconds = over_ranks(work, repeats, warmup)
    if placement.is_main:
        file.write_text(json.dumps(seconds))


def _shown(argv: Sequence[str]) -> list[str]:
    """The command line without the paths of one machine."""
    shown = list(argv)
    for i, word in enumerate(shown[:-1]):
        if word in ("--data-dir", "--model", "--cache-dir") and os.sep in shown[i + 1]:
            shown[i + 1] = word.removeprefix("--").upper()
    return shown


if __name__ == "__main__":
    run_script(main)
