"""Start-up of a process: device, world, determinism. Every rank takes part.

Knows Accelerate and the launchers' environment; knows no model and no data.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs, gather_object

from metatlp.engine import heartbeat
from metatlp.engine.mesh import TIMEOUT
from metatlp.engine.parameters import deepspeed_internals
from metatlp.engine.sharding import Sharding, sharding_of
from metatlp.errors import InputError
from metatlp.kernels import implementation

# What started a process says how many there are; the first of these that is set counts.
_SIZES = ("WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS")
_ADDRESS = ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


class AgreedError(InputError):
    """An error that is raised on all ranks with the same message."""


def raise_first(messages: Iterable[str | None]) -> None:
    """Raise the first of the errors gathered from all ranks, so that all raise the same."""
    for message in messages:
        if message is not None:
            raise AgreedError(message)


@dataclass(frozen=True)
class Placement:
    """Where this process stands in the run."""

    accelerator: Accelerator
    sharding: Sharding = Sharding()

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

    @property
    def usual_ranks_per_tlp(self) -> int:
        """R without --ranks-per-tlp: under DeepSpeed and FSDP the processes of this machine."""
        if self.sharding.kind == "none":
            return 1
        return int(os.environ.get("LOCAL_WORLD_SIZE", self.world))

    def gather(self, items: list[Any]) -> list[Any]:
        """The items of all ranks, in rank order. Every rank takes part."""
        return gather_object(items) if self.world > 1 else items

    def agree(self, error: InputError | None) -> None:
        """Raise the first rank's error on all ranks, so that none waits for another forever."""
        raise_first(self.gather([None if error is None else str(error)]))

    @contextmanager
    def together(self) -> Iterator[None]:
        """What fails on one rank inside fails on all, at the end. Every rank takes part."""
        met = None
        try:
            yield
        except InputError as error:
            met = error
        self.agree(met)

    def describe(self) -> dict[str, Any]:
        """What the run's log says of the placement."""
        gpu = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else None
        return {
            "processes": self.world,
            "unused_gpus": self._unused_gpus(),
            "device": gpu or str(self.device),
            "backend": str(torch.distributed.get_backend()) if self.world > 1 else None,
            "sharding": self.sharding.describe(),
            "mixed_precision": self.accelerator.mixed_precision,
            "kernels": implementation(self.device),
            "threads_per_process": torch.get_num_threads(),
        }

    def _unused_gpus(self) -> int:
        """Of this machine."""
        if self.device.type != "cuda":
            return 0
        return torch.cuda.device_count() - int(os.environ.get("LOCAL_WORLD_SIZE", 1))


def start(report_to: str, project_dir: str) -> Placement:
    """Join the process group that the launcher announced.

    CUDA operations are made deterministic: without that no run could be resumed bit for bit.

    Args:
        report_to: tracker, or `none`. project_dir: where it writes.

    Raises:
        InputError: the world is not what the launcher said, or a placement that is not supported.
    """
    cuda = torch.cuda.is_available()
    check_launch(os.environ, torch.cuda.device_count() if cuda else 0)
    announced = announced_processes(os.environ)
    sharding = sharding_of(os.environ)
    # Accelerate is to start the processes only: the parameters are cut here (engine/parameters).
    for name in ("ACCELERATE_USE_DEEPSPEED", "ACCELERATE_USE_FSDP"):
        os.environ.pop(name, None)
    if sharding.kind == "deepspeed":
        deepspeed_internals.before_process_group()
    if cuda:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
        # It would fill every new tensor with NaN; nothing here reads what it has not written.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    log_with = None if report_to == "none" else report_to
    try:
        _meet_again("nccl" if cuda else "gloo")
        accelerator = Accelerator(
            cpu=not cuda,
            log_with=log_with,
            project_dir=project_dir,
            kwargs_handlers=[InitProcessGroupKwargs(timeout=TIMEOUT)],
        )
        heartbeat.begin(accelerator.process_index, accelerator.num_processes)
    except (torch.distributed.DistError, ValueError) as error:
        raise InputError(f"the processes could not meet: {error}") from error
    if accelerator.num_processes != announced:
        raise InputError(
            f"{announced} processes were announced, but this one sees {accelerator.num_processes}; "
            "start them with an accelerate_configs/ YAML or torchrun (docs/launching.md)"
        )
    return Placement(accelerator, sharding)


def _meet_again(backend: str) -> None:
    """Join the process group of a restarted job, in a part of the store of its own.

    torchrun may keep its store over a restart (torch 2.13), and in it the addresses of processes
    that are gone, which the new ones would try to reach.
    """
    restart = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    if restart != "0":
        store, rank, world = next(torch.distributed.rendezvous("env://"))
        store = torch.distributed.PrefixStore(f"restart_{restart}", store)
        torch.distributed.init_process_group(
            backend, store=store, rank=rank, world_size=world, timeout=TIMEOUT
        )


def announced_processes(environment: Mapping[str, str]) -> int:
    """The number of processes that the launcher says it started.

    `accelerate launch` starts one process, where several were asked for, in some of its modes
    (docs/launching.md, Traps). It then sets MASTER_ADDR, but not WORLD_SIZE.

    Raises:
        InputError: no number, or such a launch.
    """
    name = next((name for name in _SIZES if name in environment), None)
    if name is not None:
        value = environment[name]
        if not (value.isascii() and value.isdecimal() and int(value)):
            raise InputError(f"{name}={value}: must be a number of processes")
        return int(value)
    if "ACCELERATE_MIXED_PRECISION" in environment and "MASTER_ADDR" in environment:
        raise InputError(
            "accelerate launch was asked for several processes, but started one; leave out --cpu, "
            "add --config_file accelerate_configs/cpu_2.yaml or multi_gpu.yaml if there is none, "
            "or unset MASTER_ADDR if one is meant"
        )
    return 1


def check_launch(environment: Mapping[str, str], num_gpus: int) -> None:
    """What the launcher's variables must say, before any device is touched.

    Args:
        environment: of this process.
        num_gpus: GPUs that this process sees.

    Raises:
        InputError: incomplete variables, more processes than GPUs, an unsupported setting.
    """
    announced = announced_processes(environment)
    missing = [name for name in _ADDRESS if name not in environment]
    if "WORLD_SIZE" in environment and announced > 1 and missing:
        raise InputError(
            f"WORLD_SIZE={announced}, but {', '.join(missing)} not set; start the processes with "
            "accelerate launch or torchrun"
        )
    local_rank = environment.get("LOCAL_RANK", "0")
    if num_gpus and local_rank.isdecimal() and int(local_rank) >= num_gpus:
        raise InputError(
            f"this machine has {num_gpus} GPUs, but more processes were started on it; each needs "
            "a GPU of its own"
        )
    precision = environment.get("ACCELERATE_MIXED_PRECISION", "no")
    if precision not in ("no", "bf16"):
        raise InputError(f"mixed_precision {precision} is not supported; use no or bf16")
    if environment.get("ACCELERATE_USE_MEGATRON_LM", "false").lower() == "true":
        raise InputError(
            "Megatron-LM is not supported; to cut a model over GPUs use "
            "accelerate_configs/deepspeed_zero3.yaml or fsdp2.yaml"
        )
    compiler = environment.get("ACCELERATE_DYNAMO_BACKEND", "no")
    if compiler.lower() != "no":
        raise InputError(f"dynamo_backend {compiler} is not supported; use no")
