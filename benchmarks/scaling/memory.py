"""Bytes that a process holds: at its peak while it builds and while it steps, and between steps.

On CUDA what is allocated; on a CPU the peaks are of the resident set, libraries included, and what
is held is that of the tensors alone. Knows no model.
"""

from __future__ import annotations

import ctypes
import gc
from pathlib import Path

import torch
from meta_step.measure import peak_rss, resident

_CLEAR = Path("/proc/self/clear_refs")
_RESET_PEAK = "5"  # proc(5): the high-water mark of the resident set becomes what is resident


class Memory:
    """What came to what was held when this was made."""

    def __init__(self, device: torch.device):
        self.cuda = device.type == "cuda"
        self.before = torch.cuda.memory_allocated() if self.cuda else resident("VmRSS")
        self.tensors = _tensors()

    def peak(self) -> int:
        """The largest number of bytes since the start, or since the last `forget`."""
        return torch.cuda.max_memory_allocated() if self.cuda else peak_rss()

    def grown(self) -> int:
        return self.peak() - self.before

    def held(self) -> int:
        """Of what is held now."""
        gc.collect()
        if self.cuda:
            return torch.cuda.memory_allocated() - self.before
        return _tensors() - self.tensors

    def forget(self) -> None:
        """Begin a new peak, from what is held now."""
        if self.cuda:
            torch.cuda.reset_peak_memory_stats()
        elif _CLEAR.exists():
            # What was freed stays resident until malloc is told to give it back.
            ctypes.CDLL(None).malloc_trim(0)
            _CLEAR.write_text(_RESET_PEAK)


def _tensors() -> int:
    """Bytes of all tensors that Python knows, those that share memory counted once."""
    storages = {}
    for found in gc.get_objects():
        # Not isinstance, which would ask objects of all kinds for their class.
        if issubclass(type(found), torch.Tensor) and found.layout == torch.strided:
            try:
                storage = found.untyped_storage()
                storages[storage.data_ptr()] = storage.nbytes()
            except (NotImplementedError, RuntimeError):
                continue  # a wrapper without memory of its own
    return sum(storages.values())
