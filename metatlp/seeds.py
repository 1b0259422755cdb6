"""Seeds derived from names: everything random is a function of (run seed, what it is for)."""

from __future__ import annotations

import hashlib


def derive_seed(seed: int, *keys: int | str) -> int:
    """A 63-bit seed for one purpose, e.g. `derive_seed(seed, "dropout", step, slot, inner_step)`.

    The same on every machine and Python version, and independent between different keys.
    """
    digest = hashlib.sha256(repr((seed, *keys)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
