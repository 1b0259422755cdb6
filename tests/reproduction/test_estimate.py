"""Estimates by hand, from a calibration of round numbers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from metatlp.errors import InputError
from metatlp.reproduction.calibrate import figures
from metatlp.reproduction.estimate import Calibration
from metatlp.reproduction.plan import make_plan

# An update of POS takes 2 s, of NER 4 s; to score an example 0.1 and 0.2 s; a start 10 s.
CALIBRATION = {
    "format": 1,
    "device": "a slow one",
    "update": {"pos": 2.0, "ner": 4.0},
    "example": {"pos": 0.1, "ner": 0.2},
    "start": 10.0,
    "training": 5.0,
    "batch": {"pos": 32, "ner": 32},
    "sizes": {
        "train": {"pos_en": [80, 80], "pos_es": [20, 40], "ner_en": [100, 100]},
        "dev": {"pos_en": [10, 10], "pos_es": [3, 3], "ner_en": [20, 20]},
        "test": {"pos_en": [50, 50], "pos_es": [50, 50], "pos_et": [30, 30], "ner_en": [1, 1]},
    },
}


@pytest.fixture
def seconds(tiny, write, tmp_path):
    """Folder's name without its hash -> gpu_seconds, of the tiny protocol, changed."""

    def run(**flags) -> dict[str, float]:
        path = tmp_path / "calibration.json"
        path.write_text(json.dumps(CALIBRATION))
        tiny["flags"]["meta"].pop("max-meta-steps", None)
        tiny["flags"]["mtl"].pop("max-updates", None)
        for group, values in flags.items():
            tiny["flags"].setdefault(group, {}).update(values)
        plan = make_plan(str(write(tiny)), {"calibration": str(path)}).as_json(Path("OUT"))
        return {
            each["folder"][5:-9]: each["estimate"]["gpu_seconds"] for each in plan["runs"].values()
        }

    return run


def test_meta_training(seconds):
    """Batches of 4 rows: 20 + 10 + 25 an epoch; 2 epochs, m * k = 4: 27 steps of 4 updates. By size
    (80, 20, 100 of 200) an update takes .5 * 2 + .5 * 4 = 3 s; dev 4 examples each: 4 * (.1 + .1 +
    .2), of es only 3."""
    found = seconds(meta={"epochs": 2})
    assert found["meta-3tlps-temp-1-s0"] == 10 + 27 * 4 * 3.0 + 4 * 0.1 + 3 * 0.1 + 4 * 0.2
    # Uniformly 8/3 s.
    assert found["meta-3tlps-temp-inf-s0"] == pytest.approx(10 + 27 * 4 * 8 / 3 + 1.5, abs=0.1)


def test_rewards_cost_a_pass_of_every_pair(seconds):
    """NER alone: 2 * 25 // 4 = 12 steps; every 3 of them 2 batches of a train and a dev TLP."""
    found = seconds(meta={"epochs": 2}, multidds={"dds-every": 3})
    assert found["meta-ner_en-mdds-ner_en-s0"] == 10 + 12 * 4 * 4 + 12 / 3 * 2 * 8 + 4 * 0.2


def test_the_other_kinds(seconds):
    found = seconds(mtl={"epochs": 2}, finetune={"updates": 7}, baseline={"updates": 7})
    assert found["mtl-ner_en-s0"] == 10 + 2 * 25 * 4 + 4 * 0.2
    # 10 + 5; 7 updates of 4 an epoch (32 rows), 4 s each, scored twice on 4 of 20 dev examples at
    # 0.2 s; 1 test example.
    assert found["tuned-meta-ner_en-temp-1-ner_en-s0"] == pytest.approx(44.8)
    assert found["scores-external-mtl-3tlps-s0"] == 10 + 30 * 0.1


def test_the_paper_has_its_own_sizes(tmp_path):
    path = tmp_path / "calibration.json"
    sizes = {task: [1, 1] for task in ("qa", "nli", "pa", "pos", "ner")}
    wide = CALIBRATION | {
        "update": dict.fromkeys(sizes, 1.0),
        "example": dict.fromkeys(sizes, 0.0),
        "batch": {"qa": 8, "nli": 32, "pa": 8, "pos": 32, "ner": 32},
        "sizes": {"train": {f"{task}_en": v for task, v in sizes.items()}, "dev": {}, "test": {}},
    }
    path.write_text(json.dumps(wide))
    plan = make_plan("paper", {"DATA": "D", "calibration": str(path)})
    (run,) = (r for r in plan.runs_for("grid_search") if r.slug.endswith("temp-1-s0"))
    # Table 1: QA 332,200 / 8, NLI 4 * 12,250, PA 5 * 6,175, POS and NER / 32, every TLP rounded up.
    batches = (11000 + 10300 + 10225 + 10000) + 4 * 12250 + 5 * 6175
    batches += (663 + 416 + 888 + 5188 + 247) + (5 * 625 + 157)
    steps = 5 * batches // 24
    assert plan.estimator.of(run)["gpu_seconds"] == 10 + 24 * steps
    assert "GPU hours" in plan.summary(tmp_path)[1]


def test_without_a_calibration_nothing_is_estimated(tiny, write, tmp_path):
    plan = make_plan(str(write(tiny)), {})
    assert {r["estimate"]["gpu_seconds"] for r in plan.as_json(tmp_path)["runs"].values()} == {None}
    assert plan.summary(tmp_path)[1].startswith("estimate: no calibration")


def test_what_is_no_calibration(tmp_path):
    path = tmp_path / "c.json"
    for text, message in (
        ("{", "not a calibration"),
        ("{}", "not a calibration"),
        (None, "No such"),
    ):
        if text:
            path.write_text(text)
        with pytest.raises(InputError, match=f"^calibration {path}: {message}"):
            Calibration.read(path)
        path.unlink(missing_ok=True)


def test_what_a_run_says(tmp_path):
    """Five steps of two slots of two updates: 9 s until the caches are warm, then 4, 4, 8 s."""
    slots = [{"losses": [1.0, 1.0]}, {"losses": [1.0, 1.0]}]
    entries = [{"seconds": s, "slots": slots} for s in (9, 9, 4, 4, 8)]
    entries.append(
        {"seconds": 3.0, "dev": {"pos_en": {"examples": 20}, "pos_es": {"examples": 10}}}
    )
    (tmp_path / "metrics.jsonl").write_text("\n".join(map(json.dumps, entries)))
    one = {"pos_en": {"examples": 7, "rows": 8}}
    (tmp_path / "data.json").write_text(json.dumps({"splits": {"train": one, "dev": one}}))
    args = {"arguments": {"batch_size": "qa=8,pos=16"}, "placement": {"device": "cpu"}}
    (tmp_path / "args.json").write_text(json.dumps(args))
    found = figures(tmp_path, "pos", 60.0)
    assert found["update"] == 1.0 and found["example"] == 0.1 and found["batch"] == 16
    assert found["start"] == 60 - (18 + 16) - 3 and found["sizes"]["train"] == {"pos_en": [7, 8]}
