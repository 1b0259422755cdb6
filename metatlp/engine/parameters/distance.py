"""How far a TLP group's parameters are from others. P_r: elements of a rank's vectors."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from metatlp.engine.parameters.protocol import Parameters


def distance(parameters: Parameters, a: Tensor, b: Tensor) -> float:
    """2-norm of a - b over all shards. The ranks of the TLP group take part.

    Args:
        a, b: (P_r,) laid out as the parameters.
    """
    own = _norm(a, b)
    if parameters.replicated:
        return own
    square = torch.tensor(own**2, dtype=torch.float64)
    return math.sqrt(parameters.mesh.sum_within(square).item())


def _norm(a: Tensor, b: Tensor) -> float:
    """Of parts in float32, of the parts' norms in float64."""
    # On a CPU the scratch has to stay in the cache; an accelerator wants few launches.
    size = 2**18 if a.device.type == "cpu" else 2**24
    scratch = torch.empty_like(a[:size])
    norms = [
        torch.linalg.vector_norm(torch.sub(x, y, out=scratch[: len(x)]))
        for x, y in zip(a.split(size), b.split(size), strict=True)
    ]
    return torch.stack(norms).double().norm().item()
