"""How fast test data is scored, beside the plain loop over it.

    python benchmarks/bench_evaluate.py --data-dir DATA --model ENCODER --output RESULTS.md

Ours puts rows of like length into a batch; the plain loop takes the file's order and pads every row
to the longest input (--max-length). Both use the same model, most rows per batch and decoding, and
run by turns. On a CPU, where ours also bounds the tokens of a batch, a plain loop with that bound
runs too. No times are reported unless all answer alike in float64, where padding changes nothing.
Without --data-dir or --data hub it measures the demo. The heads are random: speed does not ask
what they say.
T: tokens.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from results_file import check_output, machine, page, save, table, without_paths
from torch import Tensor

from metatlp.engine.arguments.command_line import parse_flags, run_script
from metatlp.engine.arguments.data import EncodingArguments
from metatlp.engine.arguments.flags import at_least, flag
from metatlp.engine.arguments.meta import MetaArguments
from metatlp.engine.arguments.presets import preset_defaults
from metatlp.engine.build import head_specs
from metatlp.engine.demo import build_demo
from metatlp.engine.grid_data import SplitLoader, open_source
from metatlp.engine.placement import Placement
from metatlp.engine.placement import start as start_process
from metatlp.engine.scoring.evaluation import CPU_TOKENS, Autocast, EvalSplit, predict_split
from metatlp.errors import InputError
from metatlp.grid import TLP
from metatlp.model.multitask import MultiTaskModel, build_model, load_tokenizer
from metatlp.tasks import TASKS
from metatlp.tasks.task import IGNORED, Padding, model_inputs

QUICK = {"tlps": "pos_en,pa_en", "examples": 8, "repeats": 1, "eval_batch_size": 4}
OURS, PLAIN, SMALL = "in buckets", "plain loop", "plain, small batches"
CHECKED = 128  # examples of each TLP that are answered in float64


@dataclasses.dataclass(frozen=True)
class BenchArguments:
    """What is measured, besides the flags of the data, which are train_meta.py's."""

    model: str | None = flag("encoder: a hub id or a folder [default on the demo: its own]")
    tlps: str = flag("TLPs, listed", "nli_en,pa_en,pos_en,ner_en,qa_en")
    split: str = flag("which examples: test or dev", "test")
    examples: int | None = flag("only so many examples of each file, the first ones")
    eval_batch_size: int = flag("examples per batch", 64)
    repeats: int = flag("measured rounds; every round scores each TLP once in both ways", 5)
    threads: int | None = flag("threads of the process")
    quick: bool = flag("two TLPs, few examples, one round: does it run?", False)
    output: str | None = flag("write this Markdown file, and a JSON file beside it")

    def __post_init__(self) -> None:
        at_least(1, self, "examples", "eval_batch_size", "repeats", "threads")


class Bench:
    """Model, data, and both ways to the answers."""

    def __init__(self, data: EncodingArguments, arguments: BenchArguments, placement: Placement):
        meta = MetaArguments(model=arguments.model)
        if data.source == "demo":
            meta = build_demo(data, meta, placement, log_line)
        if meta.model is None:
            raise InputError("--model: name an encoder, a hub id or a folder")
        self.tlps = [TLP.parse(name.strip()) for name in arguments.tlps.split(",")]
        tokenizer = load_tokenizer(meta.model)
        place = (data.cache_folder, placement, log_line)
        loader = SplitLoader(open_source(data, log_line), data.limits(), tokenizer, *place)
        self.splits: dict[TLP, EvalSplit] = loader.scored(
            self.tlps, arguments.split, arguments.examples
        )
        self.padding, self.limits = Padding.of(tokenizer), data.limits()
        self.batch_size, self.device = arguments.eval_batch_size, placement.device
        self.autocast: Autocast = placement.accelerator.autocast
        heads = head_specs({tlp.task for tlp in self.tlps})
        self.model: MultiTaskModel = build_model(meta.model, heads, seed=0).to(self.device).eval()

    def ours(self, tlp: TLP, autocast: Autocast | None = None) -> list:
        """As evaluate_zeroshot.py."""
        return predict_split(
            self.model,
            tlp.task,
            self.splits[tlp].encoded,
            self.padding,
            self.batch_size,
            self.device,
            autocast or self.autocast,
        )

    def plain(self, tlp: TLP, autocast: Autocast | None = None, small: bool = False) -> list:
        """Batches in the order of the file, padded to the longest input that there may be."""
        task, encoded = TASKS[tlp.task], self.splits[tlp].encoded
        length, size = self.longest(tlp), self.batch_size
        if small:
            size = min(size, max(1, CPU_TOKENS // length))
        found: list = []
        for begin in range(0, encoded.num_rows, size):
            rows = np.arange(begin, min(begin + size, encoded.num_rows))
            batch = padded(task.collate(encoded, rows, self.padding), length, self.padding)
            batch = {name: tensor.to(self.device) for name, tensor in batch.items()}
            with torch.no_grad(), (autocast or self.autocast)():
                outputs = self.model(tlp.task, model_inputs(batch))
            found += task.predict(outputs, batch)
        return found

    def ways(self) -> dict[str, Callable[..., list]]:
        """Name -> from a TLP, and the forward pass's context, to predictions."""
        small = {SMALL: partial(self.plain, small=True)} if self.device.type == "cpu" else {}
        return {OURS: self.ours, PLAIN: self.plain} | small

    def longest(self, tlp: TLP) -> int:
        """Tokens of the longest input that there may be."""
        return self.limits.qa_max_length if tlp.task == "qa" else self.limits.max_length

    def answers(self, tlp: TLP, predictions: list) -> list:
        """What a user sees of them."""
        split = self.splits[tlp]
        return TASKS[tlp.task].decode(split.encoded, predictions, split.examples())


def padded(batch: Mapping[str, Tensor], length: int, padding: Padding) -> dict[str, Tensor]:
    """The batch with T = length. Whatever is (B, T) is filled up."""
    fill = {"input_ids": padding.input_id, "attention_mask": 0, "token_type_ids": padding.type_id}
    more = length - batch["input_ids"].shape[1]
    return {
        name: F.pad(tensor, (0, more), value=fill.get(name, IGNORED))
        if tensor.ndim == 2
        else tensor
        for name, tensor in batch.items()
    }


def main(argv: Sequence[str]) -> int:
    description = (__doc__ or "").splitlines()[0]
    data, arguments = parse_flags((EncodingArguments, BenchArguments), defaults, description, argv)
    output = check_output(arguments.output)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(data, arguments, start_process("none", folder))
    results: dict[str, Any] = {
        "command": "python benchmarks/bench_evaluate.py " + " ".join(without_paths(argv)),
        "machine": machine(bench.device),
        "batch_size": arguments.eval_batch_size,
        "rounds": arguments.repeats,
        "measured": [],
    }
    print(json.dumps(results["machine"]), flush=True)
    for tlp in bench.tlps:
        check(bench, tlp)
        results["measured"].append(measured(bench, tlp, arguments.repeats))
        print(*rows_of(results["measured"][-1:]), flush=True)
        save(output, markdown(results), results)
    print(markdown(results))
    return 0


def defaults(given: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the data are the preset's."""
    names = {field.name for field in dataclasses.fields(EncodingArguments)}
    preset = {name: v for name, v in preset_defaults(given).items() if name in names}
    return {**preset, **(QUICK if given.get("quick") else {})}


def log_line(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def check(bench: Bench, tlp: TLP) -> None:
    """All ways give the same answers in float64.

    Raises:
        InputError: they do not.
    """
    whole, bench.splits[tlp] = bench.splits[tlp], first_examples(bench.splits[tlp], CHECKED)
    bench.model.double()
    found = [bench.answers(tlp, way(tlp, nullcontext)) for way in bench.ways().values()]
    bench.model.float()
    bench.splits[tlp] = whole
    differ = num_different(found)
    if differ:
        raise InputError(f"{tlp}: {differ} of {len(found[0])} answers differ, so no times")


def num_different(answers: Sequence[list]) -> int:
    """Examples that not all ways answer alike."""
    return sum(any(other != one for other in others) for one, *others in zip(*answers, strict=True))


def first_examples(split: EvalSplit, number: int) -> EvalSplit:
    """The same split with its first examples only."""
    encoded = split.encoded
    rows = np.flatnonzero(encoded.flat("example") < number)
    columns = {}
    for name in encoded.names:
        column = encoded.column(name)
        columns[name] = column[rows] if isinstance(column, np.ndarray) else column.take(rows)
    return EvalSplit(type(encoded)(columns, encoded.counts), lambda: split.examples()[:number])


def measured(bench: Bench, tlp: TLP, repeats: int) -> dict[str, Any]:
    """Seconds of every round, and how many answers differ in float32."""
    ways = bench.ways()
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for round_ in range(repeats):
        found = {}
        for name in list(ways) if round_ % 2 == 0 else list(ways)[::-1]:
            began = time.perf_counter()
            found[name] = ways[name](tlp)
            seconds[name].append(time.perf_counter() - began)
    encoded = bench.splits[tlp].encoded
    answers = [bench.answers(tlp, found[name]) for name in ways]
    return {
        "tlp": str(tlp),
        "examples": encoded.num_examples,
        "rows": encoded.num_rows,
        "tokens_per_row": float(encoded.tokens.mean()),
        "longest": bench.longest(tlp),
        "seconds": seconds,
        "ratios": {
            name: [b / a for a, b in zip(seconds[OURS], seconds[name], strict=True)]
            for name in list(ways)[1:]
        },
        "differ": num_different(answers),
    }


def markdown(results: Mapping[str, Any]) -> str:
    facts = [f"{name}: {value}" for name, value in results["machine"].items()]
    facts += [
        f"batches of at most {results['batch_size']} rows; {results['rounds']} rounds, by turns; "
        "only the predicting, without reading, decoding and scoring",
        "tokens: those the plain loop pads to, by those there are; more than this could only come "
        "of attention, whose work grows with their square",
        f"answers of the first {CHECKED} examples are the same in float64; in the measured "
        "precision so many differ: "
        + ", ".join(f"{entry['tlp']} {entry['differ']}" for entry in results["measured"]),
    ]
    plain = list(results["measured"][0]["ratios"])
    head = ["TLP", "examples", "tokens per row", "tokens", OURS, *plain]
    head += [f"ratio to {name} (p20, p50, p80)" for name in plain]
    body = table(head, [row.split("|") for row in rows_of(results["measured"])])
    return page("Speed of evaluation", results["command"], facts, [("Examples per second", body)])


def rows_of(measured: Sequence[Mapping[str, Any]]) -> list[str]:
    """Cells joined by |."""
    rows = []
    for entry in measured:
        cells = [entry["tlp"], f"{entry['examples']:,}", f"{entry['tokens_per_row']:.1f}"]
        cells.append(f"{entry['longest'] / entry['tokens_per_row']:.1f}")
        speeds = (entry["examples"] / np.median(times) for times in entry["seconds"].values())
        cells += [f"{speed:,.1f}" for speed in speeds]
        for ratios in entry["ratios"].values():
            cells.append(", ".join(f"{r:.1f}" for r in np.quantile(ratios, [0.2, 0.5, 0.8])))
        rows.append("|".join(cells))
    return rows


if __name__ == "__main__":
    run_script(main)
