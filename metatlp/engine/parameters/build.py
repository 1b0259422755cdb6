"""From a model to a placement of its parameters: that which the launcher's settings name."""

from __future__ import annotations

from metatlp.engine.adamw import InnerConfig
from metatlp.engine.mesh import Mesh
from metatlp.engine.parameters.fsdp import build_fsdp
from metatlp.engine.parameters.protocol import Parameters
from metatlp.engine.parameters.replicated import ReplicatedParameters
from metatlp.engine.placement import Placement
from metatlp.model.arena import Arena
from metatlp.model.multitask import MultiTaskModel


def build_parameters(
    model: MultiTaskModel,
    config: InnerConfig,
    placement: Placement,
    mesh: Mesh,
    num_parts: int = 1,
    exact: bool = False,
) -> Parameters:
    """The parameters of a model, placed. Every rank takes part.

    Args:
        model: whole, on any device.
        num_parts: in which every batch is cut; a multiple of the ranks per TLP.
        exact: sum parts' gradients in 64-bit fixed point, where the placement can.
    """
    kind, precision = placement.sharding.kind, placement.accelerator.mixed_precision
    if kind == "deepspeed":
        # Here, for it imports DeepSpeed.
        from metatlp.engine.parameters.zero_build import build_zero

        given, own = placement.sharding.deepspeed, num_parts // mesh.ranks_per_tlp
        return build_zero(model, mesh, config, given, mixed_precision=precision, num_parts=own)
    if kind == "fsdp":
        return build_fsdp(model, mesh, config, precision, placement.device)
    arena = Arena(model.to(placement.device).named_uses())
    autocast = placement.accelerator.autocast
    return ReplicatedParameters(model, arena, config, autocast, mesh, num_parts, exact)
