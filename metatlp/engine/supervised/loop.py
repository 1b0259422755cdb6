"""Ordinary training, on one task-language pair or on a mixture: the loop of finetune.py and
train_mtl.py, and what it writes and reads back.

State is (parameters, AdamW's moments, the best parameters so far, number of updates). In all of
these functions every rank takes part; the main process writes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from metatlp.data.schedule import PartLoader
from metatlp.engine import checkpoint
from metatlp.engine.checkpoint import Checkpoint
from metatlp.engine.overview import score_lines
from metatlp.engine.parameters.distance import distance
from metatlp.engine.parameters.protocol import Parameters
from metatlp.engine.parameters.saving import save_parameters
from metatlp.engine.placement import AgreedError, Placement
from metatlp.engine.plan import linear_decay
from metatlp.engine.provenance import Provenance
from metatlp.engine.run_log import RunLog, timed
from metatlp.engine.run_state import check_restorable, copy_pieces
from metatlp.engine.same_run import RunIdentity, moved_line, where_it_runs
from metatlp.engine.scoring.evaluation import Evaluator
from metatlp.engine.signals import StopRequest
from metatlp.engine.supervised.data_parallel import DataParallel, UpdateReport
from metatlp.errors import DivergedError
from metatlp.tasks import TASKS

LOG_EVERY = 50  # updates per line of metrics.jsonl


@dataclass(frozen=True)
class TrainSettings:
    """How long, how fast, and what happens on the way; in updates.

    Attributes:
        lr: learning rate of the first update; decays linearly to 0.
        select: `best` keeps the parameters with the best dev score, `last` the last ones.
        eval_every: updates between dev evaluations; 0: at the end only.
        save_every: updates between checkpoints; 0: at the end only. keep: how many are kept.
    """

    lr: float
    select: str
    eval_every: int
    save_every: int
    keep: int


@dataclass(frozen=True)
class Best:
    """The parameters with the best dev score so far.

    Attributes:
        score: mean over the dev TLPs of each task's metric. scores: all of them, TLP by name.
        update: after which they were there. theta: (P,).
    """

    score: float
    scores: dict[str, dict[str, float]]
    update: int
    theta: Tensor


@dataclass
class Supervised:
    """The parts of a run: built once, used by the loop. The first group is its state.

    Attributes:
        update: finished updates.
        curve: dev scores so far, [update, mean over the dev TLPs of each task's metric].
        dev: the last dev scores, TLP by name.
        provenance: of the models to come, as far as it is known at the start.
    """

    parameters: Parameters
    update: int = 0
    best: Best | None = None
    curve: list[tuple[int, float]] = field(default_factory=list)

    settings: TrainSettings = field(kw_only=True)
    folder: Path = field(kw_only=True)
    placement: Placement = field(kw_only=True)
    log: RunLog = field(kw_only=True)
    loader: PartLoader = field(kw_only=True)
    parallel: DataParallel = field(kw_only=True)
    evaluator: Evaluator = field(kw_only=True)
    identity: RunIdentity = field(kw_only=True)
    provenance: Provenance = field(kw_only=True)
    free_flags: frozenset[str] = field(kw_only=True)
    stop: StopRequest = field(kw_only=True)
    theta_0: Tensor = field(kw_only=True)
    dev: dict[str, dict[str, float]] = field(default_factory=dict, kw_only=True)
    _unrecorded: list[UpdateReport] = field(default_factory=list, kw_only=True)
    _elapsed: Callable[[], float] = field(default_factory=timed, kw_only=True)

    @property
    def num_updates(self) -> int:
        return len(self.loader.schedule)

    def scheduled(self, update: int) -> bool:
        """Whether a checkpoint after this update was planned, and not a signal's."""
        every = self.settings.save_every
        return update == self.num_updates or bool(every and update % every == 0)

    def distance(self) -> float:
        """|theta - theta_0|."""
        return distance(self.parameters, self.parameters.live, self.theta_0)

    def close(self) -> None:
        """Stop the thread that builds batches, and let go of the parameters."""
        self.loader.close()
        self.parameters.close()


def train(run: Supervised) -> bool:
    """All updates, and the last dev evaluation. False if a signal stopped it before."""
    settings, schedule = run.settings, run.loader.schedule
    run.stop.after_step(run.placement.gather)
    run._elapsed = timed()
    while run.update < run.num_updates:
        # After the save, so that a run that goes on from there makes them up.
        if settings.eval_every and run.update and run.update % settings.eval_every == 0:
            evaluate(run)
        i = run.update
        report, stopped = run.parallel.step(
            schedule.member(i).task,
            run.loader.take(i),
            linear_decay(settings.lr, i, run.num_updates),
            i,
            run.stop.received is not None,
        )
        run._unrecorded.append(report)
        run.update += 1
        if stopped or run.scheduled(run.update):
            save(run)
        elif run.update % LOG_EVERY == 0:
            record(run)
        if stopped:
            run.log.say(
                f"stopped after update {run.update} of {run.num_updates} and saved; go on with the "
                "same command and --resume auto"
            )
            return False
    run.stop.at_once(
        "stopped after the last update, which is saved, but before all results were written; for "
        "these give the same command with --resume auto"
    )
    evaluate(run)
    return True


def evaluate(run: Supervised) -> None:
    """Score the dev splits, and remember the parameters if they are the best so far."""
    record(run)
    if not run.evaluator.splits:
        return
    scores = run.evaluator.scores()
    headlines = [values[TASKS[tlp.task].metric] for tlp, values in scores.items()]
    score = sum(headlines) / len(headlines)
    run.dev = {str(tlp): values for tlp, values in scores.items()}
    # A run that goes on evaluates again what it had not saved.
    run.curve = [entry for entry in run.curve if entry[0] != run.update]
    run.curve.append((run.update, score))
    run.log.record({"step": run.update, "seconds": run._elapsed(), "dev": run.dev})
    run._elapsed = timed()
    for line in score_lines(run.update, scores, "update"):
        run.log.say(line)
    better = run.best is None or score > run.best.score
    if run.settings.select == "best" and better:
        run.best = Best(score, run.dev, run.update, run.parameters.live.clone())


def take_result(run: Supervised) -> None:
    """Give the model the parameters that are the result: the best ones, if those are wanted."""
    if run.best is not None:
        run.parameters.live.copy_(run.best.theta)
        run.parameters.publish()
        run.dev = run.best.scores


def record(run: Supervised) -> None:
    """A line of metrics.jsonl on the updates since the last one."""
    own: list[dict[str, Any]] = [
        {"losses": report.losses(), "clipped": report.clipped.item(), "tokens": report.tokens}
        for report in run._unrecorded
    ]
    gathered = run.placement.gather([{"own": own, "failure": run.log.failure}])
    with run.placement.together():
        run.log.raise_failure()
    if not own:
        return
    first = run.update - len(own)
    names = [run.loader.schedule.member(i).name for i in range(first, run.update)]
    # Summed in the order of the parts, so that the number of ranks does not change a bit.
    losses = [
        sum(
            loss
            for _, loss in sorted(pair for entry in gathered for pair in entry["own"][i]["losses"])
        )
        for i in range(len(own))
    ]
    tokens = sum(report["tokens"] for entry in gathered for report in entry["own"])
    seconds = run._elapsed()
    run._elapsed, run._unrecorded = timed(), []
    moved = run.distance()
    if moved != moved or moved == float("inf"):
        raise DivergedError(f"update {run.update}: the parameters are no longer finite")
    mean = sum(losses) / len(losses)
    lr = linear_decay(run.settings.lr, run.update - 1, run.num_updates)
    run.log.record(
        {
            "step": run.update,
            "updates": len(own),
            "loss": mean,
            "losses": _means(names, losses),
            "lr": lr,
            "clipped": sum(report["clipped"] for report in own) / len(own),
            "tokens": tokens,
            "seconds": seconds,
            "distance": moved,
        }
    )
    speed = tokens / seconds
    run.log.track(run.update, {"loss": mean, "lr": lr, "tokens_per_second": speed})
    run.log.progress(run.update, run.num_updates, mean, speed)


def _means(names: list[str], values: list[float]) -> dict[str, float]:
    """Name -> mean of its values, in the order of the names."""
    grouped: dict[str, list[float]] = {}
    for name, value in zip(names, values, strict=True):
        grouped.setdefault(name, []).append(value)
    return {name: sum(grouped[name]) / len(grouped[name]) for name in sorted(grouped)}


def save(run: Supervised) -> None:
    """Write a checkpoint."""
    record(run)
    live, inner = run.parameters.live, run.parameters.state
    num_records = 0
    with run.placement.together():
        run.log.raise_failure()
        if run.placement.is_main:
            num_records = run.log.num_records()
    vectors = {"theta": live, "exp_avg": inner.exp_avg, "exp_avg_sq": inner.exp_avg_sq}
    if run.best is not None:
        vectors["best"] = run.best.theta
    state: dict[str, Any] = {
        **run.identity.as_json(),
        "provenance": run.provenance.as_json(),
        "placement": where_it_runs(run.placement),
        "num_records": num_records,
        "segments": [segment.name for segment in run.parameters.segments],
        "curve": run.curve,
        "best": run.best
        and {"score": run.best.score, "scores": run.best.scores, "update": run.best.update},
    }
    folder = run.folder / "checkpoints"
    # Those of signals are kept beside, so that none of the planned ones is lost for them.
    extra = sum(not run.scheduled(checkpoint.step_of(path)) for path in checkpoint.paths(folder))
    save_parameters(
        run.placement,
        run.parameters,
        vectors,
        folder,
        run.update,
        state,
        {"inner_steps": {"steps": inner.steps}},
        run.settings.keep + extra,
    )


def resume(run: Supervised, asked: str | None) -> None:
    """Take up the checkpoint that --resume asks for, if there is one.

    Raises:
        InputError: it is of another run, or damaged.
    """
    if asked is None:
        return
    folder = run.folder / "checkpoints"
    with run.placement.together():
        saved = checkpoint.find(folder, asked, run.log.say)
        if saved is not None:
            _restore(run, saved)
    if len(set(run.placement.gather([run.update]))) > 1:
        raise AgreedError(f"--resume: not all processes find the same checkpoints in {folder}")
    if saved is not None:
        run.parameters.publish()
    with run.placement.together():
        if run.placement.is_main:
            for later in checkpoint.set_aside(folder, run.update):
                run.log.say(f"set aside, being of a later step: {later}")
            run.log.take_up(saved.state["num_records"] if saved else 0)
    if saved is not None:
        run.log.say(f"resumed {saved.path} after {run.update} updates")
        moved = moved_line(saved.state.get("placement", {}), where_it_runs(run.placement))
        if moved:
            run.log.say(moved)


def _restore(run: Supervised, saved: Checkpoint) -> None:
    parameters, state = run.parameters, saved.state
    pieces, inner, live = parameters.pieces, parameters.state, parameters.live
    check_restorable(saved, run.identity, parameters.segments, run.free_flags)
    copy_pieces(saved, "theta", live, pieces)
    copy_pieces(saved, "exp_avg", inner.exp_avg, pieces)
    copy_pieces(saved, "exp_avg_sq", inner.exp_avg_sq, pieces)
    inner.steps.copy_(saved.tensors["inner_steps"]["steps"])
    if state["best"]:
        theta = live.clone()  # with the padding, which no checkpoint has
        copy_pieces(saved, "best", theta, pieces)
        run.best = Best(**state["best"], theta=theta)
    run.update = state["step"]
    run.curve = [(update, score) for update, score in state["curve"]]
