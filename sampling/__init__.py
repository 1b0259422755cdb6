"""Which arms a meta step trains: probabilities over arms, and rules that draw from them.

An arm is a number 0..n-1; this package knows no task, no language, no file and no rank. It imports
numpy and the standard library only and raises ValueError. Installed as `metatlp.sampling`.
"""

from .draws import DrawRule, Multinomial, Systematic, multinomial_draw
from .multidds import MultiDDS, MultiDDSConfig
from .probabilities import (
    FixedProbabilities,
    temperature_probs,
    uniform_probs,
    weight_probs,
)
from .sampler import DRAWS, SAMPLERS, Probabilities, Sampler, SamplerKind, build_sampler

__all__ = [
    "DRAWS",
    "SAMPLERS",
    "DrawRule",
    "FixedProbabilities",
    "MultiDDS",
    "MultiDDSConfig",
    "Multinomial",
    "Probabilities",
    "Sampler",
    "SamplerKind",
    "Systematic",
    "build_sampler",
    "multinomial_draw",
    "temperature_probs",
    "uniform_probs",
    "weight_probs",
]
