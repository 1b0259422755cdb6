"""Making ZeRO parameters: the engine, and flat vectors in the place of DeepSpeed's masters.

Knows DeepSpeed's public entrance and the mesh; knows no batch and no step.
P_r: elements of this rank's vectors; R: ranks of a TLP group; S: segments.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from metatlp.engine.adamw import InnerConfig, InnerState
from metatlp.engine.mesh import Mesh
from metatlp.engine.parameters import deepspeed_internals
from metatlp.engine.parameters.deepspeed_internals import Master
from metatlp.engine.parameters.pieces import Piece, Pieces
from metatlp.engine.parameters.zero import SegmentAdamW, ZeroParameters
from metatlp.engine.parameters.zero_config import zero_config
from metatlp.errors import InputError
from metatlp.model.arena import ALIGNMENT, Segment, by_tasks
from metatlp.model.multitask import MultiTaskModel

Uses = Mapping[str, tuple[nn.Parameter, frozenset[str]]]


class _TLPGroup:
    """A TLP group as the `mpu` of `deepspeed.initialize`: its ranks are all there are."""

    def __init__(self, mesh: Mesh):
        self._mesh = mesh

    def get_data_parallel_group(self) -> dist.ProcessGroup:
        return self._mesh.within or self._mesh.alone

    def get_data_parallel_world_size(self) -> int:
        return self._mesh.ranks_per_tlp

    def get_data_parallel_rank(self) -> int:
        return self._mesh.member

    def get_model_parallel_group(self) -> dist.ProcessGroup:
        return self._mesh.alone

    def get_model_parallel_world_size(self) -> int:
        return 1

    def get_model_parallel_rank(self) -> int:
        return 0


def build_zero(
    model: MultiTaskModel,
    mesh: Mesh,
    inner: InnerConfig,
    given: Mapping[str, Any],
    *,
    mixed_precision: str = "no",
    num_parts: int = 1,
) -> ZeroParameters:
    """Hand the model's parameters over to DeepSpeed. Every rank of the world takes part.

    Before the process group is started, `deepspeed_internals.before_process_group` is due.

    Args:
        model: float32, the same on all ranks; its parameters become DeepSpeed's, and it is moved to
            the rank's device.
        given: the configuration of Accelerate's plugin (its `deepspeed_config`).
        mixed_precision: `no` or `bf16`.
        num_parts: in which a batch is cut, per rank; for a check of `given` alone.

    Raises:
        InputError: a setting that would not be obeyed, DeepSpeed is missing or not a known version,
            or the parameters were cut before.
    """
    settings = zero_config(
        given,
        ranks=mesh.ranks_per_tlp,
        num_parts=num_parts,
        grad_clip=inner.grad_clip,
        mixed_precision=mixed_precision,
    )
    deepspeed_internals.before_initialize()
    uses = model.named_uses()
    _refuse_cut(uses)
    shapes = {name: parameter.shape for name, (parameter, _) in uses.items()}
    # Before bf16 rounds them, and before stage 3 takes them away.
    weights = {name: p.detach().to("cpu", copy=True) for name, (p, _) in uses.items()}
    groups = by_tasks(uses)
    optimizer = SegmentAdamW([[uses[n][0] for n in names] for names in groups.values()], inner)
    engine = _initialize(model, optimizer, settings, mesh)
    internals = deepspeed_internals.opened(engine)
    masters = list(internals.masters())
    spans, length = _spans(masters)
    live = _moved(masters, spans, length)
    internals.relink()
    state = InnerState.zeros(live, len(groups))
    optimizer.keep_state_in(state, masters, spans)
    own = _pieces(masters, spans, {p: name for name, (p, _) in uses.items()}, shapes)
    for piece in own:
        live[piece.span] = weights[piece.name].flatten()[piece.begin : piece.end]
    internals.publish()
    segments = _segments(list(groups), masters, spans)
    return ZeroParameters(
        engine, internals, optimizer, mesh, inner, live, state, segments, Pieces(shapes, own)
    )


def _refuse_cut(uses: Uses) -> None:
    """Raise InputError if `deepspeed.zero.Init` has cut the parameters over the whole world."""
    if any(hasattr(parameter, "ds_id") for parameter, _ in uses.values()):
        raise InputError(
            "DeepSpeed configuration: zero3_init_flag must be false; it cuts the model over all "
            "ranks, and not over those of a TLP group"
        )


def _initialize(
    model: MultiTaskModel, optimizer: SegmentAdamW, settings: dict[str, Any], mesh: Mesh
) -> Any:
    """The engine. Every rank of the world takes part."""
    import deepspeed

    log = logging.getLogger("DeepSpeed")
    level = log.level
    # It would warn, once per rank, of an optimizer that it has not tested.
    log.setLevel(logging.ERROR)
    try:
        engine, *_ = deepspeed.initialize(
            model=model,
            optimizer=optimizer,
            config=settings,
            mpu=_TLPGroup(mesh),
            dist_init_required=False,
        )
    finally:
        log.setLevel(level)
    return engine


def _spans(masters: Sequence[Master]) -> tuple[list[slice], int]:
    """Where the masters go in the flat vectors, each at a multiple of ALIGNMENT; and P_r."""
    spans, end = [], 0
    for master in masters:
        spans.append(slice(end, end + master.tensor.numel()))
        end = -(-spans[-1].stop // ALIGNMENT) * ALIGNMENT
    return spans, end


def _moved(masters: Sequence[Master], spans: Sequence[slice], length: int) -> Tensor:
    """A zeroed vector (P_r,), the masters' data from now on."""
    first = masters[0].tensor
    live = torch.zeros(length, device=first.device, pin_memory=first.is_pinned())
    for master, span in zip(masters, spans, strict=True):
        assert master.tensor.dtype == torch.float32 and master.tensor.device == first.device
        master.tensor.data = live[span]
    return live


def _pieces(
    masters: Sequence[Master],
    spans: Sequence[slice],
    names: Mapping[nn.Parameter, str],
    shapes: Mapping[str, torch.Size],
) -> list[Piece]:
    pieces = []
    for master, span in zip(masters, spans, strict=True):
        for held in master.held:
            name = names[held.parameter]
            offset = span.start + held.offset
            pieces.append(Piece(name, shapes[name], held.begin, held.end, offset))
    return pieces


def _segments(
    tasks: Sequence[frozenset[str]], masters: Sequence[Master], spans: Sequence[slice]
) -> list[Segment]:
    """One per parameter group; each ends where the next begins."""
    starts: dict[int, int] = {}
    for master, span in zip(masters, spans, strict=True):
        starts.setdefault(master.group, span.start)
    edges = [starts[i] for i in range(len(tasks))] + [_spans(masters)[1]]
    return [
        Segment.of(own, start, stop)
        for own, start, stop in zip(tasks, edges[:-1], edges[1:], strict=True)
    ]
