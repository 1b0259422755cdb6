"""What a meta-training run writes and reads back: metrics, scores, checkpoints, models.

In all of these every rank takes part; the main process writes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from typing import Any

from metatlp.engine import checkpoint
from metatlp.engine.checks import check_finite, check_invariants
from metatlp.engine.inner import SlotReport
from metatlp.engine.models import export_models
from metatlp.engine.overview import score_lines
from metatlp.engine.parameters.saving import save_parameters
from metatlp.engine.parameters.whole import whole_model
from metatlp.engine.placement import AgreedError, raise_first
from metatlp.engine.provenance import of_meta_run
from metatlp.engine.rewards import RewardReport
from metatlp.engine.run_log import code_commit, timed
from metatlp.engine.same_run import moved_line, where_it_runs
from metatlp.engine.training import Training
from metatlp.tasks import TASKS


def record_step(
    training: Training,
    reports: list[SlotReport],
    lr: float,
    elapsed: Callable[[], float],
    signal_name: str | None,
) -> str | None:
    """Write the step's metrics; return the signal that any rank received. All ranks take part."""
    state = training.state
    # All ranks of a TLP group report the same.
    leads = state.strategy.mesh.leads
    own = [asdict(report) | {"loss": report.loss} for report in reports if leads]
    entry = {"reports": own, "signal": signal_name, "failure": state.strategy.failure}
    gathered = training.placement.gather([entry | {"log": training.log.failure}])
    raise_first(e["log"] for e in gathered)
    slots = sorted((r for e in gathered for r in e["reports"]), key=lambda r: r["slot"])
    tokens, seconds = sum(r["tokens"] for r in slots), elapsed()
    loss = sum(r["loss"] for r in slots) / len(slots)
    moved = state.strategy.distance(training.theta_0)
    check_finite(slots, [e["failure"] for e in gathered], moved, state.step)
    if training.run.debug:
        check_invariants(state.strategy)
    training.log.record(
        {
            "step": state.step,
            "loss": loss,
            "lr": lr,
            "tokens": tokens,
            "seconds": seconds,
            "distance": moved,
            "slots": slots,
        }
    )
    numbers = {"loss": loss, "lr": lr, "tokens_per_second": tokens / seconds, "distance": moved}
    training.log.track(state.step, numbers)
    training.log.progress(state.step, training.num_steps, loss, tokens / seconds)
    return next((e["signal"] for e in gathered if e["signal"]), None)


def record_update(training: Training, report: RewardReport, seconds: float) -> None:
    """Write what the sampler was given, and what it made of it."""
    if training.run.debug:
        check_invariants(training.state.strategy)
    rewards, now = _by_tlp(training, report.rewards), _probabilities(training)
    training.log.record(
        {
            "step": training.state.step,
            "seconds": seconds,
            "passes": sum(report.passes),
            "passes_by_rank": report.passes,
            "tokens": report.tokens,
            "rewards": rewards,
            "reliability": report.reliability,
            "reliability_within_tasks": report.reliability_within_tasks,
            **now,
            "norms": _finite(report.norms),
            "dev_norms": _finite(report.dev_norms),
            "unusable": report.unusable,
        }
    )
    curves = {f"reward/{tlp}": value for tlp, value in rewards.items()}
    curves |= {f"p/{tlp}": value for tlp, value in now["p"].items()}
    training.log.track(training.state.step, curves)


def record_probabilities(training: Training) -> None:
    """Write what a sampler that learns begins with."""
    training.log.record({"step": training.state.step, "seconds": 0.0, **_probabilities(training)})


def _probabilities(training: Training) -> dict[str, Any]:
    """p and psi by TLP; psi is None where the sampler has none."""
    sampler = training.state.sampler
    psi = None if sampler.psi is None else _by_tlp(training, sampler.psi)
    return {"p": _by_tlp(training, sampler.probs()), "psi": psi}


def _by_tlp(training: Training, values: Iterable[float]) -> dict[str, float]:
    arms = training.grid_data.grid.tlps
    return {str(tlp): float(value) for tlp, value in zip(arms, values, strict=True)}


def _finite(numbers: Mapping[str, float]) -> dict[str, float | None]:
    """JSON has no infinity and no NaN."""
    return {name: value if math.isfinite(value) else None for name, value in numbers.items()}


def evaluate(training: Training) -> dict[str, dict[str, float]]:
    """Score the dev splits at theta: TLP -> metrics. All ranks take part."""
    elapsed = timed()
    scores = training.evaluator.scores()
    by_name = {str(tlp): values for tlp, values in scores.items()}
    training.log.record({"step": training.state.step, "seconds": elapsed(), "dev": by_name})
    headline = {str(tlp): values[TASKS[tlp.task].metric] for tlp, values in scores.items()}
    training.log.track(training.state.step, {f"dev/{k}": v for k, v in headline.items()})
    for line in score_lines(training.state.step, scores):
        training.log.say(line)
    return by_name


def save(training: Training) -> None:
    """Write a checkpoint (main process). All ranks take part, so that an error ends them all."""
    state, log = training.state, training.log
    num_records = 0
    with training.placement.together():
        log.raise_failure()
        if training.placement.is_main:
            num_records = log.num_records()
    here = where_it_runs(training.placement)
    path = save_parameters(
        training.placement,
        state.strategy.parameters,
        state.vectors(),
        training.folder / "checkpoints",
        state.step,
        state.as_json(training.identity, here, num_records),
        state.small_tensors(),
        training.run.keep,
    )
    log.say(f"saved {path}")


def resume(training: Training) -> None:
    """Take up the checkpoint that --resume asks for, if there is one. All ranks take part."""
    asked, state, log = training.run.resume, training.state, training.log
    if asked is None:
        return
    folder = training.folder / "checkpoints"
    with training.placement.together():
        saved = checkpoint.find(folder, asked, log.say)
        if saved is not None:
            state.restore(saved, training.identity)
    if len(set(training.placement.gather([state.step]))) > 1:
        raise AgreedError(f"--resume: not all processes find the same checkpoints in {folder}")
    if saved is not None:
        state.strategy.parameters.publish()
    with training.placement.together():
        if training.placement.is_main:
            for later in checkpoint.set_aside(folder, state.step):
                log.say(f"set aside, being of a later step: {later}")
            log.take_up(saved.state["num_records"] if saved else 0)
    if saved is None:
        log.say(f"--resume auto: no checkpoint in {folder}; starting at step 0")
    else:
        log.say(f"resumed {saved.path} after {state.step} meta steps")
        moved = moved_line(saved.state.get("placement", {}), where_it_runs(training.placement))
        if moved:
            log.say(moved)


def finish(training: Training) -> None:
    """Score the last theta and export one ordinary model per task. All ranks take part."""
    training.stop.at_once(
        "stopped after the last meta step, which is saved, but before the last evaluation and the "
        "models were complete; for these give the same command with --resume auto"
    )
    scores = evaluate(training)
    folder = training.folder / "models"
    model = whole_model(training.state.strategy.parameters, training.placement)
    with training.placement.together():
        training.log.raise_failure()
        if training.placement.is_main:
            state = {**training.identity.as_json(), "step": training.state.step}
            more = {"encoder_revision": model.revision, "commit": code_commit()}
            provenance = of_meta_run(state, {"dev": scores}, more)
            export_models(model, training.tokenizer, folder, provenance)
    training.log.say(f"finished {training.num_steps} meta steps; models in {folder}")


def say_stopped(training: Training, signal_name: str) -> None:
    training.log.say(
        f"{signal_name}: stopped after meta step {training.state.step} of {training.num_steps} and "
        "saved; go on with the same command and --resume auto"
    )
