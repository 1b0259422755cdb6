"""Records that cannot be written: one line on every rank, and nothing glued to half a line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from metatlp.engine.placement import TIMEOUT, start
from metatlp.engine.run_log import RunLog, start_tracker
from metatlp.errors import InputError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def log(tmp_path) -> RunLog:
    return RunLog(tmp_path / "run", start("none", str(tmp_path)))


def test_a_half_line_is_cut_away(log):
    log.folder.mkdir()
    whole = b'{"step": 1}\n{"step": 2}\n'
    log.metrics.write_bytes(whole + b'{"ste')
    assert log.num_records() == 2
    log.check_folder("auto")
    log.take_up(2)
    assert log.metrics.read_bytes() == whole
    # Also where lines are missing, so that the next record begins one.
    log.metrics.write_bytes(whole + b'{"ste')
    log.check_folder("auto")
    log.take_up(3)
    log.record({"step": 3})
    lines = log.metrics.read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 3]


def test_a_record_that_cannot_be_written_is_kept_for_the_others(log):
    log.folder.mkdir()
    log.metrics.mkdir()  # a folder in the file's place: opening it fails, even for root
    log.record({"step": 1})
    assert log.failure == f"--output-dir {log.folder}: Is a directory"
    with pytest.raises(InputError, match="Is a directory"):
        log.raise_failure()


@pytest.mark.parametrize("name", ["args.json", "data.json"])
def test_json_that_cannot_be_written(log, name):
    log.folder.parent.mkdir(exist_ok=True)
    log.folder.write_text("a file")
    with pytest.raises(InputError, match=r"--output-dir .*run: "):
        log.open({}) if name == "args.json" else log.write_json(name, {})


class OfflineError(Exception):
    pass


def fail(*args, **kwargs):
    raise OfflineError("no network")


def test_a_trackers_own_exception_is_one_line(log):
    placement = SimpleNamespace(
        is_main=True,
        accelerator=SimpleNamespace(
            log=fail, init_trackers=fail, trackers=[SimpleNamespace(finish=fail)]
        ),
    )
    own = RunLog(log.folder, placement)
    own.track(1, {"loss": 1.0})
    assert own.failure == "--report-to: OfflineError: no network"
    for call in (own.close, lambda: start_tracker(placement, "wandb", {})):
        with pytest.raises(InputError, match="--report-to: OfflineError: no network"):
            call()


# What goes wrong on the main process once all is built -> the error.
HARMS = {
    "(run / 'metrics.jsonl').mkdir()": "--output-dir {run}: Is a directory",
    "(run / 'models').touch()": "--output-dir: cannot write {run}/models: ",
    "(grid / 'udpos/dev-en.tsv').unlink()": "{grid}/udpos/dev-en.tsv: ",
}


@pytest.mark.parametrize("harm", HARMS)
def test_a_failure_of_one_process_ends_all_with_one_line(
    fork_world, meta_flags, grid_dir, tmp_path, harm
):
    run, grid, script = tmp_path / "run", tmp_path / "grid", tmp_path / "harmed.py"
    shutil.copytree(grid_dir, grid)
    script.write_text(
        "import os, runpy\n"
        "from pathlib import Path\n"
        "from metatlp.engine import run_log\n"
        f"run, grid = Path({str(run)!r}), Path({str(grid)!r})\n"
        "def harm(*_):\n"
        f"    if os.environ['RANK'] == '0':\n        {harm}\n"
        "run_log.start_tracker = harm\n"
        f"runpy.run_path({str(ROOT / 'train_meta.py')!r}, run_name='__main__')\n"
    )
    flags = [*meta_flags, "--data-dir", str(grid), "--max-meta-steps", "2"]
    ranks = fork_world([*flags, "--output-dir", str(run)], 2, script, codes=[2])
    errors = "".join(rank.err for rank in ranks)
    assert "Traceback" not in errors
    # The progress bar may stand before it.
    said = [line for line in errors.splitlines() if "train_meta.py: error: " in line]
    assert len(said) == 1
    assert "train_meta.py: error: " + HARMS[harm].format(run=run, grid=grid) in said[0]
    # Without its record no step is saved.
    assert (run / "checkpoints").exists() == ("metrics" not in harm)


def test_ranks_wait_for_hours():
    assert TIMEOUT.total_seconds() == 6 * 3600
