"""Which placement of the parameters the launcher's settings ask for: whole, DeepSpeed's or FSDP's.

Read from the variables that `accelerate launch` sets out of its YAML; knows no model and no rank.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

from metatlp.errors import InputError

_DEEPSPEED, _FSDP = "ACCELERATE_USE_DEEPSPEED", "ACCELERATE_USE_FSDP"
# Variables of accelerate's FSDP section that would change something here -> the values that are
# what is done anyway.
_FSDP_FIXED = {
    "FSDP_VERSION": ("2",),
    "FSDP_RESHARD_AFTER_FORWARD": ("true",),
    "FSDP_OFFLOAD_PARAMS": ("false",),
    "FSDP_ACTIVATION_CHECKPOINTING": ("false",),
    "FSDP_ACTIVATION_CHECKPOINTING_OFFLOAD": ("false",),
    "FSDP_AUTO_WRAP_POLICY": ("TRANSFORMER_BASED_WRAP",),
    "FSDP_IGNORED_MODULES": ("None",),
}
_INSTEAD = {
    "FSDP_VERSION": "FSDP1 flattens parameters together; use fsdp_version: 2",
    "FSDP_OFFLOAD_PARAMS": "to offload, use DeepSpeed (accelerate_configs/deepspeed_zero3_offload)",
    "FSDP_ACTIVATION_CHECKPOINTING": "use --gradient-checkpointing",
}


@dataclass(frozen=True)
class Sharding:
    """How the parameters of a TLP are cut over the ranks that train it.

    Attributes:
        kind: `none` (all parameters on every rank), `deepspeed` or `fsdp`.
        deepspeed: the configuration of DeepSpeed that Accelerate makes of its settings.
    """

    kind: str = "none"
    deepspeed: Mapping[str, Any] = field(default_factory=dict)

    @property
    def placed(self) -> str:
        """`replicated`, `zero1`, `zero2`, `zero3` or `fsdp2`."""
        if self.kind == "deepspeed":
            return f"zero{self.deepspeed.get('zero_optimization', {}).get('stage')}"
        return "fsdp2" if self.kind == "fsdp" else "replicated"

    def describe(self) -> str | None:
        """For the first line; None if nothing is cut."""
        if self.kind == "deepspeed":
            stage = self.deepspeed.get("zero_optimization", {}).get("stage")
            return f"DeepSpeed ZeRO {stage}"
        return "FSDP2" if self.kind == "fsdp" else None


def sharding_of(environment: Mapping[str, str]) -> Sharding:
    """What the launcher's variables ask for.

    Raises:
        InputError: settings that contradict each other, or that nothing here would obey.
    """
    deepspeed, fsdp = (_true(environment, name) for name in (_DEEPSPEED, _FSDP))
    if deepspeed and fsdp:
        raise InputError(f"{_DEEPSPEED} and {_FSDP} are both true; use one of them")
    if (deepspeed or fsdp) and _true(environment, "ACCELERATE_USE_CPU"):
        raise InputError(
            f"ACCELERATE_USE_CPU=true would silently drop {'DeepSpeed' if deepspeed else 'FSDP'}; "
            "unset it: without a GPU the processes use the CPU by themselves"
        )
    if not deepspeed:
        left = sorted(name for name in environment if name.startswith("ACCELERATE_DEEPSPEED_"))
        if left:
            raise InputError(
                f"{left[0]} is set, but {_DEEPSPEED} is not: DeepSpeed was asked for, and dropped "
                "on the way; use accelerate launch --config_file "
                "accelerate_configs/deepspeed_zero2.yaml"
            )
    if fsdp:
        _check_fsdp(environment)
        return Sharding("fsdp")
    return Sharding("deepspeed", _deepspeed_config()) if deepspeed else Sharding()


def _true(environment: Mapping[str, str], name: str) -> bool:
    return environment.get(name, "false").lower() in ("true", "1")


def _check_fsdp(environment: Mapping[str, str]) -> None:
    for name, allowed in _FSDP_FIXED.items():
        value = environment.get(name, allowed[0])
        if value not in allowed:
            why = _INSTEAD.get(name, f"only {' or '.join(allowed)} is done here")
            raise InputError(f"{name}={value}: not supported; {why}")


def _deepspeed_config() -> dict[str, Any]:
    if find_spec("deepspeed") is None:
        raise InputError(
            "DeepSpeed is asked for, but not installed; pip install 'metatlp[deepspeed]'"
        )
    # Here, for it imports DeepSpeed.
    from accelerate import DeepSpeedPlugin

    try:
        plugin = DeepSpeedPlugin()
    except (ValueError, OSError) as error:
        raise InputError(f"accelerate's DeepSpeed settings: {error}") from error
    return dict(plugin.deepspeed_config)
