"""The commands of docs/paper_tables.md are read by the scripts that they name."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from metatlp.engine.arguments.command_line import parse_flags
from metatlp.engine.arguments.data import DataArguments, EncodingArguments, SourceArguments
from metatlp.engine.arguments.evaluate import EvaluateArguments
from metatlp.engine.arguments.meta import MetaArguments, RunArguments
from metatlp.engine.arguments.presets import finetune_defaults, mtl_defaults, preset_defaults
from metatlp.engine.arguments.rewards import RewardArguments
from metatlp.engine.arguments.supervised import (
    FinetuneArguments,
    FinetuneOutputArguments,
    MtlArguments,
    MtlOutputArguments,
)
from metatlp.grid import EXTERNAL_TLPS, PAPER_SIZES, Grid, select, select_dev

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "paper_tables.md").read_text()
COMMANDS = [
    line
    for block in re.findall(r"```bash\n(.*?)```", TEXT, flags=re.S)
    for line in block.splitlines()
]
META = (DataArguments, MetaArguments, RewardArguments, RunArguments)
FINETUNE = (EncodingArguments, FinetuneArguments, FinetuneOutputArguments)
TYPES = {
    "train_meta.py": (META, preset_defaults),
    "train_mtl.py": ((DataArguments, MtlArguments, MtlOutputArguments), mtl_defaults),
    "finetune.py": (FINETUNE, finetune_defaults),
    "evaluate_zeroshot.py": ((SourceArguments, EvaluateArguments), lambda given: {}),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_is_read(command):
    script, *argv = shlex.split(command)
    parts = parse_flags(*TYPES[script], "", argv)
    values = {name: value for part in parts for name, value in vars(part).items()}
    grid = Grid.of(PAPER_SIZES)
    for name in ("selection", "tlp"):
        if name in values:
            assert select(grid, values[name]).tlps
    if values.get("dev_tlps"):
        assert select_dev(grid.tlps, grid, values["dev_tlps"]).tlps
    # What a command starts from, another one writes.
    made = {re.search(r"--output-dir (\S+)", line).group(1) for line in COMMANDS}
    if values.get("init_from"):
        assert values["init_from"] in made


def test_there_is_one_for_every_kind_of_row():
    scripts = {command.split()[0] for command in COMMANDS}
    assert scripts == set(TYPES) and len(EXTERNAL_TLPS) == 28
    for words in ("--selection lang:", "--selection task:", "--selection all"):
        for script in ("train_meta.py", "train_mtl.py"):
            assert any(c.startswith(script) and words in c for c in COMMANDS), (script, words)
    for words in ("--dev-tlps qa_hi", "--dev-tlps lang:", "--dev-tlps task:"):
        assert any(words in command for command in COMMANDS)
