"""An experiment: the inner step's clip inside fused AdamW beside a pass before it.

Fused AdamW divides the gradient by `grad_scale` itself, and writes it back; that is how
`metatlp/engine/inner.py` clips. The norm, which both need, is left out.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from kernel_ops.cases import Case, Run, Vectors
from kernel_ops.models import Shapes

# The first takes the place of ours: the other is compared with it.
MUL, SCALED = "mul_, then fused", "fused with grad_scale"
CLIP = 0.37  # the factor on the gradient
LR, BETA1, BETA2, EPS = 3e-5, 0.9, 0.999, 1e-8
FP32 = torch.float32


def adamw_case() -> Case:
    def multiplied(v: Vectors, shapes: Shapes) -> Run:
        step, scale = torch.zeros((), device=v["live"].device), torch.tensor(CLIP).to(v["live"])

        def call() -> None:
            v["grad"].mul_(scale)
            _step(v, step, None)

        return Run(call)

    def scaled(v: Vectors, shapes: Shapes) -> Run:
        step = torch.zeros((), device=v["live"].device)
        divisor = torch.tensor(1 / CLIP).to(v["live"])
        return Run(lambda: _step(v, step, divisor))

    def expected(x: Vectors) -> Vectors:
        g = CLIP * x["grad"]
        m = BETA1 * x["exp_avg"] + (1 - BETA1) * g
        s = BETA2 * x["exp_avg_sq"] + (1 - BETA2) * g.square()
        # The first step: both moments are divided by 1 - beta.
        update = LR * (m / (1 - BETA1)) / ((s / (1 - BETA2)).sqrt() + EPS)
        return {"live": x["live"] - update, "exp_avg": m, "exp_avg_sq": s, "grad": g}

    roles = dict.fromkeys(("live", "grad", "exp_avg", "exp_avg_sq"), FP32)
    return Case(
        op="adamw",
        form="clip and step",
        dtype=FP32,
        roles=roles,
        # The least that a step with a clip inside must move: the gradient need not be written.
        reads=tuple(roles),
        writes=("live", "exp_avg", "exp_avg_sq"),
        ways={MUL: multiplied, SCALED: scaled},
        expected=expected,
        scratch={MUL: 0, SCALED: 0},
        renewed="grad",
    )


def _step(v: Vectors, step: Tensor, grad_scale: Tensor | None) -> None:
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
        lr=LR,
        beta1=BETA1,
        beta2=BETA2,
        eps=EPS,
        weight_decay=0.0,
    )
