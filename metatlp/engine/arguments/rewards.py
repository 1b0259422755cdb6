"""The flags of samplers that learn: what is rewarded, how often, and what MultiDDS makes of it.

Knows no data, model or device. Every flag is None where it is not given, so that one which the
chosen sampler does not use can be refused.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

from metatlp.engine.arguments.flags import at_least, flag, flag_name
from metatlp.errors import InputError
from metatlp.sampling import SAMPLERS, MultiDDSConfig

# Of psi's update; the others are of the rewards, which every sampler that learns is given.
_MULTIDDS: dict[str, Any] = {
    "dds_lr": MultiDDSConfig.lr,
    "dds_update": MultiDDSConfig.update,
    "dds_floor": MultiDDSConfig.floor,
    "dds_baseline": MultiDDSConfig.baseline,
    "reward_smoothing": MultiDDSConfig.smoothing,
}
DEFAULTS: dict[str, Any] = {
    "reward": "cos-of-mean",
    "reward_batches": 2,
    "reward_params": "all",
    "reward_dropout": "off",
    "dds_every": 10,
    **_MULTIDDS,
}


def _flag(help_text: str, name: str) -> Any:
    return flag(f"{help_text} [default: {DEFAULTS[name]}]")


@dataclass(frozen=True)
class RewardConfig:
    """What a run measures, and when.

    Attributes:
        reward: `cos-of-mean`, `mean-of-cos` or `adam-delta`.
        batches: K.
        parameters: `all` or `encoder`.
        dropout: whether dropout is on.
        every: meta steps between two updates.
    """

    reward: str
    batches: int
    parameters: str
    dropout: bool
    every: int

    @property
    def halves(self) -> bool:
        """Whether each reward is also measured on two halves of its batches."""
        return self.batches > 1 and self.reward != "adam-delta"

    def num_passes(self, num_train: int, num_dev: int) -> int:
        """Backward passes of an update, for n and d TLPs."""
        pairs = num_train * num_dev if self.reward == "adam-delta" else num_dev
        return self.batches * (num_train + pairs)


@dataclass(frozen=True)
class RewardArguments:
    """Algorithm 1, lines 9-15; only for samplers that learn (--sampler multidds)."""

    _argument_group_name: ClassVar[str] = "rewards and MultiDDS (--sampler multidds)"

    dev_tlps: str | None = flag(
        "D_dev, on whose dev data rewards are measured: TLPs like qa_en,ner_hi, or all of the grid "
        "in a language (lang:hi; mDDS-Lang) or of a task (task:nli; mDDS-Task)"
    )
    reward: Literal["cos-of-mean", "mean-of-cos", "adam-delta"] | None = _flag(
        "R_i: cosine of the TLP's gradient with the mean gradient on D_dev (cos-of-mean), mean of "
        "its cosines with the gradients on D_dev (mean-of-cos), or the published code's cosine of "
        "two AdamW steps (adam-delta)",
        "reward",
    )
    reward_batches: int | None = _flag(
        "batches (K) for each gradient of an update; from 2 on the rewards' split-half reliability "
        "is measured too",
        "reward_batches",
    )
    reward_params: Literal["all", "encoder"] | None = _flag(
        "parameters whose gradients are compared: all (heads too), or encoder", "reward_params"
    )
    reward_dropout: Literal["on", "off"] | None = _flag(
        "dropout in the passes for rewards", "reward_dropout"
    )
    dds_every: int | None = _flag("meta steps between two updates of the sampler", "dds_every")
    dds_lr: float | None = _flag("step size of psi", "dds_lr")
    dds_update: Literal["sum", "expected"] | None = _flag(
        "psi's gradient: sum_i R_i grad log p_i (sum, Algorithm 1), or the same with weights p_i "
        "(expected)",
        "dds_update",
    )
    dds_floor: float | None = _flag("smallest probability of a TLP, at most 1/n", "dds_floor")
    dds_baseline: Literal["none", "mean", "ema"] | None = _flag(
        "taken from every reward before psi moves: nothing, their mean, or a moving average of the "
        "means of earlier updates",
        "dds_baseline",
    )
    reward_smoothing: float | None = _flag(
        "decay of a moving average of each TLP's reward that takes its place, at least 0 and below "
        "1; 0 is none",
        "reward_smoothing",
    )

    def __post_init__(self) -> None:
        at_least(1, self, "reward_batches", "dds_every")
        if self.dds_lr is not None and not (self.dds_lr > 0 and math.isfinite(self.dds_lr)):
            raise InputError(f"--dds-lr {self.dds_lr}: must be positive and finite")
        if self.reward_smoothing is not None and not 0 <= self.reward_smoothing < 1:
            raise InputError(
                f"--reward-smoothing {self.reward_smoothing}: must be at least 0 and below 1"
            )
        if self.dds_floor is not None and not 0 <= self.dds_floor <= 1:
            raise InputError(f"--dds-floor {self.dds_floor}: must be from 0 to 1/n")

    def check_sampler(self, sampler: str) -> None:
        """Raises InputError for a flag that the sampler does not use, or D_dev missing."""
        for name, value in asdict(self).items():
            if value is not None and not _uses(sampler, name):
                owners = ", ".join(kind for kind in SAMPLERS if _uses(kind, name))
                raise InputError(f"{flag_name(name)} belongs to --sampler {owners}")
        if _uses(sampler, "dev_tlps") and self.dev_tlps is None:
            raise InputError(
                f"--sampler {sampler} needs --dev-tlps: a target like qa_en, lang:hi or task:nli"
            )

    def resolved(self, sampler: str) -> dict[str, Any]:
        """Every flag's value; None for those that the sampler does not use."""
        values = asdict(self)
        for name, default in DEFAULTS.items():
            if values[name] is None and _uses(sampler, name):
                values[name] = default
        return values

    def rewards(self, sampler: str) -> RewardConfig | None:
        """What to measure; None for a sampler that does not learn."""
        values = self.resolved(sampler)
        if self.dev_tlps is None:
            return None
        return RewardConfig(
            reward=values["reward"],
            batches=values["reward_batches"],
            parameters=values["reward_params"],
            dropout=values["reward_dropout"] == "on",
            every=values["dds_every"],
        )

    def multidds(self, sampler: str) -> MultiDDSConfig | None:
        """How psi is updated; None for another sampler."""
        if "multidds" not in SAMPLERS[sampler].takes:
            return None
        values = self.resolved(sampler)
        return MultiDDSConfig(
            lr=values["dds_lr"],
            update=values["dds_update"],
            floor=values["dds_floor"],
            baseline=values["dds_baseline"],
            smoothing=values["reward_smoothing"],
        )


def _uses(sampler: str, name: str) -> bool:
    kind = SAMPLERS[sampler]
    return "multidds" in kind.takes if name in _MULTIDDS else kind.learns
