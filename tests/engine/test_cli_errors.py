"""Mistakes on the command line of train_meta.py: one line each, before anything is touched."""

from __future__ import annotations

import re

import pytest

from metatlp.engine.arguments.command_line import parse_flags
from metatlp.engine.arguments.data import DataArguments
from metatlp.engine.arguments.meta import MetaArguments, RunArguments
from metatlp.engine.arguments.presets import preset_defaults
from metatlp.engine.arguments.rewards import RewardArguments
from metatlp.errors import InputError

TYPES = (DataArguments, MetaArguments, RewardArguments, RunArguments)
DATA = ["--data-dir", "DATA"]
NEEDED = [*DATA, "--model", "ENCODER"]
SCALE = "must be above 0, and at most 1 for Table 1's sizes"
# Flags with a float that has a default; nan is none of the values that any of them takes.
CLIP = (
    "with --reduce exact and --inner-state average it must be above 0 and at most 10, or small "
    "second moments are lost; use --reduce fp32, or another --inner-state"
)
FLOATS = ("--dropout", "--meta-lr", "--outer-momentum", "--inner-lr", "--grad-clip")
FLOATS += ("--weight-decay", "--epochs", "--tau")


def parse(*argv):
    parts = parse_flags(TYPES, preset_defaults, "description", argv)
    parts[2].check_sampler(parts[1].sampler)
    return parts


LEARNS = "--sampler multidds --dev-tlps qa_en"
LIMITS = "--qa-stride, --qa-query-length, --qa-answer-length: at least 1, not"
BATCH = "write one number, or qa=8,nli=32 with each of qa, nli, pa, pos, ner at most once"
# A line and its message; None where argparse words it, in words that vary between versions.
BAD = [
    # The form of the line.
    ("--sede 3", "unknown flag --sede; did you mean --seed?"),
    ("--zzz", "unknown flag --zzz; --help lists all flags"),
    ("--samp temp", "unknown flag --samp; did you mean --sampler?"),
    ("--meta-batch 4", "unknown flag --meta-batch; did you mean --meta-batch-size?"),
    ("--inner_step=4", "unknown flag --inner_step; did you mean --inner-steps?"),
    ("stray", "'stray' follows no flag"),
    ("--seed", "argument --seed: expected one argument"),
    ("--selection -x", "argument --selection: expected one argument"),
    ("--dry-run maybe", None),
    ("--debug 2", None),
    # Empty values.
    ("--selection=", "--selection: the value is empty"),
    ("--model=", "--model: the value is empty"),
    ("--tokenizer=", "--tokenizer: the value is empty"),
    ("--output-dir=", "--output-dir: the value is empty"),
    ("--resume=", "--resume: the value is empty"),
    ("--batch-size=", "--batch-size: the value is empty"),
    # Rewards.
    ("--dev-tlps qa_en", "--dev-tlps belongs to --sampler multidds"),
    ("--sampler uniform --reward adam-delta", "--reward belongs to --sampler multidds"),
    ("--dds-lr 0.1", "--dds-lr belongs to --sampler multidds"),
    ("--reward-smoothing 0", "--reward-smoothing belongs to --sampler multidds"),
    (
        "--sampler multidds",
        "--sampler multidds needs --dev-tlps: a target like qa_en, lang:hi or task:nli",
    ),
    ("--sampler multidds --dev-tlps=", "--dev-tlps: the value is empty"),
    (f"{LEARNS} --tau 2", "--tau belongs to --sampler temp"),
    (f"{LEARNS} --weights-file w.tsv", "--weights-file belongs to --sampler fixed"),
    (f"{LEARNS} --reward-batches 0", "--reward-batches 0: must be 1 or more"),
    (f"{LEARNS} --dds-every 0", "--dds-every 0: must be 1 or more"),
    (f"{LEARNS} --dds-lr 0", "--dds-lr 0.0: must be positive and finite"),
    (f"{LEARNS} --dds-lr nan", "--dds-lr nan: must be positive and finite"),
    (f"{LEARNS} --dds-floor -1", "--dds-floor -1.0: must be from 0 to 1/n"),
    (f"{LEARNS} --dds-floor nan", "--dds-floor nan: must be from 0 to 1/n"),
    (f"{LEARNS} --reward-smoothing 1", "--reward-smoothing 1.0: must be at least 0 and below 1"),
    ("--reward best --sampler multidds", None),
    # Choices and kinds of values.
    ("--sampler best", None),
    ("--data disk", None),
    ("--preset theirs", None),
    ("--inner-state keep", None),
    ("--reduce fp16", None),
    ("--report-to mail", None),
    ("--size-unit tokens", None),
    ("--seed x", "argument --seed: invalid int value: 'x'"),
    ("--seed 1.5", "argument --seed: invalid int value: '1.5'"),
    ("--tau warm", "argument --tau: invalid float value: 'warm'"),
    ("--meta-batch-size 1e3", None),
    # Samplers and the flags that are theirs.
    ("--tau 2 --sampler uniform", "--tau belongs to --sampler temp"),
    ("--sampler fixed --weights-file W --tau 1", "--tau belongs to --sampler temp"),
    ("--size-unit batches --sampler uniform", "--size-unit belongs to --sampler temp, multidds"),
    ("--weights-file W", "--weights-file belongs to --sampler fixed"),
    ("--weights-file W --sampler uniform", "--weights-file belongs to --sampler fixed"),
    ("--sampler fixed", "--sampler fixed needs --weights-file"),
    ("--tau 0", "--tau 0.0: must be positive, or inf"),
    ("--tau -1", "--tau -1.0: must be positive, or inf"),
    ("--tau nan", "--tau nan: must be positive, or inf"),
    ("--tau=-inf", "--tau -inf: must be positive, or inf"),
    # Numbers.
    ("--seed -1", "--seed -1: must be at least 0 and below 2^32"),
    ("--seed 4294967296", "--seed 4294967296: must be at least 0 and below 2^32"),
    ("--meta-batch-size 0", "--meta-batch-size 0: must be 1 or more"),
    ("--inner-steps 0", "--inner-steps 0: must be 1 or more"),
    ("--max-meta-steps 0", "--max-meta-steps 0: must be 1 or more"),
    ("--max-examples 0", "--max-examples 0: must be 1 or more"),
    ("--eval-examples -5", "--eval-examples -5: must be 1 or more"),
    ("--eval-batch-size 0", "--eval-batch-size 0: must be 1 or more"),
    ("--keep 0", "--keep 0: must be 1 or more"),
    ("--save-every -1", "--save-every -1: must be 0 or more"),
    ("--eval-every -1", "--eval-every -1: must be 0 or more"),
    ("--inner-lr -1", "--inner-lr -1.0: must be 0 or more, and finite"),
    ("--inner-lr nan", "--inner-lr nan: must be 0 or more, and finite"),
    ("--inner-lr inf", "--inner-lr inf: must be 0 or more, and finite"),
    ("--inner-lr 3", "--inner-lr 3.0: must be at most 1"),
    ("--meta-lr nan", "--meta-lr nan: must be 0 or more, and finite"),
    ("--grad-clip nan", "--grad-clip nan: must be 0 or more, and finite"),
    ("--weight-decay nan", "--weight-decay nan: must be 0 or more, and finite"),
    ("--epochs nan", "--epochs nan: must be 0 or more, and finite"),
    ("--epochs 0", "--epochs 0.0: must be positive"),
    ("--dropout nan", "--dropout nan: must be at least 0 and below 1"),
    ("--dropout 1", "--dropout 1.0: must be at least 0 and below 1"),
    ("--outer-momentum nan", "--outer-momentum nan: must be at least 0 and below 1"),
    ("--outer-momentum 1", "--outer-momentum 1.0: must be at least 0 and below 1"),
    ("--outer-nesterov", "--outer-nesterov needs --outer-momentum"),
    ("--grad-clip 1e-9", "--grad-clip 1e-09: must be 0 (off), or from 1e-06 to 1e+06"),
    ("--grad-clip 1e200", "--grad-clip 1e+200: must be 0 (off), or from 1e-06 to 1e+06"),
    ("--reduce exact --grad-clip 0", f"--grad-clip 0.0: {CLIP}"),
    ("--reduce exact --grad-clip 10.5", f"--grad-clip 10.5: {CLIP}"),
    # Batches and lengths.
    ("--batch-size 0", f"--batch-size: cannot read '0'; {BATCH}"),
    ("--batch-size -3", f"--batch-size: cannot read '-3'; {BATCH}"),
    ("--batch-size big", f"--batch-size: cannot read 'big'; {BATCH}"),
    ("--batch-size 8.0", f"--batch-size: cannot read '8.0'; {BATCH}"),
    ("--batch-size 4,8", f"--batch-size: cannot read '8'; {BATCH}"),
    ("--batch-size qa=4,8", f"--batch-size: cannot read '8'; {BATCH}"),
    ("--batch-size qa=4,qa=8", f"--batch-size: cannot read 'qa=8'; {BATCH}"),
    ("--batch-size qa=", f"--batch-size: cannot read 'qa='; {BATCH}"),
    ("--batch-size qa_en=4", f"--batch-size: cannot read 'qa_en=4'; {BATCH}"),
    ("--batch-size qa=4,", f"--batch-size: cannot read ''; {BATCH}"),
    ("--batch-size ٣", f"--batch-size: cannot read '٣'; {BATCH}"),
    ("--max-length 2", "--max-length 2: at least 8"),
    ("--qa-stride 0", f"{LIMITS} 0, 64, 30"),
    ("--qa-answer-length -1", f"{LIMITS} 128, 64, -1"),
    (
        "--qa-stride 384",
        "--qa-max-length 384: at least --qa-stride + --qa-query-length + 8 = 456",
    ),
    # Presets and trackers.
    (
        "--debug --preset authors-code",
        "--debug is --preset debug; it does not go with --preset authors-code",
    ),
    ("--preset paper --debug", "--debug is --preset debug; it does not go with --preset paper"),
    ("--data hub", "--data-dir belongs to --data folder"),
    ("--data demo", "--data-dir belongs to --data folder"),
    # The demo and the flags that are its own.
    ("--demo-seed 0", "--demo-seed belongs to --data demo"),
    ("--demo-scale 0.1", "--demo-scale belongs to --data demo"),
    ("--demo-label-noise 0", "--demo-label-noise belongs to --data demo"),
    ("--pretrain-steps 0", "--pretrain-steps belongs to the demo's encoder: leave out --model"),
    ("--demo-seed x", "argument --demo-seed: invalid int value: 'x'"),
]
BAD_DEMO = [
    ("--demo-seed -1", "--demo-seed -1: must be at least 0 and below 2^32"),
    ("--demo-seed 4294967296", "--demo-seed 4294967296: must be at least 0 and below 2^32"),
    ("--demo-scale 0", f"--demo-scale 0.0: {SCALE}"),
    ("--demo-scale nan", f"--demo-scale nan: {SCALE}"),
    ("--demo-scale 1.5", f"--demo-scale 1.5: {SCALE}"),
    ("--demo-scale inf", f"--demo-scale inf: {SCALE}"),
    ("--demo-label-noise 1.5", "--demo-label-noise 1.5: must be from 0 to 1"),
    ("--demo-label-noise nan", "--demo-label-noise nan: must be from 0 to 1"),
    ("--pretrain-steps -1", "--pretrain-steps -1: must be 0 or more"),
    ("--debug --preset demo", "--debug is --preset debug; it does not go with --preset demo"),
    ("--data folder --model E", "--data-dir: name a folder in XTREME's layout, or use --data hub"),
    ("--data folder", "--model: name an encoder (a hub id or a folder); only the demo has one"),
    ("--data hub --demo-seed 1 --model E", "--demo-seed belongs to --data demo"),
]


@pytest.mark.parametrize(("line", "message"), BAD, ids=[line for line, _ in BAD])
def test_bad_lines(line, message):
    with pytest.raises(InputError) as caught:
        parse(*NEEDED, *line.split())
    # argparse names both spellings of a flag.
    text = re.sub(r"argument --[a-z_]+/", "argument ", str(caught.value))
    if message is None:
        assert text.startswith(f"argument {line.split()[0]}: ") and "\n" not in text
    else:
        assert text == message


@pytest.mark.parametrize(("line", "message"), BAD_DEMO, ids=[line for line, _ in BAD_DEMO])
def test_bad_lines_without_real_data(line, message):
    with pytest.raises(InputError) as caught:
        parse(*line.split())
    assert str(caught.value) == message


def test_choices_are_named():
    with pytest.raises(InputError, match="choose from .*temp.*uniform.*fixed"):
        parse(*NEEDED, "--sampler", "best")


@pytest.mark.parametrize("name", FLOATS)
def test_nan_is_refused_everywhere(name):
    with pytest.raises(InputError, match=f"{name} nan"):
        parse(*NEEDED, name, "nan")


def test_what_must_be_given_with_real_data():
    with pytest.raises(InputError, match="^--model: name an encoder"):
        parse(*DATA)
    with pytest.raises(InputError, match="^--model: name an encoder"):
        parse("--data", "hub")
    assert parse("--data", "hub", "--model", "ENCODER")[0].data_dir is None


@pytest.mark.parametrize("tracker", ["wandb", "trackio"])
def test_a_missing_tracker_names_its_package(tracker, monkeypatch):
    monkeypatch.setattr("metatlp.engine.arguments.meta.find_spec", lambda name: None)
    with pytest.raises(InputError) as caught:
        parse(*NEEDED, "--report-to", tracker)
    assert str(caught.value) == (
        f"--report-to {tracker}: its package is missing; pip install {tracker}"
    )


# Processes of their own: what a user sees.


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        (
            {"WORLD_SIZE": "2"},
            "WORLD_SIZE=2, but RANK, LOCAL_RANK, MASTER_ADDR, MASTER_PORT not set; start the "
            "processes with accelerate launch or torchrun",
        ),
        (
            {"ACCELERATE_MIXED_PRECISION": "fp16"},
            "mixed_precision fp16 is not supported; use no or bf16",
        ),
    ],
)
def test_errors_of_the_launch_are_one_line(tmp_path, fork, environment, message):
    folder = tmp_path / "run"
    done = fork([*NEEDED, "--output-dir", str(folder)], **environment)
    assert done.wait() == 2
    assert (done.out, done.err) == ("", f"train_meta.py: error: {message}\n")
    assert not folder.exists()


def test_an_error_is_one_line(tmp_path, launch):
    folder = tmp_path / "run"
    flags = [*NEEDED, "--output-dir", str(folder), "--tau", "2", "--sampler", "uniform"]
    done = launch("train_meta.py", flags)
    assert done.returncode == 2
    assert (done.stdout, done.stderr) == (
        "",
        "train_meta.py: error: --tau belongs to --sampler temp\n",
    )
    assert not folder.exists()
