"""A process that is gone: the others meet it as an error of a collective, and say which one it is.

Knows the default process group and its store; knows nothing of what was trained.
"""

from __future__ import annotations

import time

import torch.distributed as dist

# Seconds that a process which met the error waits for the others to meet it. Some never do before
# this one leaves, because they wait for it; these then know more.
PATIENCE = 5.0
_POLL = 0.1


def is_loss(error: RuntimeError) -> bool:
    """Whether a collective failed because another process did not take part to its end."""
    return dist.is_initialized() and (isinstance(error, dist.DistError) or "gloo" in str(error))


def lost_line() -> str | None:
    """One line that names the process that is gone, or those that may be; None if another process
    has said it.

    Every process that meets the error signs in the store. Once all but one have signed, that is it.
    """
    rank, world = dist.get_rank(), dist.get_world_size()
    advice = "the last checkpoint is as it was: go on with the same command and --resume auto"
    try:
        store = dist.distributed_c10d._get_default_store()
        missing = _missing(store, rank, world)
        if len(missing) > 1:
            return f"no answer from processes {', '.join(map(str, missing))} of {world}; {advice}"
        if store.add("metatlp/told", 1) > 1:
            return None
        name = missing[0] if missing else "?"
    except (RuntimeError, ConnectionError):
        name = 0  # the store was there
    return (
        f"process {name} of {world} lost (it ended, was killed, ran out of memory, or its machine "
        f"is gone); {advice}"
    )


def _missing(store: dist.Store, rank: int, world: int) -> list[int]:
    store.set(_key(rank), "1")
    end = time.monotonic() + PATIENCE
    missing = [other for other in range(world) if other != rank]
    while True:
        missing = [other for other in missing if not store.check([_key(other)])]
        if len(missing) <= 1 or time.monotonic() > end:
            return missing
        time.sleep(_POLL)


def _key(rank: int) -> str:
    return f"metatlp/met/{rank}"
