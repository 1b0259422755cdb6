"""From flags to the parts of an ordinary training run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from metatlp.data.schedule import PartLoader, Schedule
from metatlp.engine.adamw import InnerConfig
from metatlp.engine.arguments.supervised import UpdateArguments
from metatlp.engine.checkpoint import newest_state
from metatlp.engine.mesh import Mesh, build_mesh
from metatlp.engine.parameters.build import build_parameters
from metatlp.engine.placement import Placement
from metatlp.engine.provenance import Provenance
from metatlp.engine.run_log import RunLog
from metatlp.engine.same_run import RunIdentity, check_same_run, checksum
from metatlp.engine.scoring.evaluation import EvalSplit, Evaluator
from metatlp.engine.signals import StopRequest
from metatlp.engine.supervised.data_parallel import DataParallel
from metatlp.engine.supervised.loop import Supervised, TrainSettings
from metatlp.errors import InputError
from metatlp.grid import TLP
from metatlp.model.multitask import MultiTaskModel
from metatlp.tasks.task import Padding


def num_parts(arguments: UpdateArguments, placement: Placement) -> int:
    """--batch-parts, or one per process.

    Raises:
        InputError: fewer parts than processes; under DeepSpeed and FSDP, where all make the same
            passes at once, also no multiple of them, or exact sums, which they do not make.
    """
    parts = arguments.batch_parts or placement.world
    if parts < placement.world:
        raise InputError(
            f"--batch-parts {parts}: {placement.world} processes need a part each; start fewer"
        )
    if placement.sharding.kind != "none" and parts % placement.world:
        raise InputError(
            f"--batch-parts {parts}: under {placement.sharding.describe()} it must be a multiple "
            f"of the number of processes, {placement.world}"
        )
    if placement.sharding.kind != "none" and arguments.reduce == "exact":
        raise InputError(
            f"--reduce exact: {placement.sharding.describe()} sums gradients in floating point; "
            "use --reduce fp32"
        )
    return parts


def one_group(placement: Placement) -> Mesh:
    """All ranks as one TLP group. Every rank takes part, once in a call of a script."""
    return build_mesh(placement.rank, placement.world, placement.world, placement.device)


def build_supervised(
    model: MultiTaskModel,
    schedule: Schedule,
    dev: Mapping[TLP, EvalSplit],
    padding: Padding,
    arguments: UpdateArguments,
    settings: TrainSettings,
    *,
    flags: Mapping[str, Any],
    data: Mapping[str, str],
    provenance: Provenance,
    free_flags: frozenset[str],
    seed: int,
    eval_batch_size: int,
    folder: Path,
    placement: Placement,
    mesh: Mesh,
    log: RunLog,
    stop: StopRequest,
) -> Supervised:
    """A run at its first update. Every rank takes part.

    Args:
        model: whole, on any device.
        schedule: the batch of every update.
        dev: what is scored on the way.
        flags: resolved, those of this run alone. data: fingerprints of what it trains on.
        provenance: of its models, as far as it is known now.
        free_flags: those that may change when it goes on.
        seed: of the dropout masks.
        folder: of its records and checkpoints.
        mesh: of `one_group`.

    Raises:
        InputError: a rank differs from the others.
    """
    config = InnerConfig(weight_decay=arguments.weight_decay, grad_clip=arguments.grad_clip)
    parts, exact = num_parts(arguments, placement), arguments.reduce == "exact"
    theta_0 = checksum(model)
    parameters = build_parameters(model, config, placement, mesh, parts, exact)
    parallel = DataParallel(parameters, seed, parts, placement)
    identity = RunIdentity(
        arguments=flags,
        data=data,
        num_steps=len(schedule),
        mixed_precision=placement.accelerator.mixed_precision,
        theta_0=theta_0,
    )
    check_same_run(identity, placement)
    return Supervised(
        parameters,
        settings=settings,
        folder=folder,
        placement=placement,
        log=log,
        loader=PartLoader(
            schedule,
            padding,
            parts,
            parallel.own_parts(),
            pin_memory=placement.device.type == "cuda",
        ),
        parallel=parallel,
        evaluator=Evaluator(
            model, dev, padding, eval_batch_size, placement, mesh if parameters.lockstep else None
        ),
        identity=identity,
        provenance=provenance,
        free_flags=free_flags,
        stop=stop,
        theta_0=parameters.live.clone(),
    )


def inner_steps_of(run: str) -> int:
    """The inner steps of a run of train_meta.py: meta steps * m * k.

    Raises:
        InputError: it is none, or has saved nothing.
    """
    try:
        state = newest_state(Path(run))
        flags = state["arguments"]
        made, planned = state["step"], state["num_steps"]
        number = planned * flags["meta_batch_size"] * flags["inner_steps"]
    except InputError as error:
        raise InputError(f"--match-updates {run}: {error}") from error
    except (KeyError, TypeError) as error:
        raise InputError(f"--match-updates {run}: not a run of train_meta.py") from error
    if made < planned:
        raise InputError(
            f"--match-updates {run}: has made {made} of its {planned} meta steps; finish it first"
        )
    return number
