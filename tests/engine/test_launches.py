"""accelerate launch with the YAMLs of DeepSpeed and FSDP2, as users type it, and what it drops."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from metatlp.engine import checkpoint

# Many processes on few cores: a limit for what hangs, not for what is slow.
pytestmark = pytest.mark.timeout(900)

ROOT = Path(__file__).resolve().parents[2]
LAUNCHER = ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


def run(*command: str, **more: str) -> subprocess.CompletedProcess:
    environment = {k: v for k, v in os.environ.items() if k not in LAUNCHER}
    environment |= {"CUDA_VISIBLE_DEVICES": "", **more}
    command = (sys.executable, *command)
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)


def launched(config: str, *options: str) -> list[str]:
    """The command line up to the script."""
    file = ROOT / "accelerate_configs" / f"{config}.yaml"
    return ["-m", "accelerate.commands.launch", "--config_file", str(file), *options]


@pytest.mark.parametrize(
    ("config", "said"),
    [("cpu_2_deepspeed_zero3", "DeepSpeed ZeRO 3"), ("cpu_2_fsdp2", "FSDP2")],
)
def test_two_processes_train_as_one_tlp_group(meta_flags, tmp_path, config, said):
    pytest.importorskip("deepspeed")
    flags = ["--selection", "pos_en,qa_es", "--max-meta-steps", "1", "--eval-examples", "1"]
    command = [*launched(config), "train_meta.py", *meta_flags, *flags]
    done = run(*command, "--output-dir", str(tmp_path / "run"))
    assert done.returncode == 0, done.stderr[-4000:]
    first, *rest = done.stdout.splitlines()
    assert first.startswith("2 processes, each on cpu") and f"; {said};" in first
    assert "1 TLP group x 2 shards" in rest
    saved = checkpoint.load(tmp_path / "run" / "checkpoints" / "step_000001")
    assert (saved.path / "theta.index.json").exists() and saved.state["step"] == 1
    assert {path.name for path in (tmp_path / "run" / "models").iterdir()} == {"pos", "qa"}
    recorded = json.loads((tmp_path / "run" / "args.json").read_text())
    assert recorded["placement"]["processes"] == 2


# `--cpu` starts one process, which would train as rank 0 of 1, and drops DeepSpeed and FSDP2. It is
# known by MASTER_ADDR without WORLD_SIZE; if a later Accelerate changes this, so must the check.
@pytest.mark.parametrize("config", [None, "cpu_2_deepspeed_zero2", "cpu_2_fsdp2"])
def test_a_launch_that_starts_one_process_is_refused(tmp_path, config):
    command = ["-m", "accelerate.commands.launch", "--num_processes", "2", "--cpu"]
    if config is not None:
        command = launched(config, "--cpu")
    flags = ["--data-dir", "DATA", "--model", "ENCODER", "--output-dir", str(tmp_path / "run")]
    done = run(*command, "train_meta.py", *flags)
    assert done.returncode != 0 and not (tmp_path / "run").exists()
    line = "train_meta.py: error: accelerate launch was asked for several processes, but started"
    assert done.stderr.count(line) == 1
    # The rest is Accelerate's own traceback.
    assert 'train_meta.py", line' not in done.stderr
    assert "returned non-zero exit status 2." in done.stderr


HIDES = """\
import sys
from importlib.machinery import PathFinder


class WithoutDeepSpeed(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name.partition(".")[0] != "deepspeed":
            return PathFinder.find_spec(name, path, target)


sys.meta_path[sys.meta_path.index(PathFinder)] = WithoutDeepSpeed
"""


def test_deepspeed_that_is_not_installed(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(HIDES)
    path = os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), str(tmp_path))))
    flags = ["--data-dir", "DATA", "--model", "ENCODER", "--output-dir", str(tmp_path / "run")]
    zero = {"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO_STAGE": "2"}
    done = run("train_meta.py", *flags, PYTHONPATH=path, **zero)
    assert done.returncode == 2 and not (tmp_path / "run").exists()
    assert (done.stdout, done.stderr) == (
        "",
        "train_meta.py: error: DeepSpeed is asked for, but not installed; pip install "
        "'metatlp[deepspeed]'\n",
    )
