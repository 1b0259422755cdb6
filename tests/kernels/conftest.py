"""Where the tests run: on the CPU and, marked `gpu`, on a CUDA device if there is one."""

from __future__ import annotations

import pytest
import torch
from torch.utils import deterministic

torch.set_num_threads(1)


DEVICES = [
    "cpu",
    *([pytest.param("cuda", marks=pytest.mark.gpu)] if torch.cuda.is_available() else []),
]


@pytest.fixture(scope="session", params=DEVICES)
def device(request) -> torch.device:
    return torch.device(request.param)


@pytest.fixture(autouse=True)
def _poison(monkeypatch):
    """torch.empty gives NaN, or the largest integer: scratch that is read unwritten shows."""
    monkeypatch.setattr(deterministic, "fill_uninitialized_memory", True)
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(before)
