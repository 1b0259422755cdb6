"""The trainings of one call of finetune.py: of what, which rate is kept, and what it scores.

    OUT/args.json, results.json, results.csv, results.md
    OUT/TLP/[shots_N/]seed_S/result.json, models/TASK/
    OUT/TLP/[shots_N/]seed_S/lr_X/result.json, metrics.jsonl; checkpoints/ and models/ on the way

A training is a function of its own flags, so trainings that are finished are left out when a call
goes on, also with more TLPs, seeds or shots than before. In all of this every rank takes part, and
all must see the same OUT.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from metatlp.data.encoded import EncodedSplit
from metatlp.data.gathered import few_shots
from metatlp.data.records import Source
from metatlp.data.schedule import Member, Schedule
from metatlp.engine.args import resolved_flags
from metatlp.engine.build_supervised import build_supervised, num_parts
from metatlp.engine.compatibility import check_rows
from metatlp.engine.data_args import EncodingArguments
from metatlp.engine.evaluation import EvalSplit, Evaluator
from metatlp.engine.finetune_records import Scores, Step, provenance_of, read_result, result_line
from metatlp.engine.grid_data import SplitLoader, source_grid
from metatlp.engine.init_from import StartingPoint
from metatlp.engine.models import export_models, load_task_model
from metatlp.engine.overview import count_lines
from metatlp.engine.placement import Placement
from metatlp.engine.run_log import RunLog
from metatlp.engine.same_run import FREE_FLAGS, RunIdentity
from metatlp.engine.signals import StopRequest
from metatlp.engine.supervised import Supervised, TrainSettings, resume, take_result, train
from metatlp.engine.supervised_args import FinetuneArguments, FinetuneOutputArguments
from metatlp.errors import InputError
from metatlp.grid import TLP, Grid, select
from metatlp.tasks import TASKS
from metatlp.tasks.task import Padding

TEST_SPLITS = ("test", "xquad")
MOST_EVALUATIONS = 20  # of one training, without --eval-every
# What is scored decides what is kept, and stands in the results.
FREE = FREE_FLAGS - {"eval_every", "eval_examples"}


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

    def __post_init__(self) -> None:
        with self.placement.together():
            self.num_parts = num_parts(self.flags, self.placement)

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

    def has_result(self, folder: Path, *rates: float) -> bool:
        """Whether folder/result.json is there, from before.

        Raises:
            InputError: it is of other flags or data, or damaged.
        """
        found = (folder / "result.json").exists()
        if found:
            saved = RunIdentity.of_checkpoint(read_result(folder)["identity"])
            own = dataclasses.replace(
                self.identity(*rates), num_steps=saved.num_steps, theta_0=saved.theta_0
            )
            difference = saved.difference(own, FREE)
            if difference:
                raise InputError(f"--resume: {folder}/result.json was made with {difference}")
        return found


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
        for encoded in everything.values():
            check_rows(call.origin.folder(tlp.task), call.tokenizer, tlp, encoded)
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


def finetune(one: Finetuning) -> bool:
    """Train with every rate, choose and score, unless it is done; False if a signal stopped it."""
    call, done = one.call, False
    with call.placement.together():
        done = one.has_result(one.folder, *one.rates)
    if done:
        _clean(one)
    elif one.num_examples == 0:
        _score_start(one)
    elif all(_train(one, rate) for rate in one.rates):
        _choose(one)
    else:
        return False
    return True


def _train(one: Finetuning, rate: float) -> bool:
    """Train with one learning rate, and write the model; False if a signal stopped it."""
    call, folder, done = one.call, one.folder_of(rate), False
    placement = call.placement
    log = RunLog(folder, placement, "update", prefix=f"{folder.relative_to(call.folder)}/")
    call.stop.at_once(
        "stopped between two trainings; go on with the same command and --resume auto"
    )
    with placement.together():
        done = one.has_result(folder, rate)
        if not done:
            log.check_folder(call.run.resume)
            log.open(one.arguments(rate))
    if not done:
        run, step = _build(one, rate, log)
        with run.loader:
            resume(run, call.run.resume)
            if not train(run):
                return False
            take_result(run)
        _write(one, run, step, log)
    if placement.is_main:
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    return True


def _build(one: Finetuning, rate: float, log: RunLog) -> tuple[Supervised, Step]:
    call, tlp, flags = one.call, one.tlp, one.call.flags
    with call.placement.together():
        few = one.examples()
        size = call.data.batch_sizes()[tlp.task]
        member = Member.of({tlp: few}, size, one.seed)
        model = call.origin.build(tlp.task, flags, one.seed).to(call.placement.device)
    epoch = member.stream.batches_per_epoch
    num_updates = flags.num_updates(tlp.task, epoch)
    every = call.run.eval_every
    if every is None:
        every = max(epoch, -(-num_updates // MOST_EVALUATIONS))
    log.say(
        f"{tlp}, {one.shots} examples ({few.num_examples}), seed {one.seed}, learning rate "
        f"{rate:g}: {num_updates} updates of {epoch} per epoch; dev every {every}"
    )
    step = Step(rate, few.num_examples, num_updates, num_updates)
    batches = np.stack([np.zeros(num_updates, np.int64), np.arange(num_updates)], axis=1)
    run = build_supervised(
        model,
        Schedule([member], batches),
        one.loaded.dev,
        Padding.of(call.tokenizer),
        flags,
        TrainSettings(rate, flags.select, every, call.run.save_every, call.run.keep),
        flags=one.arguments(rate),
        free_flags=FREE,
        data=one.data(),
        provenance=provenance_of(one, step),
        seed=one.seed,
        eval_batch_size=call.run.eval_batch_size,
        folder=log.folder,
        placement=call.placement,
        log=log,
        stop=call.stop,
    )
    return run, step


def _write(one: Finetuning, run: Supervised, begun: Step, log: RunLog) -> None:
    """The model, and then result.json, which says that the training is finished."""
    update = run.best.update if run.best else begun.updates
    step = dataclasses.replace(begun, update=update, dev=run.dev.get(str(one.tlp)))
    step = dataclasses.replace(step, evaluations=len(run.curve))
    with one.call.placement.together():
        log.raise_failure()
        if one.call.placement.is_main:
            model, path = run.parallel.loop.model, log.folder / "models"
            export_models(model, one.call.tokenizer, path, provenance_of(one, step))
        more = {"curve": run.curve, "distance": run.distance(), "identity": run.identity.as_json()}
        log.write_json("result.json", _head(one) | dataclasses.asdict(step) | more)
        log.close_bar()


def _head(one: Finetuning) -> dict[str, Any]:
    return {"tlp": str(one.tlp), "shots": one.shots, "seed": one.seed}


def _choose(one: Finetuning) -> None:
    """Keep the model whose rate is the better on dev, and score it on the test files."""
    call, task = one.call, one.tlp.task
    with call.placement.together():
        trials = [read_result(one.folder_of(rate)) for rate in one.rates]
        metric = TASKS[task].metric
        # Of equals the first, which is the paper's first.
        best = max(trials, key=lambda trial: trial["dev"][metric] if trial["dev"] else 0.0)
        path = one.folder_of(best["lr"]) / "models" / task
        model = load_task_model(path, task, call.placement.device, call.flags.attention)
    scores = _test_scores(one, model)
    step = Step(**{item.name: best[item.name] for item in dataclasses.fields(Step)})
    kept = ("lr", "update", "dev", "distance", "curve")
    result = {
        **_head(one),
        **{k: best[k] for k in ("lr", "examples", "updates", "update", "distance")},
        "scores": ({"dev": best["dev"]} if best["dev"] else {}) | scores,
        "trials": [{name: trial[name] for name in kept} for trial in trials],
        "identity": best["identity"] | {"arguments": one.arguments(*one.rates)},
    }
    with call.placement.together():
        if call.placement.is_main:
            history = provenance_of(one, step, scores, num_rates=len(trials))
            export_models(model, call.tokenizer, one.folder / "models", history)
        RunLog(one.folder, call.placement).write_json("result.json", result)
    _clean(one)
    call.log.say(result_line(one.tlp, result))


def _clean(one: Finetuning) -> None:
    """Delete the models of the rates, of which the kept one lies in models/."""
    for rate in one.rates if one.call.placement.is_main else ():
        for name in ("models", "checkpoints"):
            shutil.rmtree(one.folder_of(rate) / name, ignore_errors=True)


def _score_start(one: Finetuning) -> None:
    """Zero shots: the model of --init-from as it is."""
    call, tlp = one.call, one.tlp
    with call.placement.together():
        model = call.origin.build(tlp.task, call.flags, one.seed).to(call.placement.device)
    dev = {"dev": one.loaded.dev[tlp]} if one.loaded.dev else {}
    result = {
        **_head(one),
        **{"lr": None, "examples": 0, "updates": 0, "update": 0, "distance": 0.0},
        "scores": _scores(one, model, dev) | _test_scores(one, model),
        "trials": [],
        "identity": one.identity(*one.rates).as_json(),
    }
    with call.placement.together():
        RunLog(one.folder, call.placement).write_json("result.json", result)
    call.log.say(result_line(tlp, result))


def _test_scores(one: Finetuning, model: Any) -> Scores:
    scores = _scores(one, model, one.loaded.test)
    with one.call.placement.together():
        for split, values in scores.items():
            read = one.loaded.test[split].encoded.counts["read"]
            due = min(read, one.call.run.eval_examples or read)
            if values["examples"] != due:
                raise InputError(
                    f"{one.tlp} {split}: {values['examples']:.0f} of {due} examples were scored"
                )
    return scores


def _scores(one: Finetuning, model: Any, splits: Mapping[str, EvalSplit]) -> Scores:
    padding, size = Padding.of(one.call.tokenizer), one.call.run.eval_batch_size
    place = (padding, size, one.call.placement)
    return {
        name: Evaluator(model, {one.tlp: split}, *place).scores()[one.tlp]
        for name, split in splits.items()
    }


def results(call: Call, loaded: Mapping[TLP, Loaded]) -> list[dict[str, Any]]:
    """The results of all, in their order."""
    return [read_result(one.folder) for one in finetunings(call, loaded)]
