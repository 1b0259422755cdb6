"""The trainings of one call of finetune.py: what each starts from and is made of, which rate is
kept, and what it scores.

    OUT/args.json, results.json, results.csv, results.md
    OUT/TLP/[shots_N/]seed_S/result.json, models/TASK/
    OUT/TLP/[shots_N/]seed_S/lr_X/result.json, metrics.jsonl; checkpoints/ and models/ on the way

A training is a function of its own flags, so trainings that are finished are left out when a call
goes on, also with more TLPs, seeds or shots than before. In all of this every rank takes part, and
all must see the same OUT.
"""

from __future__ import annotations

import dataclasses
import json
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
from metatlp.engine.build_supervised import build_supervised, free_flags, num_parts
from metatlp.engine.compatibility import check_rows
from metatlp.engine.data_args import EncodingArguments
from metatlp.engine.evaluation import EvalSplit, Evaluator
from metatlp.engine.grid_data import SplitLoader, source_grid
from metatlp.engine.init_from import StartingPoint
from metatlp.engine.models import export_models, load_task_model
from metatlp.engine.overview import count_lines
from metatlp.engine.placement import Placement
from metatlp.engine.provenance import Provenance
from metatlp.engine.run_log import RunLog
from metatlp.engine.same_run import RunIdentity
from metatlp.engine.signals import StopRequest
from metatlp.engine.supervised import TrainSettings, resume, take_result, train
from metatlp.engine.supervised_args import FinetuneArguments, FinetuneOutputArguments
from metatlp.errors import InputError
from metatlp.grid import TLP, Grid, select
from metatlp.tasks import TASKS
from metatlp.tasks.task import Padding

Scores = dict[str, dict[str, float]]  # split -> metric -> value
TEST_SPLITS = ("test", "xquad")
MOST_EVALUATIONS = 20  # of one training, without --eval-every


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


@dataclass(frozen=True)
class Training:
    """Finetuning on one TLP with one seed: once per learning rate.

    Attributes:
        num_examples: shots; None: all.
    """

    tlp: TLP
    num_examples: int | None
    seed: int

    @property
    def shots(self) -> str:
        return "full" if self.num_examples is None else str(self.num_examples)

    def folder(self, call: Call) -> Path:
        shots = [] if self.num_examples is None else [f"shots_{self.num_examples}"]
        return call.folder.joinpath(str(self.tlp), *shots, f"seed_{self.seed}")

    def arguments(self, call: Call, rate: str) -> dict[str, Any]:
        """Its flags, in the place of the call's lists."""
        own = {"tlp": str(self.tlp), "shots": self.shots, "seeds": str(self.seed), "lr": rate}
        return call.resolved() | own


@dataclass(frozen=True)
class Loaded:
    """A TLP's encoded splits; test: by the name of the split."""

    train: EncodedSplit
    dev: dict[TLP, EvalSplit]
    test: dict[str, EvalSplit]


def select_tlps(call: Call) -> tuple[TLP, ...]:
    """--tlp. Raises InputError for a TLP that has no data to train on, or none to choose with."""
    assert call.flags.tlp is not None
    grid = source_grid(call.source, "all")
    tlps = select(grid, call.flags.tlp, "--tlp").tlps
    with_dev = set(call.source.tlps("dev"))
    for tlp in tlps:
        chooses = call.flags.select == "best" or len(call.flags.rates_of(tlp.task)) > 1
        if tlp not in with_dev and chooses:
            raise InputError(
                f"--tlp: {tlp} has no dev data to choose with; use --select last and one --lr"
            )
        if tlp.task not in call.origin.models and 0 in call.flags.shot_list:
            raise InputError(f"--shots 0: --init-from {call.flags.init_from} has no head for {tlp}")
    return tlps


def show(call: Call, tlps: tuple[TLP, ...]) -> None:
    """What will be trained, in the first lines."""
    flags = call.flags
    for task in Grid(tlps).tasks:
        call.log.say(call.origin.line(task))
        rates = ", ".join(f"{rate:g}" for rate in flags.rates_of(task))
        call.log.say(f"{task}: learning rate {rates}, decaying linearly to 0")
    shots = len(flags.shot_list)
    call.log.say(
        f"{len(tlps)} TLPs x {shots} numbers of examples ({flags.shots}) x "
        f"{len(flags.seed_list)} seeds: {', '.join(map(str, tlps))}"
    )


def trainings_of(call: Call, tlp: TLP) -> Iterator[Training]:
    for num_examples in call.flags.shot_list:
        for seed in call.flags.seed_list:
            yield Training(tlp, num_examples, seed)


def load_tlp(call: Call, tlp: TLP) -> Loaded:
    """Read and encode the TLP's files, or find them in the cache."""
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
    counts = {split: {str(tlp): encoded.counts} for split, encoded in everything.items()}
    for line in count_lines(counts):
        call.log.say(line)
    test = {split: scored[split] for split in TEST_SPLITS if split in scored}
    if not test:
        call.log.say(f"{tlp} has no test data: only dev scores are reported")
    dev = {tlp: scored["dev"]} if "dev" in scored else {}
    return Loaded(everything["train"], dev, test)


def finished(call: Call, training: Training, loaded: Loaded) -> bool:
    """Whether the training has its result already, from before.

    Raises:
        InputError: from other flags or data.
    """
    rates = ",".join(map(repr, call.flags.rates_of(training.tlp.task)))
    return _found(call, training, training.folder(call), rates, loaded)


def _found(call: Call, training: Training, folder: Path, rate: str, loaded: Loaded) -> bool:
    found = False
    with call.placement.together():
        path = folder / "result.json"
        if path.exists():
            saved = _read(path)["identity"]
            own = _identity(call, training, rate, loaded)
            # The number of updates and the first parameters follow from these.
            own |= {"num_steps": saved["num_steps"], "theta_0": saved["theta_0"]}
            difference = RunIdentity.of_checkpoint(saved).difference(
                RunIdentity.of_checkpoint(own), free_flags(call.flags.select)
            )
            if difference:
                raise InputError(f"--resume: {path} was made with {difference}")
            found = True
    return found


def _identity(call: Call, training: Training, rate: str, loaded: Loaded) -> dict[str, Any]:
    return RunIdentity(
        arguments=training.arguments(call, rate),
        data=_fingerprints(training.tlp, _shots(training, loaded)),
        num_steps=0,
        mixed_precision=call.placement.accelerator.mixed_precision,
        theta_0="",
    ).as_json()


def _fingerprints(tlp: TLP, split: EncodedSplit) -> dict[str, str]:
    return {str(tlp): split.fingerprint}


def _shots(training: Training, loaded: Loaded) -> EncodedSplit:
    if not training.num_examples:
        return loaded.train
    return few_shots(loaded.train, training.tlp, training.num_examples, training.seed)


def train_one(call: Call, training: Training, rate: float, loaded: Loaded) -> bool:
    """Train with one learning rate, and write the model; False if a signal stopped it."""
    folder = training.folder(call) / f"lr_{rate:g}"
    if _found(call, training, folder, repr(rate), loaded):
        return True
    tlp, flags, placement = training.tlp, call.flags, call.placement
    call.stop.at_once(
        "stopped between two trainings; go on with the same command and --resume auto"
    )
    name = folder.relative_to(call.folder)
    log = RunLog(folder, placement, unit="update", prefix=f"{name}/")
    with placement.together():
        log.check_folder(call.run.resume)
        log.open(training.arguments(call, repr(rate)))
        few = _shots(training, loaded)
        size = call.data.batch_sizes()[tlp.task]
        member = Member.of({tlp: few}, size, training.seed)
        model = call.origin.build(tlp.task, flags, training.seed).to(placement.device)
    epoch = member.stream.batches_per_epoch
    num_updates = flags.num_updates(tlp.task, epoch)
    every = call.run.eval_every
    if every is None:
        every = max(epoch, -(-num_updates // MOST_EVALUATIONS))
    log.say(
        f"{tlp}, {training.shots} examples ({few.num_examples}), seed {training.seed}, learning "
        f"rate {rate:g}: {num_updates} updates of {epoch} per epoch; dev every {every}"
    )
    begun = {
        "tlp": str(tlp),
        "shots": training.shots,
        "examples": few.num_examples,
        "seed": training.seed,
        "lr": rate,
        "updates": num_updates,
        "update": num_updates,
        "dev": None,
    }
    plan = np.stack([np.zeros(num_updates, np.int64), np.arange(num_updates)], axis=1)
    one = build_supervised(
        model,
        Schedule([member], plan),
        loaded.dev,
        Padding.of(call.tokenizer),
        flags,
        TrainSettings(rate, flags.select, every, call.run.save_every, call.run.keep),
        flags=training.arguments(call, repr(rate)),
        data=_fingerprints(tlp, few),
        provenance=_provenance(call, training, begun, {}),
        seed=training.seed,
        eval_batch_size=call.run.eval_batch_size,
        folder=folder,
        placement=placement,
        log=log,
        stop=call.stop,
    )
    with one.loader:
        resume(one, call.run.resume)
        if not train(one):
            return False
        take_result(one)
    result = {
        **begun,
        "update": one.best.update if one.best else num_updates,
        "dev": one.dev.get(str(tlp)),
        "curve": one.curve,
        "distance": one.distance(),
        "identity": one.identity.as_json(),
    }
    with placement.together():
        log.raise_failure()
        if placement.is_main:
            history = _provenance(call, training, result, {})
            export_models(model, call.tokenizer, folder / "models", history)
        log.write_json("result.json", result)
        if placement.is_main:
            shutil.rmtree(folder / "checkpoints", ignore_errors=True)
        log.close_bar()
    return True


def choose(call: Call, training: Training, loaded: Loaded) -> None:
    """Keep the model whose rate is the better on dev, and score it on the test files."""
    tlp, folder = training.tlp, training.folder(call)
    trials = [
        _read(folder / f"lr_{rate:g}" / "result.json") for rate in call.flags.rates_of(tlp.task)
    ]
    metric = TASKS[tlp.task].metric
    # Of equals the first, which is the paper's first.
    best = max(trials, key=lambda trial: trial["dev"][metric] if trial["dev"] else 0.0)
    path = folder / f"lr_{best['lr']:g}" / "models" / tlp.task
    with call.placement.together():
        model = load_task_model(path, tlp.task, call.placement.device, call.flags.attention)
    scores = _test_scores(call, tlp, model, loaded)
    rates = ",".join(map(repr, call.flags.rates_of(tlp.task)))
    result = {
        **{k: v for k, v in best.items() if k not in ("identity", "curve", "dev")},
        "scores": ({"dev": best["dev"]} if best["dev"] else {}) | scores,
        "trials": [
            {k: trial[k] for k in ("lr", "update", "dev", "distance", "curve")} for trial in trials
        ],
        "identity": best["identity"] | {"arguments": training.arguments(call, rates)},
    }
    with call.placement.together():
        if call.placement.is_main:
            history = _provenance(call, training, best, scores, len(trials) > 1)
            export_models(model, call.tokenizer, folder / "models", history)
        RunLog(folder, call.placement).write_json("result.json", result)
        if call.placement.is_main:
            for trial in trials:
                shutil.rmtree(folder / f"lr_{trial['lr']:g}" / "models", ignore_errors=True)
    _say(call, training, result)


def score_start(call: Call, training: Training, loaded: Loaded) -> None:
    """Zero shots: the model of --init-from as it is."""
    tlp, folder = training.tlp, training.folder(call)
    with call.placement.together():
        model = call.origin.build(tlp.task, call.flags, training.seed).to(call.placement.device)
    dev = {"dev": loaded.dev[tlp]} if loaded.dev else {}
    scores = _scores(call, tlp, model, dev) | _test_scores(call, tlp, model, loaded)
    rates = ",".join(map(repr, call.flags.rates_of(tlp.task)))
    result = {
        "tlp": str(tlp),
        "shots": "0",
        "examples": 0,
        "seed": training.seed,
        "lr": None,
        "updates": 0,
        "update": 0,
        "distance": 0.0,
        "scores": scores,
        "trials": [],
        "identity": _identity(call, training, rates, loaded),
    }
    with call.placement.together():
        RunLog(folder, call.placement).write_json("result.json", result)
    _say(call, training, result)


def _test_scores(call: Call, tlp: TLP, model: Any, loaded: Loaded) -> Scores:
    scores = _scores(call, tlp, model, loaded.test)
    with call.placement.together():
        for split, values in scores.items():
            read = loaded.test[split].encoded.counts["read"]
            due = min(read, call.run.eval_examples or read)
            if values["examples"] != due:
                raise InputError(
                    f"{tlp} {split}: {values['examples']:.0f} of {due} examples were scored"
                )
    return scores


def _scores(call: Call, tlp: TLP, model: Any, splits: Mapping[str, EvalSplit]) -> Scores:
    padding, size = Padding.of(call.tokenizer), call.run.eval_batch_size
    return {
        name: Evaluator(model, {tlp: split}, padding, size, call.placement).scores()[tlp]
        for name, split in splits.items()
    }


def _provenance(
    call: Call,
    training: Training,
    trial: Mapping[str, Any],
    scores: Scores,
    rate_chosen: bool = False,
) -> Provenance:
    """Of the model of one trial, with what it started from."""
    before, own = call.origin.history, (str(training.tlp),)
    selected = dict(before.selected_on) if before else {}
    if call.flags.select == "best" and trial["dev"]:
        selected["update of finetuning"] = own
    if rate_chosen:
        selected["learning rate of finetuning"] = own
    by_split = ({"dev": trial["dev"]} if trial["dev"] else {}) | scores
    details = {
        "script": "finetune.py",
        "arguments": training.arguments(call, repr(trial["lr"])),
        "started from": before.system if before else "the encoder",
        "examples": trial["examples"],
        "learning rate": trial["lr"],
        "updates": f"{trial['update']} of {trial['updates']}",
        "seed": training.seed,
    }
    return Provenance(
        system="finetuned",
        encoder=call.resolved()["model"] if before is None else before.encoder,
        trained_on=tuple(dict.fromkeys([*(before.trained_on if before else ()), *own])),
        selected_on=selected,
        limits=call.data.limits(),
        details=details,
        scores={split: {own[0]: values} for split, values in by_split.items()},
    )


def _say(call: Call, training: Training, result: Mapping[str, Any]) -> None:
    metric = TASKS[training.tlp.task].metric
    scores = ", ".join(f"{k} {100 * v[metric]:.2f}" for k, v in result["scores"].items())
    tried = ", ".join(
        f"{trial['lr']:g}: {100 * trial['dev'][metric]:.2f}"
        for trial in result["trials"]
        if trial["dev"]
    )
    kept = f"; dev by learning rate: {tried}; kept {result['lr']:g}" if tried else ""
    call.log.say(
        f"{training.tlp}, {training.shots} examples, seed {training.seed}: {metric} {scores}{kept}"
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"{path}: {error.strerror}; all processes must see --output-dir"
        ) from error
    except ValueError as error:
        raise InputError(f"{path}: damaged ({error}); remove its folder to train anew") from error


def results(call: Call, tlps: tuple[TLP, ...]) -> list[dict[str, Any]]:
    """The results of all trainings of the call, in their order."""
    return [
        _read(training.folder(call) / "result.json")
        for tlp in tlps
        for training in trainings_of(call, tlp)
    ]
