"""How numbers are written in the report: percent with two decimals, signs, intervals, p-values."""

from __future__ import annotations

from metatlp.report.significance import Estimate

NONE = "-"


def percent(fraction: float | None) -> str:
    """`80.47`."""
    return NONE if fraction is None else f"{100 * fraction:.2f}"


def points(fraction: float | None) -> str:
    """A difference: `+0.53`."""
    return NONE if fraction is None else f"{100 * fraction:+.2f}"


def plain(number: float | None) -> str:
    """A number that is no percentage: `+0.123`."""
    return NONE if number is None else f"{number:+.3f}"


def spread(estimate: Estimate) -> str:
    """`± 0.12` over seeds; empty with one seed."""
    return "" if estimate.sd is None else f"± {100 * estimate.sd:.2f}"


def interval(estimate: Estimate, confidence: float, less: float = 0.0, factor: float = 100) -> str:
    """`[80.1, 80.9]`; less: a constant, in the interval's unit, that is taken from both ends."""
    found = estimate.interval(confidence)
    if found is None:
        return NONE
    low, high = (factor * each - less for each in found)
    digits = 2 if factor == 100 else 3
    return f"[{low:.{digits}f}, {high:.{digits}f}]"


def p_value(p: float | None) -> str:
    """`0.012`, `<0.001`."""
    if p is None:
        return NONE
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def duration(seconds: float) -> str:
    """`2 h 05 min`, `3 min 20 s`, `4.2 s`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60:,} h {minutes % 60:02d} min"
