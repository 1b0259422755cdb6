"""Start-up of a process: device, world, determinism. Every rank takes part.

Knows Accelerate and the launchers' environment; knows no model and no data.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, gather_object

from metatlp.errors import InputError


@dataclass(frozen=True)
class Placement:
    """Where this process stands in the run."""

    accelerator: Accelerator

    @property
    def rank(self) -> int:
        return self.accelerator.process_index

    @property
    def world(self) -> int:
        return self.accelerator.num_processes

    @property
    def is_main(self) -> bool:
        return self.accelerator.is_main_process

    @property
    def device(self) -> torch.device:
        return self.accelerator.device

    def gather(self, items: list[Any]) -> list[Any]:
        """The items of all ranks, in rank order. Every rank takes part."""
        return gather_object(items) if self.world > 1 else items

    def agree(self, error: InputError | None) -> None:
        """Raise the first rank's error on all ranks, so that none waits for another forever."""
        messages = self.gather([None if error is None else str(error)])
        for message in messages:
            if message is not None:
                raise InputError(message)

    def describe(self) -> dict[str, Any]:
        """What the run's log says of the placement."""
        gpu = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else None
        return {
            "processes": self.world,
            "device": gpu or str(self.device),
            "backend": str(torch.distributed.get_backend()) if self.world > 1 else None,
            "mixed_precision": self.accelerator.mixed_precision,
            "threads_per_process": torch.get_num_threads(),
        }


def start(exact: bool, report_to: str, project_dir: str) -> Placement:
    """Join the process group that the launcher announced.

    Args:
        exact: make CUDA operations deterministic; without it the same bits on any number of ranks
            cannot be promised.
        report_to: tracker, or `none`. project_dir: where it writes.

    Raises:
        InputError: the world is not what the launcher said, or a placement that is not supported.
    """
    cuda = torch.cuda.is_available()
    if exact and cuda:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    log_with = None if report_to == "none" else report_to
    accelerator = Accelerator(cpu=not cuda, log_with=log_with, project_dir=project_dir)
    _check_world(accelerator)
    return Placement(accelerator)


def _check_world(accelerator: Accelerator) -> None:
    announced = int(os.environ.get("WORLD_SIZE", "1"))
    if accelerator.num_processes != announced:
        raise InputError(
            f"the launcher announced {announced} processes, but this one sees "
            f"{accelerator.num_processes}; use an accelerate_configs/ YAML or torchrun"
        )
    if accelerator.mixed_precision not in ("no", "bf16"):
        raise InputError(
            f"mixed_precision {accelerator.mixed_precision} is not supported; use no or bf16"
        )
    if accelerator.distributed_type in (DistributedType.DEEPSPEED, DistributedType.FSDP):
        raise InputError(
            f"{accelerator.distributed_type.value} is not supported: every rank holds the whole "
            "model; use accelerate_configs/multi_gpu.yaml"
        )
