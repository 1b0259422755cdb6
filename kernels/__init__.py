from .dispatch import (
    accumulate_delta_,
    apply_delta_,
    cosine_terms,
    gram,
    implementation,
    write_delta_,
)
from .fixed_point import FIXED_POINT_LIMIT

__all__ = [
    "FIXED_POINT_LIMIT",
    "accumulate_delta_",
    "apply_delta_",
    "cosine_terms",
    "gram",
    "implementation",
    "write_delta_",
]
