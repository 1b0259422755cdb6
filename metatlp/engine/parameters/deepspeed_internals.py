"""DeepSpeed's private names, all of them in this file: where its masters lie, what follows them.

Knows an engine that DeepSpeed made; knows no task, no meta step and nothing of our vectors. Every
name is looked for before anything is built, so that another version is refused and not half obeyed.
R: ranks of the process group; i: number of a parameter group; j: of a tensor that is stepped.
"""

from __future__ import annotations

import importlib
import inspect
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from metatlp.errors import InputError

TESTED = ("0.19.8",)

_STAGE_1_2 = (
    "single_partition_of_fp32_groups",
    "round_robin_bit16_groups",
    "round_robin_bit16_offsets",
    "partition_size",
    "real_dp_process_group",
    "cpu_offload",
    "update_lp_params",
    "_link_all_hp_params",
)
_STAGE_3 = (
    "fp32_partitioned_groups_flat",
    "fp16_groups",
    "sub_group_to_group_id",
    "sub_group_process_groups",
    "grad_partitions_flat_buffer",
    "offload_optimizer",
    "persistent_parameters",
    "_partition_all_parameters",
    "_reassign_or_swap_out_partitioned_parameters",
)
_ZERO = "deepspeed.runtime.zero"
_COORDINATOR = f"{_ZERO}.partitioned_param_coordinator"
_CACHED = "_PartitionedParameterCoordinator__params_to_release"
_OFFLOAD = f"{_ZERO}.parameter_offload"
# Module, class in it or None, names that it must have.
_NAMES = (
    ("deepspeed.ops", None, ("__compatible_ops__",)),
    (_COORDINATOR, None, ("assert_ints_same_as_other_ranks",)),
    (_COORDINATOR, "PartitionedParameterCoordinator", (_CACHED,)),
    (_OFFLOAD, None, ("FWD_MODULE_STACK",)),
    (_OFFLOAD, "DeepSpeedZeRoOffload", ("_register_deepspeed_module",)),
    (f"{_ZERO}.stage_1_and_2", "DeepSpeedZeroOptimizer", _STAGE_1_2),
    (f"{_ZERO}.stage3", "DeepSpeedZeroOptimizer_Stage3", _STAGE_3),
)


@dataclass(frozen=True)
class Held:
    """Elements `begin` to `end` of a parameter, flattened, at `offset` of a master."""

    parameter: nn.Parameter
    begin: int
    end: int
    offset: int


@dataclass(frozen=True)
class Master:
    """A float32 tensor (1-D) of this rank that DeepSpeed has the optimizer step.

    Attributes:
        group: i, of the optimizer that DeepSpeed was given.
        held: what of the model it holds; the rest of it is padding.
    """

    tensor: Tensor
    group: int
    held: Sequence[Held]


def before_process_group() -> None:
    """To be called before the process group is started: the check of the version, and a setting.

    Otherwise DeepSpeed compiles an extension for the group, whose all-reduce through shared memory
    takes a compiler and half a minute, and gloo does without.

    Raises:
        InputError: DeepSpeed is not installed, or another version than those known.
    """
    for module, owner, names in _NAMES:
        found = _imported(module)
        _need(found if owner is None else getattr(found, owner, None), names)
    _imported("deepspeed.ops").__compatible_ops__["deepspeed_shm_comm"] = False


def before_initialize() -> None:
    """To be called before `deepspeed.initialize`: what stage 3 does not foresee is put right."""
    coordinator, offload = _imported(_COORDINATOR), _imported(_OFFLOAD).DeepSpeedZeRoOffload
    # Whenever the modules are called in another order than before, as with another task's head, it
    # compares the order over all ranks of the world. But each TLP group has an order of its own,
    # and changes it when it will: the groups would wait for each other forever.
    coordinator.assert_ints_same_as_other_ranks = lambda ints: None
    register = offload._register_deepspeed_module
    if getattr(register, "once", False):
        return

    def registered_once(self: Any, module: nn.Module, *rest: Any, **named: Any) -> None:
        # The tasks' models share the encoder, whose modules would get all hooks once per task.
        if "pre_bwd_fn" not in module.__dict__:
            register(self, module, *rest, **named)

    registered_once.once = True  # type: ignore[attr-defined]
    offload._register_deepspeed_module = registered_once
    # DeepSpeed calls collectives by names that torch is about to drop: nothing a user could mend.
    warnings.filterwarnings("ignore", "`torch.distributed.*` is deprecated", FutureWarning)


class Stage12:
    """The optimizer of stages 1 and 2: each parameter group is one flat vector, cut in R."""

    def __init__(self, engine: Any):
        self._optimizer = engine.optimizer
        _need(self._optimizer, _STAGE_1_2)

    def masters(self) -> Iterator[Master]:
        """In the order of the parameter groups."""
        inner = self._optimizer
        for i, tensor in enumerate(inner.single_partition_of_fp32_groups):
            size = int(inner.partition_size[i])
            start = size * torch.distributed.get_rank(inner.real_dp_process_group[i])
            held = []
            parameters = inner.round_robin_bit16_groups[i]
            # Offsets in the whole vector, with whatever padding lies between the parameters.
            for parameter, place in zip(
                parameters, inner.round_robin_bit16_offsets[i], strict=True
            ):
                begin = max(start - place, 0)
                end = min(start + size - place, parameter.numel())
                if begin < end:
                    held.append(Held(parameter, begin, end, place + begin - start))
            yield Master(tensor, i, held)

    def relink(self) -> None:
        """After the masters' data were put elsewhere: let go of where they were."""
        self._optimizer._link_all_hp_params()

    def clear_gradients(self) -> None:
        """Forget the gradients of parameters that the coming backward passes do not reach."""
        if self._optimizer.cpu_offload:
            for tensor in self._optimizer.single_partition_of_fp32_groups:
                tensor.grad.zero_()

    def publish(self) -> None:
        """Make the working weights follow the masters. All ranks of the group take part."""
        self._optimizer.update_lp_params()

    def settle(self) -> None:
        """After passes without a step: nothing is left behind in these stages."""


class Stage3:
    """The optimizer of stage 3: every parameter is cut in R, and lives nowhere as a whole."""

    def __init__(self, engine: Any):
        self._optimizer = engine.optimizer
        _need(self._optimizer, _STAGE_3)

    def masters(self) -> Iterator[Master]:
        """In the order of the parameter groups; one or more of each."""
        inner = self._optimizer
        for j, tensor in enumerate(inner.fp32_partitioned_groups_flat):
            rank = torch.distributed.get_rank(inner.sub_group_process_groups[j])
            held, offset = [], 0
            for parameter in inner.fp16_groups[j]:
                size = parameter.partition_numel()
                begin = min(rank * size, parameter.ds_numel)
                end = min(begin + size, parameter.ds_numel)
                if begin < end:
                    held.append(Held(parameter, begin, end, offset))
                offset += size
            yield Master(tensor, inner.sub_group_to_group_id[j], held)

    def relink(self) -> None:
        """As in Stage12; nothing refers to the masters here."""

    def clear_gradients(self) -> None:
        """Forget the gradients of parameters that the coming backward passes do not reach.

        They would count in the norm, and so in the clip.
        """
        self._optimizer.grad_partitions_flat_buffer.zero_()
        if self._optimizer.offload_optimizer:
            for tensor in self._optimizer.fp32_partitioned_groups_flat:
                tensor.grad.zero_()

    def publish(self) -> None:
        """Make the working weights follow the masters. All ranks of the group take part."""
        self._optimizer._partition_all_parameters()
        for j in range(len(self._optimizer.fp32_partitioned_groups_flat)):
            self._optimizer._reassign_or_swap_out_partitioned_parameters(j)
        self._gather_persistent()

    def settle(self) -> None:
        """After passes without a step: release what they gathered. All ranks take part."""
        self._optimizer._partition_all_parameters()
        self._gather_persistent()

    def _gather_persistent(self) -> None:
        """Small parameters are kept whole on all ranks, between steps too."""
        persistent = self._optimizer.persistent_parameters
        if persistent:
            persistent[0].all_gather(persistent)


def opened(engine: Any) -> Stage12 | Stage3:
    """The internals of the optimizer that `deepspeed.initialize` made.

    Raises:
        InputError: it lacks a name that is needed.
    """
    return Stage3(engine) if engine.zero_optimization_stage() == 3 else Stage12(engine)


def close(engine: Any) -> None:
    """Let go of an engine, which the caller is to forget: destroyed, and not held by DeepSpeed."""
    engine.destroy()
    # Two places in which stage 3 keeps every model for as long as the process lives.
    stack = _imported(_OFFLOAD).FWD_MODULE_STACK
    stack[:] = [module for module in stack if module is not engine.module]
    cached = getattr(_imported(_COORDINATOR).PartitionedParameterCoordinator, _CACHED)
    inspect.getclosurevars(cached).nonlocals["func"].cache_clear()


def _imported(name: str) -> Any:
    """A module of DeepSpeed, which few runs need and which takes seconds to import."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != "deepspeed":
            raise
        if error.name == "deepspeed":
            raise InputError(
                "DeepSpeed is not installed; pip install 'metatlp[deepspeed]' brings it"
            ) from error
        raise _unknown_version(name) from error


def _need(owner: Any, names: Sequence[str]) -> None:
    """Raise InputError if a module, a class or an object lacks one.

    What objects of a class will have is among the names that its methods use.
    """
    values = getattr(owner, "__dict__", {}).values()
    used = {n for value in values if inspect.isfunction(value) for n in value.__code__.co_names}
    missing = [name for name in names if not hasattr(owner, name) and name not in used]
    if missing:
        raise _unknown_version(", ".join(missing))


def _unknown_version(missing: str) -> InputError:
    import deepspeed

    return InputError(
        f"DeepSpeed {deepspeed.__version__} has no {missing}, which is needed here; tested with "
        f"{', '.join(TESTED)}"
    )
