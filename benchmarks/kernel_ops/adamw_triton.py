"""A candidate: AdamW of one flat segment with the clip in it, in one pass. Nothing uses it.

torch's fused step with `grad_scale` writes the scaled gradient back; this does not, and so moves 28
bytes per parameter instead of 32. P: elements of the segment.
"""

import math

import triton
import triton.language as tl
from torch import Tensor

from metatlp.kernels import launch


@triton.jit(do_not_specialize=["first", "end"])
def adamw_kernel(
    live,
    grad,
    exp_avg,
    exp_avg_sq,
    step,
    divisor,
    lr: "fp32",
    log_beta1: "fp64",
    log_beta2: "fp64",
    first: "i64",
    end: "i64",
    BETA1: tl.constexpr,
    BETA2: tl.constexpr,
    EPS: tl.constexpr,
    WEIGHT_DECAY: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """One step of AdamW with grad / divisor; blocks as in `kernels/triton_kernels.py`.

    log_beta: to base 2. 1 - beta**step in float64: float32 leaves four digits of 1 - 0.999.
    """
    scale = 1.0 / tl.load(divisor)
    taken = tl.load(step).to(tl.float64)
    rate = lr / (1.0 - tl.exp2(taken * log_beta1)).to(tl.float32)
    root = tl.sqrt((1.0 - tl.exp2(taken * log_beta2)).to(tl.float32))
    keep = 1.0 - lr * WEIGHT_DECAY
    lanes = tl.arange(0, BLOCK)
    program = tl.program_id(0).to(tl.int64)
    for base in range(program * BLOCK, end, tl.num_programs(0).to(tl.int64) * BLOCK):
        if (base >= first) & (base + BLOCK <= end):
            _adamw_block(
                live + base, grad + base, exp_avg + base, exp_avg_sq + base, lanes, None,
                scale, rate, root, keep, BETA1, BETA2, EPS,
            )  # fmt: skip
        else:
            mask = (base + lanes >= first) & (base + lanes < end)
            _adamw_block(
                live + base, grad + base, exp_avg + base, exp_avg_sq + base, lanes, mask,
                scale, rate, root, keep, BETA1, BETA2, EPS,
            )  # fmt: skip


@triton.jit
def _adamw_block(
    live, grad, exp_avg, exp_avg_sq, lanes, mask,
    scale, rate, root, keep, BETA1: tl.constexpr, BETA2: tl.constexpr, EPS: tl.constexpr,
):  # fmt: skip
    g = tl.load(grad + lanes, mask=mask) * scale
    m = tl.load(exp_avg + lanes, mask=mask) * BETA1 + g * (1 - BETA1)
    s = tl.load(exp_avg_sq + lanes, mask=mask) * BETA2 + g * g * (1 - BETA2)
    moved = tl.load(live + lanes, mask=mask) * keep - rate * m / (tl.sqrt(s) / root + EPS)
    tl.debug_barrier()
    tl.store(exp_avg + lanes, m, mask=mask)
    tl.store(exp_avg_sq + lanes, s, mask=mask)
    tl.store(live + lanes, moved, mask=mask)


def adamw_(
    live: Tensor,
    grad: Tensor,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    step: Tensor,
    divisor: Tensor,
    *,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
) -> None:
    """One step of AdamW (Loshchilov and Hutter, 2017) with `grad / divisor`; grad is only read.

    Args:
        live, grad, exp_avg, exp_avg_sq: (P,) float32, contiguous; P of at least 1.
        step: () float32, the steps taken before; one more on return.
        divisor: () float32, as torch's `grad_scale`.
        lr, beta1, beta2, eps, weight_decay: AdamW's.
    """
    step.add_(1)
    block, programs = launch._grid(len(live), live.device, launch._BLOCK)
    first, vectors = launch._aligned(live, grad, exp_avg, exp_avg_sq)
    with launch._on(live.device):
        adamw_kernel[(programs,)](
            *vectors,
            step,
            divisor,
            lr,
            math.log2(beta1),
            math.log2(beta2),
            first,
            first + len(live),
            BETA1=beta1,
            BETA2=beta2,
            EPS=eps,
            WEIGHT_DECAY=weight_decay,
            BLOCK=block,
            num_warps=launch._WARPS,
        )
