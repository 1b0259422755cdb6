"""The trainings of one call of finetune.py: of what, which rate is kept, and what it scores.

    OUT/args.json, results.json, results.csv, results.md
    OUT/TLP/[shots_N/]seed_S/result.json, terms.npz, models/TASK/
    OUT/TLP/[shots_N/]seed_S/lr_X/result.json, metrics.jsonl; checkpoints/ and models/ on the way

A training is a function of its own flags, so trainings that are finished are left out when a call
goes on, also with more TLPs, seeds or shots than before. In all of this every rank takes part, and
all must see the same OUT.
"""

from __future__ import annotations

import dataclasses
import gc
import shutil
from collections.abc import Mapping
from contextlib import closing
from typing import Any

import numpy as np

from metatlp.data.schedule import Member, Schedule
from metatlp.engine.models import export_models, load_task_model
from metatlp.engine.parameters.whole import whole_model
from metatlp.engine.run_log import RunLog
from metatlp.engine.scoring.evaluation import EvalSplit, Evaluator
from metatlp.engine.scoring.terms_file import write_terms
from metatlp.engine.supervised.build import build_supervised
from metatlp.engine.supervised.call import Call, Finetuning, Loaded, finetunings
from metatlp.engine.supervised.loop import Supervised, TrainSettings, resume, take_result, train
from metatlp.engine.supervised.records import (
    FREE,
    Step,
    has_result,
    provenance_of,
    read_result,
    result_line,
)
from metatlp.errors import InputError
from metatlp.grid import TLP
from metatlp.tasks import TASKS
from metatlp.tasks.metrics import Terms, scores
from metatlp.tasks.task import Padding

MOST_EVALUATIONS = 20  # of one training, without --eval-every


def finetune(one: Finetuning) -> bool:
    """Train with every rate, choose and score, unless it is done; False if a signal stopped it."""
    call, done = one.call, False
    with call.placement.together():
        done = has_result(one, one.folder, *one.rates)
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
        done = has_result(one, folder, rate)
        if not done:
            log.check_folder(call.run.resume)
            log.open(one.arguments(rate))
    if not done:
        run, step = _build(one, rate, log)
        with closing(run):
            resume(run, call.run.resume)
            if not train(run):
                return False
            take_result(run)
            _write(one, run, step, log)
        # DeepSpeed's and FSDP2's objects refer to each other; the next training needs the memory.
        del run
        gc.collect()
    if placement.is_main:
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    return True


def _build(one: Finetuning, rate: float, log: RunLog) -> tuple[Supervised, Step]:
    call, tlp, flags = one.call, one.tlp, one.call.flags
    with call.placement.together():
        few = one.examples()
        size = call.data.batch_sizes()[tlp.task]
        member = Member.of({tlp: few}, size, one.seed)
        model = call.origin.build(tlp.task, flags, one.seed)
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
        mesh=call.mesh,
        log=log,
        stop=call.stop,
    )
    return run, step


def _write(one: Finetuning, run: Supervised, begun: Step, log: RunLog) -> None:
    """The model, and then result.json, which says that the training is finished."""
    update = run.best.update if run.best else begun.updates
    step = dataclasses.replace(begun, update=update, dev=run.dev.get(str(one.tlp)))
    step = dataclasses.replace(step, evaluations=len(run.curve))
    model = whole_model(run.parameters, one.call.placement)
    distance = run.distance()
    with one.call.placement.together():
        log.raise_failure()
        if one.call.placement.is_main:
            path = log.folder / "models"
            export_models(model, one.call.tokenizer, path, provenance_of(one, step))
        more = {"curve": run.curve, "distance": distance, "identity": run.identity.as_json()}
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
    terms = _test_terms(one, model)
    tested = {split: scores(own) for split, own in terms.items()}
    step = Step(**{item.name: best[item.name] for item in dataclasses.fields(Step)})
    kept = ("lr", "update", "dev", "distance", "curve")
    result = {
        **_head(one),
        **{k: best[k] for k in ("lr", "examples", "updates", "update", "distance")},
        "scores": ({"dev": best["dev"]} if best["dev"] else {}) | tested,
        "trials": [{name: trial[name] for name in kept} for trial in trials],
        "identity": best["identity"] | {"arguments": one.arguments(*one.rates)},
    }
    with call.placement.together():
        if call.placement.is_main:
            history = provenance_of(one, step, tested, num_rates=len(trials))
            export_models(model, call.tokenizer, one.folder / "models", history)
            _write_terms(one, terms)
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
    on_dev, terms = _terms(one, model, dev), _test_terms(one, model)
    result = {
        **_head(one),
        **{"lr": None, "examples": 0, "updates": 0, "update": 0, "distance": 0.0},
        "scores": {split: scores(own) for split, own in (on_dev | terms).items()},
        "trials": [],
        "identity": one.identity(*one.rates).as_json(),
    }
    with call.placement.together():
        if call.placement.is_main:
            _write_terms(one, terms)
        RunLog(one.folder, call.placement).write_json("result.json", result)
    call.log.say(result_line(tlp, result))


def _write_terms(one: Finetuning, terms: Mapping[str, Terms]) -> None:
    """terms.npz, with SPLIT/METRIC -> (N, L, 2)."""
    named = {f"{split}/{name}": part for split, own in terms.items() for name, part in own.items()}
    try:
        write_terms(one.folder, named)
    except OSError as error:
        raise InputError(f"--output-dir {one.folder}: {error.strerror or error}") from error


def _test_terms(one: Finetuning, model: Any) -> dict[str, Terms]:
    found = _terms(one, model, one.loaded.test)
    with one.call.placement.together():
        for split, terms in found.items():
            read = one.loaded.test[split].encoded.counts["read"]
            due = min(read, one.call.run.eval_examples or read)
            done = scores(terms)["examples"]
            if done != due:
                raise InputError(f"{one.tlp} {split}: {done:.0f} of {due} examples were scored")
    return found


def _terms(one: Finetuning, model: Any, splits: Mapping[str, EvalSplit]) -> dict[str, Terms]:
    padding, size = Padding.of(one.call.tokenizer), one.call.run.eval_batch_size
    place = (padding, size, one.call.placement)
    return {
        name: Evaluator(model, {one.tlp: split}, *place).terms()[one.tlp]
        for name, split in splits.items()
    }


def results(call: Call, loaded: Mapping[TLP, Loaded]) -> list[dict[str, Any]]:
    """The results of all, in their order."""
    return [read_result(one.folder) for one in finetunings(call, loaded)]
