"""Operations on long flat vectors: the arithmetic of the meta step.

Knows no task, no language, no rank. Each operation has a plain torch reference in `reference.py`,
which is what runs today on every device.
"""

from .reference import FIXED_POINT_LIMIT, accumulate_delta_, apply_delta_

__all__ = ["FIXED_POINT_LIMIT", "accumulate_delta_", "apply_delta_"]
