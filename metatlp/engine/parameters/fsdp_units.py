"""FSDP2 applied to a model: what is gathered at once, in which precision, and how gradients add up.

A unit is a layer of the encoder, or its word embeddings; what is left (heads, position embeddings)
is one more, which stays gathered during a pass. Knows modules and process groups; knows no
optimizer. The tasks' models share modules, so each is found once.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

from metatlp.engine.mesh import Mesh
from metatlp.model.multitask import MultiTaskModel

# FSDP2's hooks on logits would be lost if they were changed in place. No loss does that.
warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor")


def shard(model: MultiTaskModel, mesh: Mesh, mixed_precision: str, device: torch.device) -> None:
    """Shard the model over this rank's TLP group, in place. Every rank of it takes part.

    Args:
        model: in float32, the same on every rank, on the device or not yet.
        mixed_precision: `no`, or `bf16`: what layers are gathered and computed in. Parameters and
            sums of gradients stay in float32, and logits leave the model in it.
    """
    assert mixed_precision in ("no", "bf16")
    dtype = torch.bfloat16 if mixed_precision == "bf16" else None
    inner = MixedPrecisionPolicy(dtype, torch.float32)
    outer = MixedPrecisionPolicy(dtype, torch.float32, output_dtype=torch.float32)
    over = DeviceMesh.from_group(mesh.within or mesh.alone, device.type)
    embeddings = _embeddings(model)
    # Freed after every forward pass, the outermost too: a later pass would use what is still
    # gathered, and not what was written to the shards meanwhile.
    for module in [*_layers(model), *embeddings]:
        fully_shard(module, mesh=over, reshard_after_forward=True, mp_policy=inner)
    fully_shard(model, mesh=over, reshard_after_forward=True, mp_policy=outer)
    for module in model.modules():
        if isinstance(module, FSDPModule):
            # Sums over the ranks, not means: losses are weighted by the rows of their parts.
            unit = cast(FSDPModule, module)
            unit.set_gradient_divide_factor(1.0)
            unit.set_force_sum_reduction_for_comms(True)
    for module in embeddings:
        # Their gradient depends on the ids alone: the largest matrix is gathered once, not twice.
        cast(FSDPModule, module).set_unshard_in_backward(False)


def _layers(model: MultiTaskModel) -> list[nn.Module]:
    """The encoder's layers, whatever its family: what its lists of modules hold."""
    models: Any = model.models.values()
    found = {id(layer): layer for each in models for layer in _listed(each.base_model, False)}
    return list(found.values())


def _listed(module: nn.Module, is_list: bool) -> Iterator[nn.Module]:
    """The modules with parameters in the outermost lists of a module."""
    for child in module.children():
        if isinstance(child, nn.ModuleList):
            yield from _listed(child, True)
        elif not is_list:
            yield from _listed(child, False)
        elif next(child.parameters(), None) is not None:
            yield child


def _embeddings(model: MultiTaskModel) -> list[nn.Module]:
    """The encoder's word embeddings, where transformers knows them."""
    models: Any = model.models.values()
    found = {}
    for each in models:
        try:
            embeddings = each.get_input_embeddings()
        except NotImplementedError:
            continue
        if isinstance(embeddings, nn.Embedding):
            found[id(embeddings)] = embeddings
    return list(found.values())
