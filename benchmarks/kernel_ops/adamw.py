"""An experiment: the inner step's clip and AdamW, as they are and as kernels of our own might be.

Fused AdamW divides the gradient by `grad_scale` itself, and writes it back; that is how
`metatlp/engine/inner.py` clips. A pass of our own would not write it: in Triton on a GPU, compiled
by torch elsewhere. The norm, which all need, is left out. P: elements of a vector.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from kernel_ops.cases import Case, Run, Vectors, compile_way
from kernel_ops.models import Shapes

# The first takes the place of ours, the second is what the inner loop does.
MUL, SCALED = "mul_, then fused", "fused with grad_scale"
ONE_KERNEL, ONE_PASS = "one Triton kernel", "one compiled pass"
CLIP = 0.37  # the factor on the gradient
LR, BETA1, BETA2, EPS = 3e-5, 0.9, 0.999, 1e-8
HYPERPARAMETERS = {"lr": LR, "beta1": BETA1, "beta2": BETA2, "eps": EPS, "weight_decay": 0.0}
FP32 = torch.float32


def adamw_case() -> Case:
    def multiplied(v: Vectors, shapes: Shapes) -> Run:
        step, scale = _step(v), torch.tensor(CLIP).to(v["live"])

        def call() -> None:
            v["grad"].mul_(scale)
            _fused(v, step, None)

        return Run(call)

    def scaled(v: Vectors, shapes: Shapes) -> Run:
        step, divisor = _step(v), _divisor(v)
        return Run(lambda: _fused(v, step, divisor))

    def one_kernel(v: Vectors, shapes: Shapes) -> Run:
        from kernel_ops.adamw_triton import adamw_  # Triton is imported only where it is used

        step, divisor = _step(v), _divisor(v)
        return Run(lambda: adamw_(**v, step=step, divisor=divisor, **HYPERPARAMETERS))

    def one_pass(v: Vectors, shapes: Shapes) -> Run:
        step, divisor = _step(v), _divisor(v)
        return Run(lambda: one_pass_(**v, step=step, divisor=divisor, **HYPERPARAMETERS))

    def expected(x: Vectors) -> Vectors:
        """What is left in the gradient is of no use: some scale it, some leave it."""
        g = CLIP * x["grad"]
        m = BETA1 * x["exp_avg"] + (1 - BETA1) * g
        s = BETA2 * x["exp_avg_sq"] + (1 - BETA2) * g.square()
        # The first step: both moments are divided by 1 - beta.
        update = LR * (m / (1 - BETA1)) / ((s / (1 - BETA2)).sqrt() + EPS)
        return {"live": x["live"] - update, "exp_avg": m, "exp_avg_sq": s}

    roles = dict.fromkeys(("live", "grad", "exp_avg", "exp_avg_sq"), FP32)
    ways = {MUL: multiplied, SCALED: scaled, ONE_KERNEL: one_kernel, ONE_PASS: one_pass}
    return Case(
        op="adamw",
        form="clip and step",
        dtype=FP32,
        roles=roles,
        # The least that a step with a clip inside must move: the gradient need not be written.
        reads=tuple(roles),
        writes=("live", "exp_avg", "exp_avg_sq"),
        ways=ways,
        expected=expected,
        scratch=dict.fromkeys(ways, 0),
        renewed="grad",
    )


def one_pass_(
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
    compiled: bool = True,
) -> None:
    """`adamw_triton.adamw_`, same arguments, in plain torch that torch compiles to one loop.

    Args:
        compiled: False to run it as it is, for tests.
    """
    step.add_(1)
    # Outside, so that they are worked out once; in float64, because float32 leaves four digits of
    # 1 - 0.999.
    rate = (lr / (1 - beta1 ** step.double())).float()
    root = (1 - beta2 ** step.double()).sqrt().float()
    formula = compile_way(_formula) if compiled else _formula
    formula(
        live, grad, exp_avg, exp_avg_sq, 1 / divisor, rate, root,
        1 - lr * weight_decay, beta1, beta2, eps,
    )  # fmt: skip


def _formula(
    live: Tensor, grad: Tensor, exp_avg: Tensor, exp_avg_sq: Tensor,
    scale: Tensor, rate: Tensor, root: Tensor,
    keep: float, beta1: float, beta2: float, eps: float,
) -> None:  # fmt: skip
    g = grad * scale
    m = exp_avg * beta1 + g * (1 - beta1)
    s = exp_avg_sq * beta2 + g * g * (1 - beta2)
    live.copy_(live * keep - rate * m / (s.sqrt() / root + eps))
    exp_avg.copy_(m)
    exp_avg_sq.copy_(s)


def _step(v: Vectors) -> Tensor:
    return torch.zeros((), device=v["live"].device)


def _divisor(v: Vectors) -> Tensor:
    return torch.tensor(1 / CLIP).to(v["live"])


def _fused(v: Vectors, step: Tensor, grad_scale: Tensor | None) -> None:
    adamw(
        [v["live"]],
        [v["grad"]],
        [v["exp_avg"]],
        [v["exp_avg_sq"]],
        [],
        [step],
        fused=True,
        grad_scale=grad_scale,
        amsgrad=False,
        maximize=False,
        **HYPERPARAMETERS,
    )
