"""The 64-bit fixed point that sums of differences may be held in.

A value x is held as round(x * 2**exponent) in int64 (halves to even). Integer sums do not depend on
their order, so any grouping of the contributions gives the same bits.
"""

from __future__ import annotations

# Contributions are held to 2**62, so that a sum with weights that add to at most 1 cannot wrap.
FIXED_POINT_LIMIT = 2.0**62


def largest_allowed(exponent: int) -> float:
    """The largest difference that fits with this many fractional bits."""
    return FIXED_POINT_LIMIT * 2.0**-exponent


def overflow(difference: float, exponent: int) -> OverflowError:
    """What to raise for a difference that does not fit; inf or nan for one that is not finite."""
    return OverflowError(
        f"a difference of {difference:g} does not fit 64-bit fixed point with {exponent} "
        f"fractional bits (limit {largest_allowed(exponent):g})"
    )
