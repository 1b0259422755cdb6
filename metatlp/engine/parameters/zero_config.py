"""What DeepSpeed is told, from Accelerate's plugin and from our flags.

Knows settings; knows neither DeepSpeed's code nor a model. What the user wrote and we would not
obey is refused, with the flag that is meant.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from metatlp.errors import InputError

# Settings that are passed on as they are.
_PASSED_ON = (
    "zero_optimization",
    "communication_data_type",
    "data_types",
    "comms_logger",
    "wall_clock_breakdown",
    "memory_breakdown",
    "dump_state",
)
# Settings that are ours: absent, `auto` or what we would write.
_OURS = (
    "fp16",
    "bf16",
    "gradient_clipping",
    "gradient_accumulation_steps",
    "train_batch_size",
    "train_micro_batch_size_per_gpu",
    # Accelerate's, which keeps DeepSpeed from printing.
    "steps_per_print",
    "zero_allow_untested_optimizer",
    "zero_force_ds_cpu_optimizer",
)
# Of zero_optimization: what would train something else than AdamW on float32 masters that lie where
# we put them, or compare ranks of different TLP groups.
_ZERO_DEFAULTS: dict[str, tuple[Any, ...]] = {
    "zenflow": (None,),
    "compute_grad_norm": (True,),
    "ignore_unused_parameters": (True,),
    "legacy_stage1": (False,),
    "cpu_offload": (None, False),
    "cpu_offload_param": (None, False),
    "zero_hpz_partition_size": (1,),
    "zero_quantized_weights": (False,),
    "zero_quantized_nontrainable_weights": (False,),
    "zero_quantized_gradients": (False,),
    "mics_shard_size": (-1,),
    "enable_sanity_checks": (False,),
}
_OFFLOAD_DEFAULTS: dict[str, tuple[Any, ...]] = {
    "device": ("none", "cpu"),
    "ratio": (1, 1.0),
    "super_offload": (False,),
}
# Elements. DeepSpeed's own 5e8 would take 2 GB whatever the model.
_BUCKET = 50_000_000


def zero_config(
    given: Mapping[str, Any], *, ranks: int, num_parts: int, grad_clip: float, mixed_precision: str
) -> dict[str, Any]:
    """The configuration for `deepspeed.initialize`.

    Args:
        given: Accelerate's `deepspeed_plugin.deepspeed_config`.
        ranks: R. num_parts: of a batch, per rank. grad_clip: 0 turns clipping off.
        mixed_precision: `no` or `bf16`.

    Raises:
        InputError: a setting that would not be obeyed.
    """
    _refuse_unknown(given)
    for precision in ("fp16", "bf16"):
        _check_precision(precision, given.get(precision, {}), precision == mixed_precision)
    _check_ours(given, "gradient_clipping", (grad_clip,), "--grad-clip")
    # 1 is what Accelerate writes where nothing was said.
    _check_ours(given, "gradient_accumulation_steps", (1, num_parts), "the number of parts")
    for name in ("train_batch_size", "train_micro_batch_size_per_gpu"):
        _check_ours(given, name, (), "--batch-size")
    config = {name: given[name] for name in _PASSED_ON if given.get(name, "auto") != "auto"}
    zero = config["zero_optimization"] = _zero_section(given.get("zero_optimization", {}))
    if zero["stage"] > 1 and mixed_precision == "bf16":
        # Parts are added up in float32.
        config.setdefault("data_types", {"grad_accum_dtype": "fp32"})
    elif "data_types" in config:
        # With bf16 and stage 1 it would make DeepSpeed take another optimizer than ZeRO's.
        raise InputError("DeepSpeed configuration: data_types needs bf16 and a stage of 2 or 3")
    return config | {
        # Parts, their weights and the boundary of a window are ours: DeepSpeed is to scale nothing.
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "train_batch_size": ranks,
        "gradient_clipping": float(grad_clip),
        "bf16": {"enabled": mixed_precision == "bf16"},
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "steps_per_print": float("inf"),
    }


def _refuse_unknown(given: Mapping[str, Any]) -> None:
    for name in ("optimizer", "scheduler"):
        if name in given:
            raise InputError(
                f"DeepSpeed configuration: no section {name}; the inner optimizer is AdamW, set by "
                "--inner-lr and its neighbours"
            )
    unknown = sorted(set(given) - {*_PASSED_ON, *_OURS})
    if unknown:
        raise InputError(f"DeepSpeed configuration: {', '.join(unknown)} is not supported")


def _check_precision(name: str, section: Mapping[str, Any], on: bool) -> None:
    enabled = section.get("enabled", "auto")
    if enabled not in ("auto", on):
        raise InputError(
            f"DeepSpeed configuration: {name}.enabled {enabled}: write auto; mixed_precision of "
            "the launch decides, and is no or bf16"
        )
    extra = sorted(set(section) - {"enabled"})
    if extra and on:
        raise InputError(f"DeepSpeed configuration: {name}.{extra[0]} is not supported")


def _check_ours(given: Mapping[str, Any], name: str, allowed: tuple, meant: str) -> None:
    value = given.get(name, "auto")
    if value != "auto" and value not in allowed:
        raise InputError(f"DeepSpeed configuration: {name} {value}: write auto; it is {meant}")


def _zero_section(given: Mapping[str, Any]) -> dict[str, Any]:
    section = {name: value for name, value in given.items() if value != "auto"}
    if section.get("stage") not in (1, 2, 3):
        raise InputError(
            f"DeepSpeed configuration: zero_optimization.stage {section.get('stage')}: "
            "choose from 1, 2, 3; without sharding use accelerate_configs/multi_gpu.yaml"
        )
    _check_defaults("zero_optimization", section, _ZERO_DEFAULTS)
    for name in ("offload_optimizer", "offload_param"):
        offload = {
            key: value for key, value in (section.get(name) or {}).items() if value != "auto"
        }
        _check_defaults(f"zero_optimization.{name}", offload, _OFFLOAD_DEFAULTS)
        section[name] = offload or {"device": "none"}
    if section["stage"] < 3 and section["offload_param"].get("device", "none") != "none":
        raise InputError("DeepSpeed configuration: offload_param needs zero_optimization.stage 3")
    section.setdefault("reduce_bucket_size", _BUCKET)
    # Checkpoints and exports are ours.
    section.pop("stage3_gather_16bit_weights_on_model_save", None)
    return section


def _check_defaults(
    where: str, section: Mapping[str, Any], allowed: Mapping[str, tuple[Any, ...]]
) -> None:
    for name, values in allowed.items():
        if name in section and section[name] not in values:
            raise InputError(
                f"DeepSpeed configuration: {where}.{name} {section[name]}: unsupported"
            )
