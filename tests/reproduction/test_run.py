"""One run: gone on with or begun anew, what it records, and one line when it fails.

The scripts are of the tests: a file that the plan's command names.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from metatlp.errors import InputError
from metatlp.reproduction.choice import choose, dev_score
from metatlp.reproduction.devices import held
from metatlp.reproduction.run import main

# Counts its starts; ends well, with what it was told, unless `stop` is beside it.
SCRIPT = """
import json, sys
from pathlib import Path
folder = Path(sys.argv[sys.argv.index("--output-dir") + 1])
starts = folder / "starts"
starts.write_text((starts.read_text() if starts.exists() else "") + " ".join(sys.argv[1:]) + "\\n")
(folder / "args.json").write_text(json.dumps({"placement": {"device": "cpu"}, "commit": "abc"}))
(folder / "checkpoints").mkdir(exist_ok=True)
if (folder.parent / "stop").exists():
    sys.exit(int((folder.parent / "stop").read_text() or 0) or print("stopped and saved"))
(folder / "models").mkdir(exist_ok=True)
"""


@pytest.fixture
def out(tmp_path):
    """OUT with a plan of two runs, the second of which starts from the first."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)

    def run(name, needs, *more):
        command = ["python", str(script), *more, "--output-dir", str(tmp_path / "runs" / name)]
        return {"kind": "meta", "command": command, "folder": f"runs/{name}", "needs": needs,
                "result": "models", "choices": {}, "drop": [],
                "label": f"the {name} run"}  # fmt: skip

    runs = {"k1": run("one", []), "k2": run("two", ["k1"], "--init-from", "one")}
    (tmp_path / "plan.json").write_text(
        json.dumps({"protocol": {"devices": [], "gpus": 0}, "runs": runs})
    )
    return tmp_path


def starts(out, name):
    return (out / "runs" / name / "starts").read_text().splitlines()


def record(out, name):
    return json.loads((out / "runs" / name / "workflow.json").read_text())


def test_a_run_and_the_one_that_starts_from_it(out):
    with pytest.raises(InputError, match="^run k1 is needed and not done"):
        main([str(out), "k2"])
    main([str(out), "k1", "k2"])
    one, two = record(out, "one"), record(out, "two")
    assert one["key"] == "k1" and one["device"] == "cpu" and one["commit"] == "abc"
    assert one["seconds"] > 0 and "torch" in one["versions"]
    assert two["inputs"] == {"k1": one["finished"]} and two["command"][2:4] == [
        "--init-from",
        "one",
    ]
    main([str(out), "k1", "k2"])
    assert len(starts(out, "one")) == len(starts(out, "two")) == 1


def test_a_stopped_run_is_gone_on_with(out):
    (out / "runs").mkdir()
    (out / "runs" / "stop").write_text("")
    with pytest.raises(
        InputError, match=r"^the one run: stopped before its end: stopped and saved"
    ):
        main([str(out), "k1"])
    assert not (out / "runs" / "one" / "workflow.json").exists()
    (out / "runs" / "stop").unlink()
    main([str(out), "k1"])
    assert [line.endswith("--resume auto") for line in starts(out, "one")] == [False, True]
    assert "--resume" not in record(out, "one")["command"] and record(out, "one")["starts"] == 2


def test_a_failure_is_one_line(out):
    (out / "runs").mkdir()
    (out / "runs" / "stop").write_text("3")
    command = [sys.executable, "-P", "-m", "metatlp.reproduction", "run", str(out), "k1"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert done.stderr.startswith("metatlp.reproduction: error: the one run: exit code 3")
    done = subprocess.run([*command[:-1], "k9"], capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.endswith("plan.json has no run k9\n")


def test_what_started_from_another_version_begins_anew(out):
    main([str(out), "k1", "k2"])
    (out / "runs" / "one" / "workflow.json").unlink()
    main([str(out), "k1", "k2"])
    # The first was gone on with; the second has seen an older first, and nothing of it is left.
    assert [line.endswith("--resume auto") for line in starts(out, "one")] == [False, True]
    assert [line.endswith("--resume auto") for line in starts(out, "two")] == [False]
    assert record(out, "two")["inputs"] == {"k1": record(out, "one")["finished"]}


def test_what_nobody_reads_is_dropped(out):
    plan = json.loads((out / "plan.json").read_text())
    plan["runs"]["k1"]["drop"] = ["checkpoints", "*/seed_*/models"]
    (out / "plan.json").write_text(json.dumps(plan))
    tuned = out / "runs" / "one" / "pos_en" / "seed_0" / "models"
    main([str(out), "k1"])
    assert not (out / "runs" / "one" / "checkpoints").exists()
    assert (out / "runs" / "one" / "models").is_dir() and not tuned.exists()
    tuned.mkdir(parents=True)
    (out / "runs" / "one" / "workflow.json").unlink()
    main([str(out), "k1"])
    assert not tuned.exists() and tuned.parent.exists()


def test_two_processes_do_not_make_one_run(out):
    script = out / "script.py"
    script.write_text(SCRIPT + "import time; time.sleep(1.5)\n")
    command = [sys.executable, "-P", "-m", "metatlp.reproduction", "run", str(out), "k1"]
    first = subprocess.Popen(command, stderr=subprocess.PIPE)
    while not (out / "runs" / "one" / "starts").exists():
        time.sleep(0.01)
    second = subprocess.run(command, capture_output=True, text=True)
    assert first.wait() == 0 == second.returncode
    assert "another process is at it; waiting" in second.stderr and len(starts(out, "one")) == 1


def metrics(out: Path, name: str, *dev: dict) -> None:
    folder = out / "runs" / name
    folder.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps({"step": 1, "loss": 1.0}), *(json.dumps({"dev": each}) for each in dev)]
    (folder / "metrics.jsonl").write_text("\n".join(lines))


def test_dev_chooses_a_rate(out):
    """The last evaluation counts: QA by F1, the others by accuracy."""
    metrics(out, "a", {"pos_en": {"accuracy": 0.9}, "qa_en": {"f1": 0.2, "em": 0.9}})
    metrics(out, "b", {"pos_en": {"accuracy": 1.0}}, {"pos_en": {"accuracy": 0.4}})
    metrics(out, "c", {"pos_en": {"accuracy": 0.5}})
    runs = {name: {"folder": f"runs/{name}"} for name in "abc"}
    candidates = {"0.1": ["a"], "0.2": ["b"], "0.3": ["c"]}
    chosen, scores = choose(out, {"lr": candidates}, runs)
    assert scores == {"lr": {"0.1": pytest.approx(0.55), "0.2": 0.4, "0.3": 0.5}}
    assert chosen == {"lr": "0.1"}
    metrics(out, "c")
    with pytest.raises(InputError, match="no dev scores to choose a learning rate by"):
        dev_score(out / "runs" / "c")


def test_the_chosen_rate_is_in_the_command_and_in_the_record(out):
    for name, score in (("a", 0.5), ("b", 0.6)):
        metrics(out, name, {"pos_en": {"accuracy": score}})
        (out / "runs" / name / "workflow.json").write_text(json.dumps({"finished": "then"}))
    plan = json.loads((out / "plan.json").read_text())
    runs = plan["runs"]
    runs |= {name: {"folder": f"runs/{name}"} for name in "ab"}
    runs["k1"]["choices"] = {"lr": {"0.1": ["a"], "0.2": ["b"]}}
    runs["k1"]["needs"] = ["a", "b"]
    runs["k1"]["command"][2:2] = ["--lr", "<best of 0.1,0.2>"]
    (out / "plan.json").write_text(json.dumps(plan))
    main([str(out), "k1"])
    found = record(out, "one")
    assert found["chosen"] == {"lr": "0.2"} and found["dev"] == {"lr": {"0.1": 0.5, "0.2": 0.6}}
    assert found["command"][2:4] == ["--lr", "0.2"] and starts(out, "one")[0].startswith(
        "--lr 0.2 "
    )


def test_each_run_has_devices_of_its_own(out):
    """Two of three GPUs a run: the second waits for the first."""
    with held(out, ["0", "1", "2"], 1):
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "0"
        with held(out, ["0", "1", "2"], 2):
            assert os.environ["CUDA_VISIBLE_DEVICES"] == "1,2"
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "0"
    with held(out, [], 1):
        assert "CUDA_VISIBLE_DEVICES" not in os.environ
    order = []

    def second():
        with held(out, ["0", "1", "2"], 2):
            order.append("second")

    with held(out, ["0", "1", "2"], 2):
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.3)
        order.append("first ends")
    thread.join(timeout=20)
    assert order == ["first ends", "second"]
