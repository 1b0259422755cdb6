"""What an update's rewards cost by n + d backward passes, and pair by pair by 2 n d.

    python benchmarks/bench_rewards.py --data-dir DATA --model ENCODER --output RESULTS.md

Without --data-dir or --data hub it measures the demo. Both ways get the same batches; no times are
reported unless the rewards of n + d passes agree with cosines in float64, pair by pair. D_dev has
one TLP, one per task, and all of them, by turns.
n: training TLPs; d: dev TLPs; K: batches per gradient; P: parameters.
"""

from __future__ import annotations

import dataclasses
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from meta_step.measure import peak_rss, resident
from results_file import check_output, machine, page, save, table, without_paths
from torch import Tensor

from metatlp.data.encoded import EncodedSplit
from metatlp.data.streams import BatchStream
from metatlp.engine.adamw import InnerConfig
from metatlp.engine.arguments.command_line import parse_flags, run_script
from metatlp.engine.arguments.data import DataArguments
from metatlp.engine.arguments.flags import at_least, flag
from metatlp.engine.arguments.meta import MetaArguments
from metatlp.engine.arguments.presets import preset_defaults
from metatlp.engine.arguments.rewards import RewardConfig
from metatlp.engine.build import heads
from metatlp.engine.demo import build_demo
from metatlp.engine.grid_data import GridData, load_grid
from metatlp.engine.parameters.passes import backward
from metatlp.engine.parameters.replicated import ReplicatedParameters
from metatlp.engine.placement import Placement
from metatlp.engine.placement import start as start_process
from metatlp.engine.rewards import Rewards
from metatlp.errors import InputError
from metatlp.grid import TLP
from metatlp.model.arena import Arena
from metatlp.model.multitask import build_model, load_tokenizer
from metatlp.tasks import TASKS
from metatlp.tasks.task import Padding

QUICK = {"selection": "pos_en,ner_en", "batch_size": "4", "repeats": 1}
TOLERANCE = 1e-5  # of a cosine
OURS, NAIVE = "n + d passes", "2 n d passes"
MIB = 2**20

Found = tuple[np.ndarray, int]  # (n,) rewards, backward passes


@dataclass(frozen=True)
class BenchArguments:
    """What is measured, besides the flags of the data, which are train_meta.py's."""

    model: str | None = flag("encoder: a hub id or a folder [default on the demo: its own]")
    reward_batches: int = flag("batches (K) for each gradient", 1)
    repeats: int = flag("measured rounds; every round runs both ways once", 3)
    threads: int | None = flag("threads of the process")
    memory: bool = flag("also measure peak memory, a process per way", False)
    quick: bool = flag("two TLPs, one round: does it run?", False)
    output: str | None = flag("write this Markdown file, and a JSON file beside it")
    part: str = flag("used by the script itself: all, or memory:WAY:D", "all")

    def __post_init__(self) -> None:
        at_least(1, self, "reward_batches", "repeats", "threads")


class Bench:
    """Model, data, and both ways to the rewards."""

    def __init__(self, data: DataArguments, arguments: BenchArguments, placement: Placement):
        meta = MetaArguments(model=arguments.model)
        if data.source == "demo":
            meta = build_demo(data, meta, placement, log_line)
        assert meta.model is not None
        tokenizer = load_tokenizer(meta.model)
        grid: GridData = load_grid(data, tokenizer, 1, placement, lambda line: None)
        self.tlps = list(grid.grid.tlps)
        names = ",".join(map(str, self.tlps))
        grid = load_grid(data, tokenizer, 1, placement, lambda line: None, names)
        self.placement, self.num_batches = placement, arguments.reward_batches
        self.padding, self.sizes = Padding.of(tokenizer), data.batch_sizes()
        self.train, self.dev = self._streams(grid.train), self._streams(grid.reward_dev)
        model = build_model(meta.model, heads(grid), seed=0, dropout=0.0)
        self.model = model.to(placement.device)
        self.arena = Arena(self.model.named_uses())
        self.at_theta = ReplicatedParameters(self.model, self.arena, InnerConfig(), nullcontext)

    def _streams(self, splits: Mapping[TLP, EncodedSplit]) -> dict[TLP, BatchStream]:
        return {t: BatchStream(s, t, self.sizes[t.task], seed=0) for t, s in splits.items()}

    def targets(self, number: int) -> list[TLP]:
        """The first TLP of every task, then the second of every task, and so on."""
        turn = {tlp: [t for t in self.tlps if t.task == tlp.task].index(tlp) for tlp in self.tlps}
        return sorted(self.tlps, key=lambda tlp: turn[tlp])[:number]

    def rewards(self, targets: Sequence[TLP]) -> Rewards:
        """As in a run; to be closed."""
        config = RewardConfig("mean-of-cos", self.num_batches, "all", dropout=False, every=1)
        dev = {tlp: self.dev[tlp] for tlp in targets}
        return Rewards(
            self.at_theta,
            self.arena.live.clone(),
            self.train,
            dev,
            self.padding,
            config,
            False,
            self.placement,
            seed=0,
        )

    def naive(
        self, targets: Sequence[TLP], precision: torch.dtype = torch.float32
    ) -> Callable[[int], Found]:
        """From the number of an update to its rewards: a train pass and a dev pass for every pair,
        as published code has it.

        Args:
            precision: of the sums of a cosine. In float32 those of millions are off by 1e-4.
        """
        parameters = [p for p, _ in self.model.named_uses().values()]

        def gradient(tlp: TLP, batches: Sequence[dict[str, Tensor]]) -> Tensor:
            for parameter in parameters:
                assert parameter.grad is not None
                parameter.grad.zero_()
            self.model.eval()
            for batch in batches:
                backward(self.model, tlp.task, batch, nullcontext)
            parts = [p.grad.flatten() for p in parameters if p.grad is not None]
            return torch.cat(parts).to(precision)

        def measure(update: int) -> Found:
            train = {tlp: self._batches(self.train[tlp], update) for tlp in self.tlps}
            dev = {tlp: self._batches(self.dev[tlp], update) for tlp in targets}
            found, passes = [], 0
            for tlp in self.tlps:
                cosines = []
                for other in targets:
                    one, two = gradient(tlp, train[tlp]), gradient(other, dev[other])
                    cosines.append(torch.nn.functional.cosine_similarity(one, two, dim=0).item())
                    passes += 2 * self.num_batches
                found.append(statistics.fmean(cosines))
            return np.array(found), passes

        return measure

    def _batches(self, stream: BatchStream, update: int) -> list[dict[str, Tensor]]:
        collate = TASKS[stream.tlp.task].collate
        rows = stream.episode(update, self.num_batches)
        batches = [collate(stream.split, r, self.padding) for r in rows]
        return [{n: t.to(self.placement.device) for n, t in batch.items()} for batch in batches]


def ours(rewards: Rewards) -> Callable[[int], Found]:
    """From the number of an update to its rewards by n + d passes."""

    def measure(update: int) -> Found:
        report = rewards.measure(update, 0.0)
        return report.rewards, sum(report.passes)

    return measure


def main(argv: Sequence[str]) -> int:
    description = (__doc__ or "").splitlines()[0]
    data, arguments = parse_flags((DataArguments, BenchArguments), defaults, description, argv)
    output = check_output(arguments.output)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(data, arguments, start_process("none", folder))
        if arguments.part == "all":
            measure_all(bench, arguments, argv, output)
        else:
            measure_memory(bench, arguments.part)
    return 0


def defaults(given: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the data are the preset's."""
    names = {field.name for field in dataclasses.fields(DataArguments)}
    preset = {name: v for name, v in preset_defaults(given).items() if name in names}
    return {**preset, **(QUICK if given.get("quick") else {})}


def log_line(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def measure_all(
    bench: Bench, arguments: BenchArguments, argv: Sequence[str], output: Path | None
) -> None:
    n, device = len(bench.tlps), bench.placement.device
    tasks = len({tlp.task for tlp in bench.tlps})
    results: dict[str, Any] = {
        "command": "python benchmarks/bench_rewards.py " + " ".join(without_paths(argv)),
        "machine": machine(device),
        "num_parameters": bench.arena.num_parameters,
        "batches": bench.num_batches,
        "rounds": arguments.repeats,
        "measured": [],
    }
    print(json.dumps(results["machine"]), flush=True)
    results["error"] = checked(bench)
    for d in sorted({1, tasks, n}):
        targets = bench.targets(d)
        with closing(bench.rewards(targets)) as rewards:
            ways = {OURS: ours(rewards), NAIVE: bench.naive(targets)}
            seconds, passes, off = measure_ways(ways, arguments.repeats)
        entry = {
            "n": n,
            "d": d,
            "passes": passes,
            "seconds": seconds,
            "naive_off": off,
            "ratios": [b / a for a, b in zip(seconds[OURS], seconds[NAIVE], strict=True)],
        }
        if arguments.memory:
            entry["peak"] = {name: peak_of(argv, name, d) for name in ways}
        results["measured"].append(entry)
        print(*markdown_rows([entry]), sep="\n", flush=True)
        save(output, markdown(results), results)
    print(markdown(results))


def measure_ways(
    ways: Mapping[str, Callable[[int], Found]], repeats: int
) -> tuple[dict[str, list[float]], dict[str, int], float]:
    """Way -> seconds of each round; way -> backward passes; the largest difference of a reward."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    passes, off = {}, 0.0
    for update in range(repeats):
        found = {}
        for name in list(ways) if update % 2 == 0 else list(ways)[::-1]:
            began = time.perf_counter()
            found[name], passes[name] = ways[name](update)
            seconds[name].append(time.perf_counter() - began)
        off = max(off, float(np.abs(found[OURS] - found[NAIVE]).max()))
    return seconds, passes, off


def checked(bench: Bench) -> float:
    """The largest difference of ours from cosines in float64, for D_dev of one and of two TLPs.

    Raises:
        InputError: it is too large.
    """
    error = 0.0
    for targets in (bench.targets(1), bench.targets(2)):
        with closing(bench.rewards(targets)) as rewards:
            found, _ = ours(rewards)(0)
        expected, _ = bench.naive(targets, torch.float64)(0)
        error = max(error, float(np.abs(found - expected).max()))
    if not error <= TOLERANCE:
        raise InputError(f"rewards are off by {error:.2g}, so no times")
    return error


def peak_of(argv: Sequence[str], way: str, d: int) -> int:
    """Bytes that an update adds at its peak, in a process of its own."""
    command = [sys.executable, __file__, *argv, "--part", f"memory:{way}:{d}"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return int(done.stdout.splitlines()[-1])


def measure_memory(bench: Bench, part: str) -> None:
    _, way, d = part.split(":")
    targets = bench.targets(int(d))
    # What the naive way holds does not depend on the number of pairs.
    measure = ours(bench.rewards(targets)) if way == OURS else bench.naive(targets[:1])
    cuda = bench.placement.device.type == "cuda"
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated() if cuda else resident("VmRSS")
    measure(0)
    print((torch.cuda.max_memory_allocated() if cuda else peak_rss()) - before)


def markdown(results: Mapping[str, Any]) -> str:
    facts = [f"{name}: {value}" for name, value in results["machine"].items()]
    facts += [
        f"model: {results['num_parameters']:,} parameters",
        f"{results['batches']} batch(es) per gradient; {results['rounds']} rounds, interleaved",
        f"rewards by n + d passes agree with cosines in float64 to {results['error']:.1g}; those "
        "of the naive way, whose sums are in float32, differ from ours by "
        + ", ".join(f"{entry['naive_off']:.1g}" for entry in results["measured"]),
    ]
    head = ["(n, d)", OURS, "passes", NAIVE, "passes", "ratio (least, median, most)"]
    if any("peak" in entry for entry in results["measured"]):
        head += ["peak added, ours", "naive"]
    rows = markdown_rows(results["measured"])
    body = [*table(head, [row.split("|") for row in rows])]
    return page("Rewards of a MultiDDS update", results["command"], facts, [("Time", body)])


def markdown_rows(measured: Sequence[Mapping[str, Any]]) -> list[str]:
    """Cells joined by |."""
    rows = []
    for entry in measured:
        ours, naive = (statistics.median(entry["seconds"][way]) for way in (OURS, NAIVE))
        ratios = sorted(entry["ratios"])
        cells = [
            f"({entry['n']}, {entry['d']})",
            f"{ours:.2f} s",
            str(entry["passes"][OURS]),
            f"{naive:.2f} s",
            str(entry["passes"][NAIVE]),
            f"{ratios[0]:.1f}, {statistics.median(ratios):.1f}, {ratios[-1]:.1f}",
        ]
        if "peak" in entry:
            cells += [f"{entry['peak'][way] / MIB:.0f} MiB" for way in (OURS, NAIVE)]
        rows.append("|".join(cells))
    return rows


if __name__ == "__main__":
    run_script(main)
