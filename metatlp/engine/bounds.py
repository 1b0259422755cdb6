"""How far k AdamW steps can move the parameters and the moments: the scales of `--reduce exact`.

The fixed point of `metatlp.kernels` needs a bound on every difference before any is known, and the
same one on every rank. Here they follow from the hyperparameters, the clip, and max |theta|.
"""

from __future__ import annotations

import math

from metatlp.engine.adamw import InnerConfig

# The quantum of exp_avg_sq grows with clip^2. At 10 it still holds the square of a gradient of
# 5e-8, near which eps = 1e-8 takes over; at 1000 AdamW's steps would be several times too long.
LARGEST_EXACT_CLIP = 10.0

# A difference of this bound still fits 2**62 with a factor of two to spare for float32 rounding.
_LIMIT_BITS = 61
_FLOAT32_ULP = 2.0**-23


def adamw_ratio(beta1: float, beta2: float) -> float:
    """C with |exp_avg| <= C sqrt(exp_avg_sq) after any gradients, and after averaging such states.

    From the Cauchy-Schwarz inequality for m' = b1 m + (1-b1) g and v' = b2 v + (1-b2) g^2: the
    bound is kept by a step if C^2 = b1^2 C^2 / b2 + (1-b1)^2 / (1-b2). 7.27 for (0.9, 0.999). With
    bias correction the ratio is no larger, and eps only lowers it.
    """
    if beta1**2 >= beta2:
        raise ValueError(f"AdamW's step has no bound with beta1={beta1}, beta2={beta2}")
    return math.sqrt((1 - beta1) ** 2 / (1 - beta2) / (1 - beta1**2 / beta2))


def parameter_bound(config: InnerConfig, lr: float, inner_steps: int, largest: float) -> float:
    """Bound on |theta^(k) - theta| per element.

    Args:
        lr: inner learning rate. inner_steps: k. largest: max |theta|.
    """
    step = lr * adamw_ratio(config.beta1, config.beta2)
    reach = largest + inner_steps * step
    return inner_steps * (step + reach * (lr * config.weight_decay + _FLOAT32_ULP))


def moment_bounds(config: InnerConfig, inner_steps: int) -> tuple[float, float]:
    """Bounds on the change of exp_avg and exp_avg_sq in k steps with |gradient| <= clip.

    Moments lie in [-clip, clip] and [0, clip^2], and each step replaces a share 1 - b of them.
    """
    moved1 = 1 - config.beta1**inner_steps
    moved2 = 1 - config.beta2**inner_steps
    clip = config.grad_clip
    rounding = inner_steps * _FLOAT32_ULP
    return 2 * clip * (moved1 + rounding), clip**2 * (moved2 + rounding)


def exponent_for(bound: float) -> int:
    """Fractional bits with which a difference of `bound` fits the fixed point of the kernels."""
    return _LIMIT_BITS - math.ceil(math.log2(bound))
