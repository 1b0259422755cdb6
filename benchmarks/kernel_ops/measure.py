"""Clocks: the ways of one case in turn, round by round, and a copy of as many bytes among them.

Knows no operation. All times are in seconds.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kernel_ops.cases import EXPONENT, Case, Vectors
from kernel_ops.models import Shapes

PERCENTILES = (20, 50, 80)
COPY = "copy_"
# Of what is free: the rest is the allocator's, and other programs'.
USABLE = 0.9
_FLUSH = 2**28  # bytes: more than any cache


def available(device: torch.device) -> int:
    """Bytes that can be allocated."""
    if device.type == "cuda":
        return int(USABLE * torch.cuda.mem_get_info(device)[0])
    info = Path("/proc/meminfo")
    lines = info.read_text().splitlines() if info.exists() else []
    free = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")]
    return int(USABLE * free[0]) if free else 2**62


def copied_bytes(case: Case, num_elements: int, free: int) -> int:
    """Read and written by the copy: as many as by the operation, a tenth of the memory at most."""
    return min(case.bytes_per_element() * num_elements, free // 10)


def memory_needed(case: Case, way: str, num_elements: int, free: int) -> int:
    """Bytes: all vectors, what the way makes beside them, and the two ends of the copy."""
    held = (case.held() + case.scratch[way]) * num_elements
    return held + copied_bytes(case, num_elements, free)


def time_case(
    case: Case,
    ways: list[str],
    vectors: Vectors,
    shapes: Shapes,
    num_copied: int,
    rounds: int,
    warmup: int,
) -> dict[str, list[float]]:
    """Way, or `copy_` -> seconds of each round. Who comes first is turned from round to round."""
    device = next(iter(vectors.values())).device
    ends = [torch.zeros(max(1, num_copied // 2), dtype=torch.uint8, device=device) for _ in "ab"]
    seconds = defaultdict(list)
    names = [*ways, COPY]
    for i in range(warmup + rounds):
        turn = i % len(names)
        for name in names[turn:] + names[:turn]:
            took = _time(case, name, vectors, shapes, ends)
            if i >= warmup:
                seconds[name].append(took)
    return {name: seconds[name] for name in names}


def _time(case: Case, name: str, vectors: Vectors, shapes: Shapes, ends: list[Tensor]) -> float:
    if name == COPY:
        return elapsed(lambda: ends[1].copy_(ends[0]), ends[0].device)
    if case.renewed:
        renew(vectors[case.renewed])
    # Built anew each time: the dicts of a published loop are gone before the next way is timed.
    call = case.ways[name](vectors, shapes).call
    return elapsed(call, next(iter(vectors.values())).device)


def renew(vector: Tensor) -> None:
    """A small value, so that differences and sums are not zero from the second round on."""
    value = 1e-3
    vector.fill_(round(value * 2.0**EXPONENT) if vector.dtype == torch.int64 else value)


def elapsed(call: Callable[[], Any], device: torch.device) -> float:
    """Between two events of the device, behind a pass that empties its caches; or on the clock."""
    if device.type != "cuda":
        begun = time.perf_counter()
        call()
        return time.perf_counter() - begun
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.empty(_FLUSH, dtype=torch.uint8, device=device).zero_()
    begin.record()
    call()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / 1000


def quantiles(values: list[float]) -> list[float]:
    return np.percentile(values, PERCENTILES).tolist()


def paired_ratio(one: list[float], other: list[float]) -> list[float]:
    """Quantiles of the ratio within a round: what disturbs a round disturbs both."""
    return quantiles([a / b for a, b in zip(one, other, strict=True)])
