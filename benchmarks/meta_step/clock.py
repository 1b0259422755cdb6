"""Seconds by name. Knows nothing of what is timed."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from functools import wraps
from typing import Any

import torch

PARTS_STEPS = 6  # meta steps, or reward updates, of which the parts are timed


class Clock:
    """Seconds by name; waits for the device at both ends of what it times."""

    def __init__(self, device: torch.device):
        self.device = device
        self.seconds: dict[str, float] = defaultdict(float)

    def now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def call(*args: Any) -> Any:
            begun = self.now()
            result = function(*args)
            self.seconds[name] += self.now() - begun
            return result

        return call

    def watch(self, owner: object, parts: dict[str, str]) -> None:
        """Time every call of these methods of one object."""
        for method, name in parts.items():
            setattr(owner, method, self.timed(name, getattr(owner, method)))
