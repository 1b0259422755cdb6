"""The workflow as a user has it: Snakemake, the scripts, a kill in the middle, a deleted folder."""

from __future__ import annotations

import fcntl
import json
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from metatlp.reproduction.plan import make_plan
from metatlp.reproduction.tables import TARGETS
from metatlp.tasks import TASKS


def planned_jobs(text: str) -> dict[str, int]:
    """Rule -> number of jobs, as a dry run's last table has them."""
    return {name: int(n) for name, n in re.findall(r"^(\w+) +(\d+)$", text, re.M)}


def test_a_dry_run_counts_and_makes_nothing_but_the_plan(snakemake, tmp_path):
    done = snakemake("-n", "--config", "protocol=paper", "DATA=/nowhere", f"output={tmp_path}/out",
                     "--", "table3")  # fmt: skip
    assert done.returncode == 0, done.stderr
    own = [line for line in done.stderr.splitlines() if line.startswith(("paper, ", "estimate: "))]
    assert own == [
        "paper, table3: 138 runs (18 mtl, 87 meta, 33 evaluate); 0 done, 138 to do",
        "estimate: no calibration (docs/reproduction.md says how to make one)",
    ]
    jobs = planned_jobs(done.stdout)
    runs = {"mtl": 18, "meta": 87, "evaluate": 33}
    assert jobs == runs | {"report_of": 1, "table3": 1, "total": 140}
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["plan.json"]


def test_a_wrong_protocol_is_one_line(snakemake, tiny, write, tmp_path):
    path = write(tiny | {"seeds": []})
    done = snakemake("-n", "--config", f"protocol={path}", f"output={tmp_path}/out", "--", "all")
    lines = [line for line in done.stderr.splitlines() if "rror" in line]
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert lines == [f"snakemake: error: {path}: seeds: at least 1 of them"]


class Workflow:
    """The CI protocol: started, killed in the middle, and started again."""

    def __init__(self, folder: Path, command: list[str]):
        """command: snakemake, to which settings and target are added."""
        self.folder, self.out = folder, folder / "out"
        self.command = [*command, "--config", "protocol=ci", f"output={self.out}", "--", "all"]
        self.runs = list(make_plan("ci", {}).runs.values())

    def started(self) -> list[Path]:
        return [self.out / run.folder for run in self.runs
                if (self.out / run.folder / "begun.json").exists()]  # fmt: skip

    def finished(self) -> dict[str, str]:
        """Folder -> when."""
        found = {}
        for run in self.runs:
            path = self.out / run.folder / "workflow.json"
            if path.exists():
                found[run.folder] = json.loads(path.read_text())["finished"]
        return found

    def kill_in_the_middle(self, number: int) -> None:
        """SIGKILL once so many runs are done and another one is being made."""
        with (self.folder / "first").open("w") as log:
            process = subprocess.Popen(self.command, stderr=log, stdout=log)
        end = time.monotonic() + 250
        while len(self.finished()) < number or len(self.started()) == len(self.finished()):
            assert process.poll() is None and time.monotonic() < end, self.said("first")
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
        # What it had started is stopped by itself, and lets go of the folder.
        for folder in self.started():
            with (folder / ".lock").open() as file:
                fcntl.flock(file, fcntl.LOCK_EX)

    def run(self, name: str) -> None:
        with (self.folder / name).open("w") as log:
            code = subprocess.run(self.command, stderr=log, stdout=log, timeout=280).returncode
        assert code == 0, self.said(name)

    def said(self, name: str) -> str:
        return (self.folder / name).read_text()[-3000:]


@pytest.fixture(scope="module")
def workflow(tmp_path_factory, snakemake_command):
    """Run to its end in two goes, and what was done after the first."""
    folder = tmp_path_factory.mktemp("workflow")
    made = Workflow(folder, snakemake_command(folder))
    made.kill_in_the_middle(8)
    made.after_kill = made.finished()
    made.run("second")
    return made


def test_a_kill_loses_at_most_the_running_jobs(workflow):
    """Two were running, at most; the end of one may have been missed."""
    assert 8 <= len(workflow.after_kill) < len(workflow.runs)
    after = workflow.finished()
    assert len(after) == len(workflow.runs)
    again = {name for name, when in workflow.after_kill.items() if after[name] != when}
    starts = {
        run.folder: json.loads((workflow.out / run.folder / "workflow.json").read_text())["starts"]
        for run in workflow.runs
    }
    twice = {name for name, number in starts.items() if number == 2}
    assert set(starts.values()) == {1, 2} and len(twice) <= 2 and again <= twice


def test_every_target_is_made(workflow):
    report = workflow.out / "report"
    targets = make_plan("ci", {}).targets()
    assert targets == list(TARGETS)
    for target in targets:
        assert (report / f"{target}.md").stat().st_size > 0, target
    assert (report / "index.html").stat().st_size > 1000


def test_a_chosen_rate_was_trained_with(workflow):
    (run,) = (run for run in workflow.runs if run.choices and "average-last" in run.flags)
    record = json.loads((workflow.out / run.folder / "workflow.json").read_text())
    args = json.loads((workflow.out / run.folder / "args.json").read_text())
    best = max(record["dev"]["lr"], key=record["dev"]["lr"].get)
    assert record["chosen"] == {"lr": best} and args["arguments"]["lr"] == float(best)
    assert args["arguments"]["seed"] == 0


def test_the_majority_baseline(workflow):
    """POS in et, which has no training data: the tag that is most frequent in training."""
    (run,) = (run for run in workflow.runs if run.kind == "data")
    folder = workflow.out / run.folder
    found = json.loads((folder / "scores.json").read_text())["scores"]["majority"]["test"]
    assert list(found) == ["nli_en", "pos_en", "pos_et"]
    assert found["pos_et"]["label"] == found["pos_en"]["label"] in TASKS["pos"].labels
    assert 0 < found["pos_et"]["metrics"]["accuracy"]["value"] < 0.6
    sizes = json.loads((folder / "data.json").read_text())["splits"]["train"]
    # Table 1 times 0.0005, rounded up.
    assert {name: one["examples"] for name, one in sizes.items()} == {"nli_en": 196, "pos_en": 11}


def test_a_deleted_folder_reruns_what_depends_on_it(workflow):
    """The model that is meta-trained on all TLPs at tau = inf: its finetuning and its scores."""
    words = [workflow.command[0], "-n", *workflow.command[1:]]
    (run,) = (r for r in workflow.runs if r.slug == "meta-2tlps-temp-inf-s0")
    depends = [r for r in workflow.runs if run.key in (need.key for need in (r, *r.needs))]
    kept = workflow.folder / "kept"
    nothing = subprocess.run(words, capture_output=True, text=True)
    assert "Nothing to be done" in nothing.stderr + nothing.stdout
    (workflow.out / run.folder).rename(kept)
    done = subprocess.run(words, capture_output=True, text=True)
    kept.rename(workflow.out / run.folder)
    said = done.stdout + done.stderr
    *found, report, whole = re.findall(r"^Job \d+: (.*)$", said, re.M)
    assert sorted(found) == sorted(f"{r.kind}: {r.label}" for r in depends), said
    # The model, its finetuning, its scores on external TLPs; the report, and `all`.
    assert len(depends) == 3 and report.startswith("report: table1")
    assert whole == "the report of all targets" and planned_jobs(said)["total"] == 3 + 2
