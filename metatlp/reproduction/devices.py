"""Which GPUs a run may use where several share a machine: those that no other run holds.

Knows file locks and CUDA_VISIBLE_DEVICES. A scheduler gives each job its own, and this is idle.
"""

from __future__ import annotations

import fcntl
import os
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

WAIT = 1.0  # seconds between two looks


@contextmanager
def held(out: Path, devices: Sequence[str], number: int) -> Iterator[None]:
    """Hold so many of the devices, and name them in CUDA_VISIBLE_DEVICES; wait until they are free.

    Args:
        out: folder of the locks, which a process that ends lets go of.
        devices: as CUDA_VISIBLE_DEVICES has them; none: nothing is held.
    """
    if not devices or not number:
        yield
        return
    assert number <= len(devices)
    with ExitStack() as stack:
        own = _take(out, devices, number, stack)
        before = os.environ.get("CUDA_VISIBLE_DEVICES")
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(own)
        try:
            yield
        finally:
            os.environ.pop("CUDA_VISIBLE_DEVICES")
            if before is not None:
                os.environ["CUDA_VISIBLE_DEVICES"] = before


def _take(out: Path, devices: Sequence[str], number: int, stack: ExitStack) -> list[str]:
    """All or none, so that two runs do not wait for each other."""
    while True:
        with ExitStack() as attempt:
            own = []
            for device in devices:
                path = out / f".device-{socket.gethostname()}-{device}"
                file = attempt.enter_context(path.open("w"))
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                own.append(device)
                if len(own) == number:
                    stack.push(attempt.pop_all())
                    return own
        time.sleep(WAIT)
