"""The command lines of train_mtl.py and finetune.py: every flag, and one line for every mistake."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import pytest

from metatlp.engine.arguments.command_line import FlagParser, parse_flags
from metatlp.engine.arguments.data import DataArguments, EncodingArguments
from metatlp.engine.arguments.presets import DEMO_FINETUNE, DEMO_MTL, mtl_defaults
from metatlp.engine.arguments.supervised import (
    FinetuneArguments,
    FinetuneOutputArguments,
    MtlArguments,
    MtlOutputArguments,
)
from metatlp.engine.supervised.init_from import init_defaults
from metatlp.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
MTL = (DataArguments, MtlArguments, MtlOutputArguments)
FINETUNE = (EncodingArguments, FinetuneArguments, FinetuneOutputArguments)

# Every flag with its default and choices. A new flag needs a row here, a line in the script's page
# under docs/, and help with the paper's symbol and the unit.
ENCODING = {
    "--data": (None, ("folder", "hub", "demo", "own")),
    "--data-dir": (None, None),
    "--own-data": (None, None),
    "--demo-seed": (None, None),
    "--demo-scale": (None, None),
    "--demo-label-noise": (None, None),
    "--batch-size": (None, None),
    "--max-length": (128, None),
    "--qa-max-length": (384, None),
    "--qa-stride": (128, None),
    "--qa-query-length": (64, None),
    "--qa-answer-length": (30, None),
    "--long-inputs": ("keep", ("keep", "cut")),
    "--max-examples": (None, None),
    "--cache-dir": (None, None),
}
UPDATES = {
    "--model": (None, None),
    "--pretrain-steps": (None, None),
    "--tokenizer": (None, None),
    "--from-config": (False, None),
    "--attention": ("sdpa", ("sdpa", "eager")),
    "--dropout": (0.1, None),
    "--gradient-checkpointing": (False, None),
    "--weight-decay": (0.0, None),
    "--batch-parts": (None, None),
    "--reduce": ("fp32", ("exact", "fp32")),
}
OUTPUT = {
    "--eval-examples": (None, None),
    "--eval-batch-size": (64, None),
    "--report-to": ("none", ("none", "tensorboard", "wandb", "trackio")),
    "--dry-run": (False, None),
    "--resume": (None, None),
    "--save-every": (500, None),
}
FLAGS = {
    "train_mtl": {
        **ENCODING,
        **UPDATES,
        **OUTPUT,
        "--selection": ("all", None),
        "--train-languages": ("paper", None),
        "--batch-order": ("epochs", ("epochs", "reshuffle")),
        "--grad-clip": (5.0, None),
        "--select": ("last", ("best", "last")),
        "--sampler": ("concat", ("concat", "temp", "uniform")),
        "--tau": (None, None),
        "--lr": (5e-5, None),
        "--epochs": (5.0, None),
        "--max-updates": (None, None),
        "--match-updates": (None, None),
        "--average-last": (0, None),
        "--seed": (0, None),
        "--output-dir": ("runs/mtl", None),
        "--keep": (2, None),
        "--eval-every": (0, None),
    },
    "finetune": {
        **ENCODING,
        **UPDATES,
        **OUTPUT,
        "--grad-clip": (1.0, None),
        "--select": ("best", ("best", "last")),
        "--tlp": (None, None),
        "--train-languages": ("paper", None),
        "--init-from": (None, None),
        "--lr": (None, None),
        "--epochs": (None, None),
        "--updates": (None, None),
        "--shots": ("full", None),
        "--seeds": ("0", None),
        "--output-dir": ("runs/finetune", None),
        "--keep": (1, None),
        "--eval-every": (None, None),
    },
}
TYPES = {"train_mtl": MTL, "finetune": FINETUNE}
# What stands in the help: symbols of the paper, and units.
WORDS = {
    "--selection": "(D_train)",
    "--tau": "(tau)",
    "--match-updates": "m * k",
    "--batch-size": "(b)",
    "--max-updates": "updates",
    "--eval-every": "updates",
    "--save-every": "updates",
    "--updates": "updates",
    "--shots": "training examples",
    "--average-last": "checkpoints",
}


@pytest.mark.parametrize("script", FLAGS)
def test_every_flag_its_default_its_choices_and_its_help(script):
    actions = {
        action.option_strings[-1]: action
        for action in FlagParser(TYPES[script], "")._actions
        if not isinstance(action, argparse._HelpAction)
    }
    assert {
        flag: (action.default, tuple(action.choices) if action.choices else None)
        for flag, action in actions.items()
    } == FLAGS[script]
    for flag, action in actions.items():
        assert action.help and len(action.help) > 15, flag
        assert WORDS.get(flag, "") in action.help, flag


@pytest.mark.parametrize("script", FLAGS)
def test_docs_have_a_line_for_every_flag(script):
    text = (ROOT / "docs" / f"{script}.md").read_text()
    rows = re.findall(r"^\| `(--[a-z-]+)`(?:, `(--[a-z-]+)`)*", text, flags=re.M)
    named = {flag for flag in re.findall(r"`(--[a-z-]+)`", "\n".join(
        line for line in text.splitlines() if line.startswith("| `--"))) }  # fmt: skip
    assert rows and named >= set(FLAGS[script]), set(FLAGS[script]) - named


def mtl(*argv):
    return parse_flags(MTL, mtl_defaults, "", argv)


def finetune(*argv):
    return parse_flags(FINETUNE, init_defaults, "", argv)


REAL = ["--data-dir", "D", "--model", "M"]


def test_the_demos_defaults():
    for parts, values in ((mtl(), DEMO_MTL), (finetune("--tlp", "pos_hi"), DEMO_FINETUNE)):
        found = {name: value for part in parts for name, value in vars(part).items()}
        assert {name: found[name] for name in values} == values
    assert mtl()[2].output_dir == "runs/demo-mtl" and mtl(*REAL)[2].output_dir == "runs/mtl"


def test_the_papers_learning_rates_and_epochs():
    """Appendices A and B."""
    baseline = finetune(*REAL, "--tlp", "qa_en")[1]
    assert [baseline.rates_of(task) for task in ("qa", "nli", "pa", "pos", "ner")] == [
        (3e-5,), (2e-5,), (2e-5,), (2e-5,), (2e-5,),
    ]  # fmt: skip
    epochs = {task: baseline.num_updates(task, 100) for task in ("qa", "nli", "pa", "pos", "ner")}
    assert epochs == {"qa": 200, "nli": 500, "pa": 500, "pos": 1000, "ner": 1000}
    from_model = FinetuneArguments(tlp="qa_en", init_from="RUN")
    assert [from_model.rates_of(task) for task in ("qa", "nli", "pa", "pos", "ner")] == [
        (3e-5, 3e-6), (2e-6,), (2e-6,), (2e-5, 2e-6), (2e-5, 2e-6),
    ]  # fmt: skip
    assert from_model.num_updates("qa", 7) == 14
    assert FinetuneArguments(tlp="qa_en", updates=9).num_updates("qa", 7) == 9
    assert FinetuneArguments(tlp="qa_en", epochs=0.01).num_updates("qa", 7) == 1
    assert FinetuneArguments(tlp="qa_en", lr="1e-3,1e-4").rates_of("nli") == (1e-3, 1e-4)


def test_lists():
    flags = FinetuneArguments(tlp="qa_en", init_from="RUN", shots="0, 10,full", seeds="0,1,2")
    assert flags.shot_list == (0, 10, None) and flags.seed_list == (0, 1, 2)


BAD = [
    (mtl, REAL[:2], "--model: name an encoder"),
    (mtl, [*REAL, "--tau", "2"], "--tau belongs to --sampler temp"),
    (mtl, [*REAL, "--sampler", "temp", "--tau", "0"], "--tau 0.0: must be positive, or inf"),
    (mtl, [*REAL, "--epochs", "0"], "--epochs 0.0: must be positive"),
    (mtl, [*REAL, "--lr", "-1"], "--lr -1.0: must be from 0 to 1"),
    (mtl, [*REAL, "--max-updates", "0"], "--max-updates 0: must be 1 or more"),
    (mtl, [*REAL, "--average-last", "-1"], "--average-last -1: must be 0 or more"),
    (mtl, [*REAL, "--batch-parts", "0"], "--batch-parts 0: must be 1 or more"),
    (mtl, [*REAL, "--dropout", "1"], "--dropout 1.0: must be at least 0 and below 1"),
    (mtl, [*REAL, "--grad-clip", "nan"], "--grad-clip nan: must be 0 or more, and finite"),
    (mtl, [*REAL, "--pretrain-steps", "3"], "--pretrain-steps belongs to the demo's encoder"),
    (mtl, [*REAL, "--inner-lr", "1"], "unknown flag --inner-lr"),
    (
        mtl,
        [*REAL, "--match-updates", "RUN", "--epochs", "3"],
        "--match-updates takes the place of --epochs",
    ),
    (
        finetune,
        [*REAL, "--tlp", "qa_en", "--shots", "5,5,full"],
        "--shots 5,5,full: a number stands there twice",
    ),
    (finetune, REAL, "--tlp: name the task-language pairs"),
    (finetune, [*REAL[:2], "--tlp", "qa_en"], "--model or --init-from: name an encoder"),
    (finetune, [*REAL, "--tlp", "qa_en", "--init-from", "/none"], "no such folder"),
    (finetune, [*REAL, "--tlp", "qa_en", "--lr", "fast"], "--lr: cannot read 'fast'"),
    (finetune, [*REAL, "--tlp", "qa_en", "--lr", "1e-3,1e-3"], "a number stands there twice"),
    (finetune, [*REAL, "--tlp", "qa_en", "--lr", "2"], "--lr 2.0: must be from 0 to 1"),
    (finetune, [*REAL, "--tlp", "qa_en", "--seeds", "-1"], "--seeds -1: must be 0 or more"),
    (finetune, [*REAL, "--tlp", "qa_en", "--seeds", "0,x"], "--seeds: cannot read '0,x'"),
    (finetune, [*REAL, "--tlp", "qa_en", "--shots", "few"], "--shots: cannot read 'few'"),
    (finetune, [*REAL, "--tlp", "qa_en", "--shots", "0"], "--shots 0 needs --init-from"),
    (finetune, [*REAL, "--tlp", "qa_en", "--epochs", "0"], "--epochs 0.0: must be positive"),
    (finetune, [*REAL, "--tlp", "qa_en", "--updates", "0"], "--updates 0: must be 1 or more"),
    (
        finetune,
        [*REAL, "--tlp", "qa_en", "--updates", "3", "--epochs", "1"],
        "--updates takes the place of --epochs",
    ),
    (finetune, [*REAL, "--tlp", "qa_en", "--resume", "x"], "--resume x: only auto is known here"),
]


@pytest.mark.parametrize(("parse", "argv", "message"), BAD)
def test_mistakes_are_one_line(parse, argv, message):
    with pytest.raises(InputError) as met:
        parse(*argv)
    assert message in str(met.value) and "\n" not in str(met.value)


def test_an_encoder_and_a_model_exclude_each_other():
    with pytest.raises(InputError, match="--model does not go with --init-from"):
        FinetuneArguments(tlp="qa_en", init_from="RUN", model="M")
