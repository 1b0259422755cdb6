"""What the launcher says, and errors of several processes. Few processes, no training."""

from __future__ import annotations

import pytest

from metatlp.engine.placement import announced_processes, check_launch
from metatlp.errors import InputError

WORLD = {"RANK": "1", "LOCAL_RANK": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}
ACCELERATE = {"ACCELERATE_MIXED_PRECISION": "no"}


@pytest.mark.parametrize(
    ("environment", "processes"),
    [
        ({}, 1),
        ({"MASTER_ADDR": "here"}, 1),  # exported by the user; nothing of accelerate launch
        (ACCELERATE, 1),
        ({**WORLD, "WORLD_SIZE": "2"}, 2),
        ({**WORLD, **ACCELERATE, "WORLD_SIZE": "4", "SLURM_STEP_NUM_TASKS": "2"}, 4),
        ({"SLURM_STEP_NUM_TASKS": "8"}, 8),
        ({"OMPI_COMM_WORLD_SIZE": "3"}, 3),
        ({**ACCELERATE, "MASTER_ADDR": "127.0.0.1", "WORLD_SIZE": "1"}, 1),
    ],
)
def test_announced_processes(environment, processes):
    assert announced_processes(environment) == processes


BAD_LAUNCHES = [
    ({"WORLD_SIZE": "two"}, 0, "WORLD_SIZE=two: must be a number of processes"),
    ({"WORLD_SIZE": "0"}, 0, "WORLD_SIZE=0: must be a number of processes"),
    (
        {"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0"},
        0,
        "WORLD_SIZE=2, but MASTER_ADDR, MASTER_PORT not set; start the processes with accelerate "
        "launch or torchrun",
    ),
    (
        {**ACCELERATE, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"},
        0,
        "accelerate launch was asked for several processes, but started one; leave out --cpu, add "
        "--config_file accelerate_configs/cpu_2.yaml or multi_gpu.yaml if there is none, or unset "
        "MASTER_ADDR if one is meant",
    ),
    (
        {**WORLD, "WORLD_SIZE": "2"},
        1,
        "this machine has 1 GPUs, but more processes were started on it; each needs a GPU of its "
        "own",
    ),
    (
        {"ACCELERATE_MIXED_PRECISION": "fp8"},
        0,
        "mixed_precision fp8 is not supported; use no or bf16",
    ),
    (
        {"ACCELERATE_USE_MEGATRON_LM": "true"},
        0,
        "Megatron-LM is not supported; to cut a model over GPUs use "
        "accelerate_configs/deepspeed_zero3.yaml or fsdp2.yaml",
    ),
    (
        {"ACCELERATE_DYNAMO_BACKEND": "INDUCTOR"},
        0,
        "dynamo_backend INDUCTOR is not supported; use no",
    ),
]


@pytest.mark.parametrize(("environment", "num_gpus", "message"), BAD_LAUNCHES)
def test_bad_launches(environment, num_gpus, message):
    with pytest.raises(InputError) as caught:
        check_launch(environment, num_gpus)
    assert str(caught.value) == message


def test_good_launches():
    check_launch({}, 0)
    check_launch({**WORLD, "WORLD_SIZE": "2", "ACCELERATE_DYNAMO_BACKEND": "NO"}, 2)


def test_several_ranks_say_it_once(fork_world, meta_flags, tmp_path):
    output = tmp_path / "run"
    flags = ["--inner-state", "carry", "--output-dir", str(output)]
    ranks = fork_world([*meta_flags, *flags], 2, codes=[2])
    assert not output.exists()
    assert "".join(rank.err for rank in ranks).splitlines() == [
        "train_meta.py: error: --inner-state carry is sequential: it needs one process, not 2; or "
        "use --inner-state average"
    ]
