"""On a CUDA device only: more than 2**31 elements, and reductions beside other work."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from metatlp.kernels import accumulate_delta_, apply_delta_, cosine_terms, gram

pytestmark = pytest.mark.gpu

MANY = 2**31 + 17
PART = 2**27
F32, BF16 = torch.float32, torch.bfloat16


@pytest.fixture(autouse=True)
def _cuda():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    yield
    torch.cuda.empty_cache()


@pytest.fixture
def _room():
    if torch.cuda.mem_get_info()[0] < 60 * 2**30:
        pytest.skip("less than 60 GiB free on the device")


def parts() -> Iterator[slice]:
    return (slice(i, min(i + PART, MANY)) for i in range(0, MANY, PART))


def pattern(part: slice, period: int) -> torch.Tensor:
    """Small integers that bfloat16 holds: another one at each place of a period."""
    places = torch.arange(part.start, part.stop, device="cuda") % period
    return (places - period // 2).float()


def vector(dtype: torch.dtype, period: int) -> torch.Tensor:
    made = torch.empty(MANY, dtype=dtype, device="cuda")
    for part in parts():
        made[part] = pattern(part, period)
    return made


@pytest.mark.usefixtures("_room")
@pytest.mark.parametrize(("dtype", "exponent"), [(F32, None), (torch.int64, 8)])
def test_accumulate_many(dtype, exponent):
    live, start = vector(BF16, 251), vector(BF16, 241)
    total = torch.ones(MANY, dtype=dtype, device="cuda")
    accumulate_delta_(total, live, start, 0.5, exponent)
    for part in parts():
        delta = 0.5 * (pattern(part, 251) - pattern(part, 241)) * 2.0 ** (exponent or 0)
        assert torch.equal(total[part].float(), 1 + delta)
        assert torch.equal(live[part].float(), pattern(part, 241))


@pytest.mark.usefixtures("_room")
def test_apply_many():
    start, total = vector(F32, 241), vector(F32, 251)
    live = torch.full((MANY,), float("nan"), dtype=BF16, device="cuda")
    apply_delta_(start, live, total, 0.5)
    for part in parts():
        moved = pattern(part, 241) + 0.5 * pattern(part, 251)
        assert torch.equal(start[part], moved)
        assert torch.equal(live[part], moved.bfloat16())
        assert not total[part].any()


@pytest.mark.usefixtures("_room")
def test_cosine_terms_of_many():
    a, b = vector(BF16, 251), vector(BF16, 241)
    # Where only the last element differs from zero, an offset that wraps gives zero.
    last = torch.zeros(MANY, dtype=BF16, device="cuda")
    last[-1] = 2.0
    assert cosine_terms(last, last).tolist() == [4.0, 4.0, 4.0]
    expected = torch.zeros(3, dtype=torch.float64, device="cuda")
    for part in parts():
        one, other = pattern(part, 251).double(), pattern(part, 241).double()
        expected += torch.stack([one @ other, one @ one, other @ other])
    error = (cosine_terms(a, b) - expected).abs()
    lengths = (expected[1] * expected[2]).sqrt()
    assert (error <= 1e-5 * torch.stack([lengths, expected[1], expected[2]])).all()


@pytest.mark.usefixtures("_room")
def test_rows_that_begin_beyond_many():
    rows = torch.zeros(3, 2**30 + 17, dtype=BF16, device="cuda")
    rows[:, -1] = torch.tensor([1.0, 2.0, 3.0])
    expected = [[1.0, 2.0, 3.0], [2.0, 4.0, 6.0], [3.0, 6.0, 9.0]]
    assert gram(rows).tolist() == expected
    assert cosine_terms(rows, rows[2])[:, 0].tolist() == expected[2]


@pytest.mark.parametrize("dtype", [F32, BF16])
def test_reductions_repeat_themselves_beside_other_work(dtype):
    rows = torch.randn(40, 1_000_003, device="cuda").to(dtype)
    noise, beside = torch.randn(4096, 4096, device="cuda"), torch.cuda.Stream()
    beside.wait_stream(torch.cuda.current_stream())
    cosines, products = [], []
    for _ in range(20):
        with torch.cuda.stream(beside):
            noise @ noise
        cosines.append(cosine_terms(rows, rows[1]))
        products.append(gram(rows))
    torch.cuda.synchronize()
    assert all(torch.equal(terms, cosines[0]) for terms in cosines)
    assert all(torch.equal(each, products[0]) for each in products)


@pytest.mark.parametrize("dtype", [F32, BF16])
def test_gram_of_long_rows(dtype):
    """Long enough that sums kept by the tensor cores themselves would be off by 1e-4."""
    rows = torch.randn(8, 178_000_000 // 8 * 4, device="cuda").to(dtype)
    expected = torch.zeros(8, 8, dtype=torch.float64, device="cuda")
    for part in rows.split(PART, dim=1):
        expected += part.double() @ part.double().T
    lengths = expected.diagonal().sqrt()
    assert ((gram(rows) - expected).abs() <= 1e-5 * lengths[:, None] * lengths).all()


@pytest.mark.parametrize("total_dtype", [F32, torch.int64])
def test_no_step_is_lost(total_dtype):
    """A thread that zeroed a total before another has read it would lose steps now and then."""
    exponent = 8 if total_dtype == torch.int64 else None
    start, live = torch.zeros(2, 2**26, device="cuda")
    for _ in range(200):
        total = torch.full((2**26,), 256, dtype=total_dtype, device="cuda")
        apply_delta_(start, live, total, 1.0, exponent)
    expected = 200 * 256 * 2.0 ** -(exponent or 0)
    assert bool((start == expected).all()) and bool((live == expected).all())
