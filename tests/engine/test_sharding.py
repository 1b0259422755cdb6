"""What the launcher's settings may ask for, and what of them is refused, in one line each."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from metatlp.engine.arguments.meta import MetaArguments, RunArguments
from metatlp.engine.arguments.supervised import MtlArguments
from metatlp.engine.compatibility import lay_out
from metatlp.engine.parameters import deepspeed_internals
from metatlp.engine.sharding import Sharding, sharding_of
from metatlp.engine.supervised.build import num_parts
from metatlp.errors import InputError

CONFIGS = sorted((Path(__file__).resolve().parents[2] / "accelerate_configs").glob("*.yaml"))
FSDP = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_RESHARD_AFTER_FORWARD": "true"}
# Environment -> how the one line begins, and what it holds.
REFUSED = [
    (
        {"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_USE_CPU": "true"},
        "ACCELERATE_USE_CPU=true would silently drop DeepSpeed; unset it",
    ),
    (FSDP | {"ACCELERATE_USE_CPU": "True"}, "ACCELERATE_USE_CPU=true would silently drop FSDP"),
    (
        {"ACCELERATE_DEEPSPEED_ZERO_STAGE": "2"},
        "ACCELERATE_DEEPSPEED_ZERO_STAGE is set, but ACCELERATE_USE_DEEPSPEED is not: DeepSpeed",
    ),
    (FSDP | {"ACCELERATE_USE_DEEPSPEED": "true"}, "ACCELERATE_USE_DEEPSPEED and ACCELERATE_USE_"),
    (FSDP | {"FSDP_VERSION": "1"}, "FSDP_VERSION=1: not supported; FSDP1 flattens"),
    (FSDP | {"FSDP_OFFLOAD_PARAMS": "true"}, "FSDP_OFFLOAD_PARAMS=true: not supported; to offload"),
    (
        FSDP | {"FSDP_ACTIVATION_CHECKPOINTING": "true"},
        "FSDP_ACTIVATION_CHECKPOINTING=true: not supported; use --gradient-checkpointing",
    ),
    (FSDP | {"FSDP_RESHARD_AFTER_FORWARD": "false"}, "FSDP_RESHARD_AFTER_FORWARD=false: not supp"),
]


@pytest.mark.parametrize(("environment", "line"), REFUSED)
def test_settings_that_nothing_would_obey(environment, line):
    with pytest.raises(InputError) as caught:
        sharding_of(environment)
    assert str(caught.value).startswith(line) and "\n" not in str(caught.value)


def test_settings_that_are_obeyed():
    assert sharding_of({}) == Sharding()
    found = sharding_of(FSDP)
    assert (found.kind, found.placed, found.describe()) == ("fsdp", "fsdp2", "FSDP2")
    zero = Sharding("deepspeed", {"zero_optimization": {"stage": 3}})
    assert (zero.placed, zero.describe()) == ("zero3", "DeepSpeed ZeRO 3")


def test_deepspeed_that_is_not_installed(monkeypatch):
    monkeypatch.setattr("metatlp.engine.sharding.find_spec", lambda name: None)
    with pytest.raises(InputError, match="not installed"):
        sharding_of({"ACCELERATE_USE_DEEPSPEED": "true"})


@pytest.mark.parametrize(
    ("module", "owner", "name"),
    [
        ("partitioned_param_coordinator", None, "assert_ints_same_as_other_ranks"),
        ("stage_1_and_2", "DeepSpeedZeroOptimizer", "update_lp_params"),
        ("stage3", "DeepSpeedZeroOptimizer_Stage3", "_partition_all_parameters"),
    ],
)
def test_a_deepspeed_whose_private_names_have_moved(monkeypatch, module, owner, name):
    found = pytest.importorskip(f"deepspeed.runtime.zero.{module}")
    monkeypatch.delattr(getattr(found, owner) if owner else found, name)
    if owner:
        # A class whose methods do not use the name either.
        monkeypatch.setattr(found, owner, type(owner, (), {}))
    with pytest.raises(InputError) as caught:
        deepspeed_internals.before_process_group()
    line = str(caught.value)
    assert name in line and "0.19.8" in line and "\n" not in line


def test_names_that_objects_will_have_are_looked_for_before_there_are_any(monkeypatch):
    pytest.importorskip("deepspeed")
    deepspeed_internals.before_process_group()
    place = deepspeed_internals._NAMES[-1]
    moved = (*place[:2], (*place[2], "no_such_name"))
    monkeypatch.setattr(deepspeed_internals, "_NAMES", (moved,))
    with pytest.raises(InputError, match="has no no_such_name, which"):
        deepspeed_internals.before_process_group()


def world(processes: int, sharding: Sharding | None = None) -> SimpleNamespace:
    return SimpleNamespace(
        world=processes,
        usual_ranks_per_tlp=1,
        together=nullcontext,
        gather=lambda items: items,
        sharding=sharding or Sharding(),
    )


@pytest.mark.parametrize(
    ("ranks", "parts", "line"),
    [
        (3, None, "--ranks-per-tlp 3: does not divide the number of processes, 4"),
        (2, 3, "--batch-parts 3: must be a multiple of --ranks-per-tlp, 2"),
    ],
)
def test_groups_that_do_not_come_out_even(ranks, parts, line):
    meta, run = MetaArguments(model="E", batch_parts=parts), RunArguments(ranks_per_tlp=ranks)
    with pytest.raises(InputError) as caught:
        lay_out(meta, run, world(4))
    assert str(caught.value) == line


def test_parts_of_ordinary_training():
    flags = MtlArguments(model="E", batch_parts=3)
    assert num_parts(flags, world(2)) == 3
    with pytest.raises(InputError, match="--batch-parts 3: under FSDP2 it must be a multiple"):
        num_parts(flags, world(2, Sharding("fsdp")))
    exact = MtlArguments(model="E", batch_parts=2, reduce="exact")
    assert num_parts(exact, world(2)) == 2
    with pytest.raises(InputError, match="--reduce exact: FSDP2 sums gradients in floating point"):
        num_parts(exact, world(2, Sharding("fsdp")))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_configurations_are_what_their_names_say(path):
    config, name = yaml.safe_load(path.read_text()), path.stem
    assert config["num_machines"] == (2 if name.startswith("multi_node") else 1)
    assert name.startswith("cpu_2") == (config["num_processes"] == 2)
    kind = config["distributed_type"]
    assert (kind == "DEEPSPEED") == ("deepspeed" in name) and (kind == "FSDP") == ("fsdp2" in name)
    if kind == "DEEPSPEED":
        section = config["deepspeed_config"]
        assert f"zero{section['zero_stage']}" in name and section["zero3_init_flag"] is False
        offload = "cpu" if "offload" in name else "none"
        assert section["offload_optimizer_device"] == offload
        assert section["offload_param_device"] == (offload if "zero3" in name else "none")
    if kind == "FSDP":
        assert config["fsdp_config"]["fsdp_version"] == 2
        assert config["fsdp_config"]["fsdp_reshard_after_forward"] is True
