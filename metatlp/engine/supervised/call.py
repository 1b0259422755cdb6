"""A call of finetune.py and the trainings it asks for: what each is made of, and its identity."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from metatlp.data.encoded import EncodedSplit
from metatlp.data.gathered import few_shots
from metatlp.data.records import Source
from metatlp.engine.arguments.data import EncodingArguments
from metatlp.engine.arguments.meta import resolved_flags
from metatlp.engine.arguments.supervised import FinetuneArguments, FinetuneOutputArguments
from metatlp.engine.compatibility import check_rows
from metatlp.engine.grid_data import SplitLoader, source_grid
from metatlp.engine.mesh import Mesh
from metatlp.engine.overview import count_lines
from metatlp.engine.placement import Placement
from metatlp.engine.run_log import RunLog
from metatlp.engine.same_run import RunIdentity
from metatlp.engine.scoring.evaluation import EvalSplit
from metatlp.engine.signals import StopRequest
from metatlp.engine.supervised.build import num_parts, one_group
from metatlp.engine.supervised.init_from import StartingPoint
from metatlp.errors import InputError
from metatlp.grid import TLP, Grid, select

TEST_SPLITS = ("test", "xquad")


@dataclass
class Call:
    """One call of the script."""

    data: EncodingArguments
    flags: FinetuneArguments
    run: FinetuneOutputArguments
    placement: Placement
    log: RunLog
    stop: StopRequest
    tokenizer: Any = field(init=False, default=None)
    origin: StartingPoint = field(init=False)
    source: Source = field(init=False)
    num_parts: int = field(init=False)
    mesh: Mesh = field(init=False)

    def __post_init__(self) -> None:
        with self.placement.together():
            self.num_parts = num_parts(self.flags, self.placement)
        self.mesh = one_group(self.placement)

    def open(
        self, flags: FinetuneArguments, tokenizer: Any, origin: StartingPoint, source: Source
    ) -> None:
        """What is known once the flags were checked. flags: with --model, if it is the demo's."""
        self.flags, self.tokenizer, self.origin, self.source = flags, tokenizer, origin, source

    def resolved(self) -> dict[str, Any]:
        """All flags and the values that the call uses, JSON-able."""
        flags = resolved_flags(self.data, self.flags, self.run)
        return flags | {"batch_parts": self.num_parts}

    @property
    def folder(self) -> Path:
        return Path(self.run.output_dir)

    def check_folder(self) -> None:
        """Once args.json is written. Raises InputError on a process that does not see it."""
        if not (self.folder / "args.json").exists():
            raise InputError(f"--output-dir {self.folder}: all processes must see the same folder")


@dataclass(frozen=True)
class Loaded:
    """A TLP's encoded splits; test: by the name of the split."""

    train: EncodedSplit
    dev: dict[TLP, EvalSplit]
    test: dict[str, EvalSplit]

    def fingerprints(self, tlp: TLP, trains: EncodedSplit) -> dict[str, str]:
        """Of what a result depends on. trains: the examples that train."""
        scored = {"dev": split for split in self.dev.values()} | self.test  # noqa: B035
        named = {f"{name} {tlp}": split.encoded.fingerprint for name, split in scored.items()}
        return {str(tlp): trains.fingerprint, **named}


@dataclass(frozen=True)
class Finetuning:
    """Finetuning on one TLP with one seed: once per learning rate.

    Attributes:
        num_examples: shots; None: all.
    """

    call: Call
    tlp: TLP
    num_examples: int | None
    seed: int
    loaded: Loaded

    @property
    def shots(self) -> str:
        return "full" if self.num_examples is None else str(self.num_examples)

    @property
    def folder(self) -> Path:
        shots = [] if self.num_examples is None else [f"shots_{self.num_examples}"]
        return self.call.folder.joinpath(str(self.tlp), *shots, f"seed_{self.seed}")

    @property
    def rates(self) -> tuple[float, ...]:
        return self.call.flags.rates_of(self.tlp.task)

    def folder_of(self, rate: float) -> Path:
        return self.folder / f"lr_{rate:g}"

    def examples(self) -> EncodedSplit:
        """Those it trains on; with no shots all, of which none is used."""
        if not self.num_examples:
            return self.loaded.train
        return few_shots(self.loaded.train, self.tlp, self.num_examples, self.seed)

    def arguments(self, *rates: float) -> dict[str, Any]:
        """Its flags, in the place of the call's lists."""
        own = {"tlp": str(self.tlp), "shots": self.shots, "seeds": str(self.seed)}
        own |= {"lr": ",".join(map(repr, rates)), "model": self.call.origin.folder(self.tlp.task)}
        return self.call.resolved() | own

    def data(self) -> dict[str, str]:
        """Fingerprints of everything that its result depends on."""
        start = {"the weights to start from": self.call.origin.digest(self.tlp.task)}
        return self.loaded.fingerprints(self.tlp, self.examples()) | start

    def identity(self, *rates: float) -> RunIdentity:
        """All that can be known of it without building a model."""
        precision = self.call.placement.accelerator.mixed_precision
        return RunIdentity(self.arguments(*rates), self.data(), 0, precision, "")


def select_tlps(call: Call) -> tuple[TLP, ...]:
    """--tlp. Raises InputError for a TLP that has no data to train on, or none to choose with."""
    flags = call.flags
    assert flags.tlp is not None
    tlps = select(source_grid(call.source, flags.train_languages), flags.tlp, "--tlp").tlps
    with_dev = set(call.source.tlps("dev"))
    for tlp in tlps:
        chooses = flags.select == "best" or len(flags.rates_of(tlp.task)) > 1
        if tlp not in with_dev and chooses:
            raise InputError(
                f"--tlp: {tlp} has no dev data to choose with; use --select last and one --lr"
            )
        if tlp.task not in call.origin.models and 0 in flags.shot_list:
            raise InputError(f"--shots 0: --init-from {flags.init_from} has no head for {tlp}")
    return tlps


def show(call: Call, tlps: tuple[TLP, ...]) -> None:
    """What will be trained, in the first lines."""
    flags = call.flags
    for task in Grid(tlps).tasks:
        call.log.say(call.origin.line(task))
        rates = ", ".join(f"{rate:g}" for rate in flags.rates_of(task))
        call.log.say(f"{task}: learning rate {rates}, decaying linearly to 0")
    call.log.say(
        f"{len(tlps)} TLPs x {len(flags.shot_list)} numbers of examples ({flags.shots}) x "
        f"{len(flags.seed_list)} seeds: {', '.join(map(str, tlps))}"
    )


def load_tlp(call: Call, tlp: TLP) -> Loaded:
    """Read and encode the TLP's files, or find them in the cache.

    Raises:
        InputError: on every rank, a file is bad, or --shots asks for more than there is.
    """
    limits, limit = call.data.limits(), call.run.eval_examples
    # Of what is scored nothing is left out, whatever is of what trains.
    whole = dataclasses.replace(limits, long_inputs="keep")
    place = (call.tokenizer, call.data.cache_folder, call.placement, call.log.say_here)
    with call.placement.together():
        trains = SplitLoader(call.source, limits, *place)
        everything = {"train": trains.encoded([tlp], "train", call.data.max_examples)[tlp]}
        scores, scored = SplitLoader(call.source, whole, *place), {}
        for split in ("dev", *TEST_SPLITS):
            if tlp in call.source.tlps(split):
                scored[split] = scores.scored([tlp], split, limit)[tlp]
                everything[split] = scored[split].encoded
        model = call.origin.folder(tlp.task)
        check_rows(model, call.tokenizer, [(tlp, encoded) for encoded in everything.values()])
        for number in call.flags.shot_list:
            if number:
                few_shots(everything["train"], tlp, number, 0)
    counts = {split: {str(tlp): encoded.counts} for split, encoded in everything.items()}
    for line in count_lines(counts):
        call.log.say(line)
    test = {split: scored[split] for split in TEST_SPLITS if split in scored}
    if not test:
        call.log.say(f"{tlp} has no test data: only dev scores are reported")
    dev = {tlp: scored["dev"]} if "dev" in scored else {}
    return Loaded(everything["train"], dev, test)


def finetunings(call: Call, loaded: Mapping[TLP, Loaded]) -> Iterator[Finetuning]:
    """All of the call, in their order."""
    for tlp, data in loaded.items():
        for num_examples in call.flags.shot_list:
            for seed in call.flags.seed_list:
                yield Finetuning(call, tlp, num_examples, seed, data)
