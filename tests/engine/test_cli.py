"""The command line of train_meta.py: every flag, every preset, and one line for every mistake."""

from __future__ import annotations

import argparse
import dataclasses
import math
import re
from pathlib import Path

import pytest

from metatlp.data.demo_source import DemoGrid
from metatlp.engine.arguments.command_line import FlagParser, parse_flags
from metatlp.engine.arguments.data import DataArguments
from metatlp.engine.arguments.flags import flag_name
from metatlp.engine.arguments.meta import MetaArguments, RunArguments, resolved
from metatlp.engine.arguments.presets import PRESETS, preset_defaults
from metatlp.engine.arguments.rewards import DEFAULTS, RewardArguments
from metatlp.model.demo_encoder import RECIPE
from metatlp.sampling import MultiDDSConfig

ROOT = Path(__file__).resolve().parents[2]
TYPES = (DataArguments, MetaArguments, RewardArguments, RunArguments)
DATA = ["--data-dir", "DATA"]
NEEDED = [*DATA, "--model", "ENCODER"]

# Every flag with its default and choices. A new flag needs a row here, a line in
# docs/train_meta.md, and help with the paper's symbol and the unit.
FLAGS = {
    "--data": (None, ("folder", "hub", "demo", "own")),
    "--data-dir": (None, None),
    "--own-data": (None, None),
    "--demo-seed": (None, None),
    "--demo-scale": (None, None),
    "--demo-label-noise": (None, None),
    "--selection": ("all", None),
    "--train-languages": ("paper", None),
    "--batch-size": (None, None),
    "--batch-order": ("epochs", ("epochs", "reshuffle")),
    "--max-length": (128, None),
    "--qa-max-length": (384, None),
    "--qa-stride": (128, None),
    "--qa-query-length": (64, None),
    "--qa-answer-length": (30, None),
    "--long-inputs": ("keep", ("keep", "cut")),
    "--max-examples": (None, None),
    "--cache-dir": (None, None),
    "--model": (None, None),
    "--pretrain-steps": (None, None),
    "--tokenizer": (None, None),
    "--from-config": (False, None),
    "--attention": ("sdpa", ("sdpa", "eager")),
    "--dropout": (0.1, None),
    "--gradient-checkpointing": (False, None),
    "--preset": ("paper", ("paper", "authors-code", "debug", "demo")),
    "--sampler": ("temp", ("temp", "uniform", "fixed", "multidds")),
    "--tau": (None, None),
    "--weights-file": (None, None),
    "--size-unit": (None, ("examples", "batches")),
    "--draw": ("multinomial", ("multinomial", "systematic")),
    "--meta-batch-size": (8, None),
    "--inner-steps": (3, None),
    "--meta-lr": (1.0, None),
    "--outer-update": ("reptile", ("reptile", "first-order-maml")),
    "--outer-momentum": (0.0, None),
    "--outer-nesterov": (False, None),
    "--inner-lr": (3e-5, None),
    "--inner-state": ("average", ("average", "reset", "carry")),
    "--head-average": ("grid", ("grid", "task")),
    "--idle-heads": ("still", ("still", "momentum")),
    "--grad-clip": (5.0, None),
    "--weight-decay": (0.0, None),
    "--epochs": (5.0, None),
    "--max-meta-steps": (None, None),
    "--reduce": ("fp32", ("exact", "fp32", "bf16")),
    "--batch-parts": (None, None),
    "--seed": (0, None),
    "--dev-tlps": (None, None),
    "--reward": (None, ("cos-of-mean", "mean-of-cos", "adam-delta")),
    "--reward-batches": (None, None),
    "--reward-params": (None, ("all", "encoder")),
    "--reward-dropout": (None, ("on", "off")),
    "--dds-every": (None, None),
    "--dds-lr": (None, None),
    "--dds-update": (None, ("sum", "expected")),
    "--dds-floor": (None, None),
    "--dds-baseline": (None, ("none", "mean", "ema")),
    "--reward-smoothing": (None, None),
    "--output-dir": ("runs/meta", None),
    "--save-every": (500, None),
    "--keep": (2, None),
    "--resume": (None, None),
    "--eval-every": (0, None),
    "--eval-examples": (None, None),
    "--eval-batch-size": (64, None),
    "--report-to": ("none", ("none", "tensorboard", "wandb", "trackio")),
    "--debug": (False, None),
    "--dry-run": (False, None),
    "--ranks-per-tlp": (None, None),
}
# Symbols of the paper, and of its formulas in this project.
SYMBOLS = {
    "--tau": "(tau)",
    "--meta-batch-size": "(m)",
    "--inner-steps": "(k)",
    "--meta-lr": "(beta)",
    "--batch-size": "(b)",
    "--batch-parts": "of b examples",
    "--ranks-per-tlp": "(R)",
    "--selection": "(D_train)",
    "--size-unit": "q_i",
    "--demo-scale": "Table 1",
    "--dev-tlps": "D_dev",
    "--reward": "R_i",
    "--reward-batches": "(K)",
    "--dds-lr": "psi",
    "--dds-update": "psi",
}
UNITS = {
    **dict.fromkeys(("--batch-size", "--max-examples", "--eval-examples"), "examples"),
    **dict.fromkeys(
        ("--max-length", "--qa-max-length", "--qa-stride", "--qa-query-length"), "word pieces"
    ),
    "--pretrain-steps": "steps",
    **dict.fromkeys(
        ("--save-every", "--eval-every", "--max-meta-steps", "--dds-every"), "meta steps"
    ),
    "--reward-batches": "batches",
}


def parse(*argv):
    return parse_flags(TYPES, preset_defaults, "description", argv)


def values(*argv):
    """Field name -> value."""
    parts = parse(*NEEDED, *argv)
    return {name: value for part in parts for name, value in vars(part).items()}


@pytest.fixture(scope="module")
def actions():
    """Flag as the docs write it -> argparse action."""
    found = {}
    for action in FlagParser(TYPES, "")._actions:
        if not isinstance(action, argparse._HelpAction):
            found[action.option_strings[-1]] = action
    return found


def test_every_flag_its_default_and_its_choices(actions):
    seen = {
        flag: (action.default, tuple(action.choices) if action.choices else None)
        for flag, action in actions.items()
    }
    assert seen == FLAGS


def test_every_flag_has_help_with_symbol_and_unit(actions):
    for flag, action in actions.items():
        assert action.help and len(action.help) > 15, flag
    for flag, word in [*SYMBOLS.items(), *UNITS.items()]:
        assert word in actions[flag].help, flag


def test_docs_have_a_line_for_every_flag():
    text = (ROOT / "docs" / "train_meta.md").read_text()
    rows = set(re.findall(r"^\| `(--[a-z-]+)", text, flags=re.M))
    assert rows == set(FLAGS)


def test_docs_have_the_demos_values():
    text = (ROOT / "docs" / "train_meta.md").read_text()
    for name, value in PRESETS["demo"].items():
        shown = value if isinstance(value, str) else f"{value:g}"
        assert f"| `{flag_name(name)}` | {shown} |" in text, name
    assert f"| `--pretrain-steps` | {RECIPE.pretrain_steps} |" in text
    assert f"| `--demo-scale` | {DemoGrid.scale:g} |" in text


def test_flags_of_each_kind_are_read():
    # bool, Literal | None, float | None, int | None, str | None.
    found = values("--dry-run", "--size-unit", "batches", "--tau", "2", "--max-examples", "7")
    assert found["dry_run"] is True and found["size_unit"] == "batches"
    assert found["tau"] == 2.0 and found["max_examples"] == 7
    assert values("--from_config", "false")["from_config"] is False
    assert values("--from-config=true")["from_config"] is True
    assert values("--tau", "1", "--tau", "3")["tau"] == 3.0, "the last one counts"


def test_tau_inf():
    parts = parse(*NEEDED, "--tau", "inf")
    assert parts[1].tau == math.inf
    assert resolved(*parts)["tau"] == "inf"


def test_batch_sizes():
    def sizes(*argv):
        return parse(*NEEDED, *argv)[0].batch_sizes()

    assert sizes() == {"qa": 8, "nli": 32, "pa": 8, "pos": 32, "ner": 32}
    assert sizes("--batch-size", "16") == dict.fromkeys(("qa", "nli", "pa", "pos", "ner"), 16)
    assert sizes("--batch-size", "qa=4, ner=2") == sizes() | {"qa": 4, "ner": 2}


def test_resolved_says_what_is_used():
    found = resolved(*parse(*NEEDED))
    assert found["tau"] == 1.0 and found["size_unit"] == "examples"
    assert found["batch_size"] == "qa=8,nli=32,pa=8,pos=32,ner=32"
    assert found["tokenizer"] == "ENCODER"
    assert resolved(*parse(*NEEDED, "--sampler", "uniform"))["tau"] is None


PRESET_VALUES = {
    "paper": {"inner_lr": 3e-5, "epochs": 5.0, "dropout": 0.1, "meta_batch_size": 8}
    | {"inner_steps": 3, "meta_lr": 1.0, "inner_state": "average", "idle_heads": "still"}
    | {"batch_order": "epochs", "long_inputs": "keep", "size_unit": None, "grad_clip": 5.0},
    "authors-code": {"inner_lr": 5e-5, "epochs": 3.0, "dropout": 0.0, "inner_state": "carry"}
    | {"idle_heads": "momentum", "size_unit": "batches", "batch_order": "reshuffle"}
    | {"long_inputs": "cut", "meta_batch_size": 8, "inner_steps": 3, "meta_lr": 1.0},
    "debug": {"meta_batch_size": 2, "inner_steps": 2, "max_meta_steps": 3, "max_examples": 64}
    | {"batch_size": "4", "eval_examples": 32, "inner_lr": 3e-5, "debug": False},
    "demo": PRESETS["demo"] | {"inner_steps": 3, "meta_lr": 1.0, "output_dir": "runs/meta"},
}


@pytest.mark.parametrize("preset", PRESET_VALUES)
def test_presets(preset):
    found = values("--preset", preset)
    assert found["preset"] == preset
    assert {name: found[name] for name in PRESET_VALUES[preset]} == PRESET_VALUES[preset]
    others = {k: v for k, v in values().items() if k not in PRESETS[preset] and k != "preset"}
    assert {name: found[name] for name in others} == others


@pytest.mark.parametrize("first", [True, False])
def test_explicit_flags_override_a_preset_wherever_they_stand(first):
    preset, flags = ["--preset", "authors-code"], ["--epochs", "5", "--inner-state", "average"]
    found = values(*flags, *preset) if first else values(*preset, *flags)
    assert found["epochs"] == 5.0 and found["inner_state"] == "average"
    assert found["inner_lr"] == 5e-5
    # A value that equals the flag's own default counts as given.
    assert values("--preset", "authors-code", "--inner-lr", "3e-5")["inner_lr"] == 3e-5


def test_a_preset_yields_where_its_flag_has_no_place():
    found = values("--preset", "authors-code", "--sampler", "uniform")
    assert found["size_unit"] is None and found["sampler"] == "uniform"


def test_debug_is_the_debug_preset_with_checks():
    assert values("--debug") == values("--preset", "debug") | {"debug": True}
    assert values("--debug", "--preset", "debug") == values("--debug")
    assert values("--debug", "--max-meta-steps", "9")["max_meta_steps"] == 9


def test_the_demo_is_what_runs_without_data():
    data, meta, rewards, run = parse()
    assert (data.source, meta.preset, run.output_dir) == ("demo", "demo", "runs/demo")
    assert meta.embedded and meta.inner_lr == PRESETS["demo"]["inner_lr"]
    assert parse("--data", "demo") == (dataclasses.replace(data, data="demo"), meta, rewards, run)
    # Whatever is given wins, a preset too; an encoder of one's own may train on the demo.
    assert parse("--inner-lr", "3e-5")[1].inner_lr == 3e-5
    assert parse("--preset", "paper")[1].inner_lr == 3e-5
    assert not parse("--model", "ENCODER")[1].embedded
    found = resolved(data, meta, rewards, run)
    assert (found["data"], found["model"], found["tokenizer"]) == ("demo", "demo", "demo")
    assert (found["demo_seed"], found["demo_label_noise"]) == (0, 0.0)
    assert found["pretrain_steps"] == RECIPE.pretrain_steps
    assert found["demo_scale"] == DemoGrid.scale


def test_real_data_knows_nothing_of_the_demo():
    for given in (NEEDED, ["--data", "hub", "--model", "ENCODER"]):
        found = resolved(*parse(*given))
        assert found["preset"] == "paper" and found["output_dir"] == "runs/meta"
        names = ("demo_seed", "demo_scale", "demo_label_noise", "pretrain_steps")
        assert [found[name] for name in names] == [None] * 4


def test_own_data_alone_is_no_demo():
    data, meta, _, run = parse("--own-data", "OWN", "--model", "ENCODER")
    assert (data.source, meta.preset, run.output_dir) == ("own", "paper", "runs/meta")
    assert resolved(*parse("--own-data", "OWN", "--model", "ENCODER"))["data"] == "own"
    assert parse("--own-data", "OWN", "--data", "demo")[1].preset == "demo"
    assert values("--own-data", "OWN")["own_data"] == "OWN" and parse(*NEEDED)[0].own_data is None


def test_debug_makes_a_tiny_demo():
    data, meta, _, run = parse("--debug")
    assert meta.preset == "debug" and meta.max_meta_steps == 3 and run.output_dir == "runs/demo"
    # Pretraining is run too, although the default is none.
    assert data.demo.scale < DemoGrid.scale and meta.num_pretrain_steps == 10
    assert data.qa_max_length == PRESETS["demo"]["qa_max_length"] and data.batch_size == "4"
    assert parse("--debug", "--model", "ENCODER")[1].pretrain_steps is None


def test_help_lists_every_flag(fork):
    done = fork(["--help"])
    assert done.wait() == 0 and done.err == ""
    for flag in FLAGS:
        assert f"{flag} " in done.out or f"{flag}\n" in done.out, flag
    assert "default: None" not in done.out


def test_flags_of_rewards_are_what_the_sampler_makes_of_them():
    found = resolved(*parse(*NEEDED))
    assert {name: found[name] for name in vars(RewardArguments())} == dict.fromkeys(
        vars(RewardArguments())
    )
    learning = (*NEEDED, "--sampler", "multidds", "--dev-tlps", "qa_en")
    data, meta, rewards, _ = parse(*learning, "--size-unit", "batches")
    rewards.check_sampler(meta.sampler)
    assert meta.unit == "batches" and meta.temperature is None
    found = resolved(*parse(*learning))
    assert found["size_unit"] == "examples"
    assert {name: found[name] for name in DEFAULTS} == DEFAULTS
    assert rewards.multidds("multidds") == MultiDDSConfig(lr=0.01)
    chosen = rewards.rewards("multidds")
    assert (chosen.reward, chosen.every, chosen.dropout) == ("cos-of-mean", 10, False)
    assert chosen.num_passes(24, 24) == 2 * 48
    found = resolved(*parse(*learning, "--preset", "authors-code"))
    assert (found["reward"], found["reward_batches"], found["epochs"]) == ("adam-delta", 1, 5.0)
    assert found["size_unit"] == "batches"
    rewards = parse(*learning, "--preset", "authors-code")[2].rewards("multidds")
    assert rewards.num_passes(24, 5) == 24 + 24 * 5 and not rewards.halves
    assert parse(*NEEDED, "--preset", "authors-code")[2] == RewardArguments()
    assert resolved(*parse(*learning, "--debug"))["dds_every"] == 1
    assert resolved(*parse(*NEEDED, "--debug"))["dds_every"] is None
