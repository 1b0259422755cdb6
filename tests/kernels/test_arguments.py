"""What does not fit is a ValueError, and nothing has been written then."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from metatlp.kernels import accumulate_delta_, apply_delta_, cosine_terms, gram, write_delta_

F32, BF16, F16, I64 = torch.float32, torch.bfloat16, torch.float16, torch.int64


def ones(*shape: int, dtype: torch.dtype = F32) -> Tensor:
    return torch.ones(shape, dtype=dtype)


GOOD = {"total": ones(4), "live": ones(4), "start": ones(4), "exponent": None, "working": None}
WRONG: dict[str, dict[str, Any]] = {
    "superfluous exponent": {"exponent": 4},
    "missing exponent": {"total": ones(4, dtype=I64)},
    "exponent too large": {"total": ones(4, dtype=I64), "exponent": 127},
    "exponent too small": {"total": ones(4, dtype=I64), "exponent": -127},
    "float64 total": {"total": ones(4, dtype=torch.float64)},
    "int32 total": {"total": ones(4, dtype=torch.int32), "exponent": 4},
    "float64 start": {"start": ones(4, dtype=torch.float64)},
    "start in less precision than live": {"start": ones(4, dtype=BF16)},
    "start in another 16 bits than live": {
        "start": ones(4, dtype=F16),
        "live": ones(4, dtype=BF16),
    },
    "integer live": {"live": ones(4, dtype=I64)},
    "integer start": {"start": ones(4, dtype=torch.int32)},
    "integer live and start": {"live": ones(4, dtype=I64), "start": ones(4, dtype=I64)},
    "longer live": {"live": ones(5)},
    "shorter start": {"start": ones(1)},
    "shorter total": {"total": ones(3)},
    "longer working": {"working": ones(5, dtype=BF16)},
    "integer working": {"working": ones(4, dtype=torch.int32)},
    "float64 working": {"working": ones(4, dtype=torch.float64)},
    "matrices": {"live": ones(2, 2), "start": ones(2, 2), "total": ones(2, 2)},
    "scalars": {"live": ones(), "start": ones(), "total": ones()},
    "every other of total": {"total": ones(8)[::2]},
    "every other of live": {"live": ones(8)[::2]},
    "every other of start": {"start": ones(8)[::2]},
    "every other of working": {"working": ones(8, dtype=BF16)[::2]},
    "one number for all": {"start": ones(1).expand(4)},
    "total elsewhere": {"total": ones(4).to("meta")},
    "live elsewhere": {"live": ones(4).to("meta")},
    "start elsewhere": {"start": ones(4).to("meta")},
    "working elsewhere": {"working": ones(4).to("meta")},
}


def on(device: torch.device, arguments: dict[str, Any]) -> dict[str, Any]:
    """Fresh copies, laid out as they are; what is on the meta device stays there."""
    return {
        key: value.to(device) if isinstance(value, Tensor) and not value.is_meta else value
        for key, value in arguments.items()
    }


@pytest.mark.parametrize("change", WRONG.values(), ids=WRONG.keys())
@pytest.mark.parametrize("operation", [accumulate_delta_, write_delta_, apply_delta_])
def test_vectors_that_do_not_fit_are_refused(operation, change, device):
    arguments = on(device, GOOD | change)
    scalar = "beta" if operation is apply_delta_ else "weight"
    with pytest.raises(ValueError):
        operation(**arguments, **{scalar: 2.0})
    for vector in arguments.values():
        assert not isinstance(vector, Tensor) or vector.is_meta or bool((vector == 1).all())


def test_only_float32_and_int64_totals_can_be_added_to(device):
    live, start = ones(2, 4).to(device)
    for dtype in (BF16, F16):
        total = torch.ones(4, dtype=dtype, device=device)
        with pytest.raises(ValueError, match="total must be float32 with exponent=None, not"):
            accumulate_delta_(total, live, start, 1.0)
        write_delta_(total, live, start, 1.0)


@pytest.mark.parametrize(
    "velocity", [ones(3), ones(8)[::2], ones(4, dtype=BF16), ones(4, dtype=I64), ones(2, 2)]
)
def test_a_velocity_that_does_not_fit_is_refused(velocity, device):
    arguments = on(device, {name: GOOD[name] for name in ("total", "live", "start")})
    with pytest.raises(ValueError, match="^velocity must be|: velocity has"):
        apply_delta_(**arguments, beta=1.0, velocity=velocity.to(device), momentum=0.9)


ROWS: dict[str, Tensor] = {
    "columns": ones(4, 2).T,
    "every other element": ones(2, 8)[:, ::2],
    "no rows": ones(0, 4),
    "three dimensions": ones(2, 2, 4),
    "integers": ones(2, 4, dtype=I64),
    "float64": ones(2, 4, dtype=torch.float64),
}
PAIRS: dict[str, tuple[Tensor, Tensor]] = {
    **{name: (rows, ones(4, dtype=rows.dtype)) for name, rows in ROWS.items()},
    "integer vectors": (ones(4, dtype=I64), ones(4, dtype=I64)),
    "scalars": (ones(), ones()),
    "two precisions": (ones(2, 4), ones(4, dtype=BF16)),
    "two lengths": (ones(2, 4), ones(5)),
    "two lengths of vectors": (ones(4), ones(5)),
    "rows against rows": (ones(2, 4), ones(2, 4)),
    "every other element of a": (ones(8)[::2], ones(4)),
    "every other element of b": (ones(2, 4), ones(8)[::2]),
    "two devices": (ones(2, 4), ones(4).to("meta")),
}


@pytest.mark.parametrize(("a", "b"), PAIRS.values(), ids=PAIRS.keys())
def test_cosine_terms_refuses(a, b, device):
    b = b if b.is_meta else b.to(device)
    with pytest.raises(ValueError):
        cosine_terms(a.to(device), b)


@pytest.mark.parametrize("rows", ROWS.values(), ids=ROWS.keys())
def test_gram_refuses(rows, device):
    with pytest.raises(ValueError):
        gram(rows.to(device))


def test_gram_refuses_a_vector(device):
    with pytest.raises(ValueError, match="rows must be rows with unit stride"):
        gram(ones(4).to(device))


def test_one_element_may_have_any_stride(device):
    vectors = ones(5, 4).to(device)
    total, live, start = (vectors[i, 1::5] for i in range(3))
    accumulate_delta_(total, live, start, 1.0)
    apply_delta_(start, live, total, 1.0)
    assert start.tolist() == [1.0 + 1.0]
    assert cosine_terms(vectors[:, 1::5], vectors[4, 1::5]).shape == (5, 3)
    assert gram(vectors[:, 1::5]).shape == (5, 5)
