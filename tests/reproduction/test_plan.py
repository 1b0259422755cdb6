"""The plan: a tiny one by hand, keys, and that every command is read by the script it starts."""

from __future__ import annotations

import json
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from metatlp.engine.arguments.command_line import parse_flags
from metatlp.engine.arguments.data import DataArguments, EncodingArguments, SourceArguments
from metatlp.engine.arguments.evaluate import EvaluateArguments
from metatlp.engine.arguments.meta import MetaArguments, RunArguments
from metatlp.engine.arguments.presets import (
    AUTHORS_MULTIDDS,
    PRESETS,
    finetune_defaults,
    mtl_defaults,
    preset_defaults,
)
from metatlp.engine.arguments.rewards import RewardArguments
from metatlp.engine.arguments.supervised import (
    FinetuneArguments,
    FinetuneOutputArguments,
    MtlArguments,
    MtlOutputArguments,
)
from metatlp.reproduction import data
from metatlp.reproduction.choice import HEADLINE
from metatlp.reproduction.plan import PROTOCOLS, make_plan
from metatlp.reproduction.runs import CUT_SCRIPT
from metatlp.reproduction.tables import TARGETS
from metatlp.reproduction.values import canonical
from metatlp.tasks import TASKS

OUT = Path("OUT")
SETTINGS = {"DATA": "D", "ENCODER": "E"}


@pytest.fixture
def planned(tiny, write):
    """plan.json of the tiny protocol, changed by a function."""

    def run(change=lambda protocol: None) -> dict:
        change(tiny)
        return make_plan(str(write(tiny)), {}).as_json(OUT)

    return run


def by_row(plan, target):
    """Row -> [(tlp, the folder's name without its hash, candidate)]."""
    found: dict = {}
    for cell in plan["cells"]:
        if cell["target"] == target:
            folder = plan["runs"][cell["run"]]["folder"].removeprefix("runs/")[:-9]
            assert cell["file"].startswith(plan["runs"][cell["run"]]["folder"] + "/")
            found.setdefault(cell["row"], []).append((cell["tlp"], folder, cell["candidate"]))
    return found


def test_table_2_by_hand(planned):
    """Two POS TLPs and an NER one: en has both tasks, es only POS; NER is only in en."""
    found = by_row(planned(), "table2")
    assert list(found) == [
        *("baseline", "mtl-lang", "mtl-task", "mtl-all", "meta-temp-lang", "meta-mdds-lang"),
        *("meta-temp-task", "meta-mdds-task", "meta-temp-all", "mdds-lang", "mdds-task"),
    ]
    all_three = ["pos_en", "pos_es", "ner_en"]
    assert found["baseline"] == [(tlp, "baseline-3tlps-s0", {}) for tlp in all_three]
    assert found["mtl-lang"] == [
        ("pos_en", "scores-trained-mtl-2tlps-s0", {}),
        ("ner_en", "scores-trained-mtl-2tlps-s0", {}),
        ("pos_es", "scores-trained-mtl-pos_es-s0", {}),
    ]
    one, inf = {"tau": "1"}, {"tau": "inf"}
    assert found["meta-temp-task"] == [
        ("pos_en", "tuned-meta-2tlps-temp-1-2tlps-s0", one),
        ("pos_es", "tuned-meta-2tlps-temp-1-2tlps-s0", one),
        ("ner_en", "tuned-meta-ner_en-temp-1-ner_en-s0", one),
        ("pos_en", "tuned-meta-2tlps-temp-inf-2tlps-s0", inf),
        ("pos_es", "tuned-meta-2tlps-temp-inf-2tlps-s0", inf),
        ("ner_en", "tuned-meta-ner_en-temp-inf-ner_en-s0", inf),
    ]
    assert found["meta-mdds-lang"] == [
        ("pos_en", "tuned-meta-2tlps-mdds-pos_en-pos_en-s0", {}),
        ("ner_en", "tuned-meta-2tlps-mdds-ner_en-ner_en-s0", {}),
        ("pos_es", "tuned-meta-pos_es-mdds-pos_es-pos_es-s0", {}),
    ]
    assert found["mdds-task"] == [
        ("pos_en", "tuned-meta-3tlps-mdds-2tlps-2tlps-s0", {}),
        ("pos_es", "tuned-meta-3tlps-mdds-2tlps-2tlps-s0", {}),
        ("ner_en", "tuned-meta-3tlps-mdds-ner_en-ner_en-s0", {}),
    ]


def test_table_3_by_hand(planned):
    plan = planned()
    found = by_row(plan, "table3")
    assert {row: [tlp for tlp, _, _ in cells] for row, cells in found.items()} == {
        "mtl-task": ["pos_et"],
        "mtl-all": ["pos_et"],
        "meta-temp-task": ["pos_et"] * 2,
        "meta-temp-all": ["pos_et"] * 2,
        "mdds-task": ["pos_et"],
    }
    (cell,) = [c for c in plan["cells"] if (c["target"], c["row"]) == ("table3", "mdds-task")]
    assert (cell["split"], cell["system"], cell["file"][-11:]) == ("test", "meta", "scores.json")
    run = plan["runs"][cell["run"]]
    (start,) = (plan["runs"][key] for key in run["needs"])
    # Of the model on all TLPs with POS as D_dev the part that answers POS.
    assert run["flags"]["model"] == f"meta=OUT/{start['folder']}/models/pos"
    assert start["flags"]["dev-tlps"] == "pos_en,pos_es"
    assert start["flags"]["selection"] == "pos_en,pos_es,ner_en"


def test_a_run_is_made_once(planned):
    plan = planned()
    commands = Counter(" ".join(run["command"]) for run in plan["runs"].values())
    assert max(commands.values()) == 1
    # Lang-Limited in es and a list of its one TLP are the same; so are Tables 2 and 4.
    assert by_row(plan, "table4")["temp-1-lang"] == [
        (tlp, folder, {}) for tlp, folder, tau in by_row(plan, "table2")["meta-temp-lang"]
        if tau == {"tau": "1"}
    ]  # fmt: skip
    for key, run in plan["runs"].items():
        assert run["folder"].endswith(f"-{key[:8]}")


def test_a_command(planned):
    plan = planned(lambda p: p.update(launch=["accelerate", "launch"]))
    (run,) = (r for r in plan["runs"].values() if r["folder"].startswith("runs/meta-3tlps-temp-1"))
    assert (
        run["command"]
        == (
            "accelerate launch train_meta.py --demo-scale 0.0005 --batch-size 4 --eval-examples 4 "
            "--meta-batch-size 2 --inner-steps 2 --meta-lr 1 --max-meta-steps 2 "
            "--selection pos_en,pos_es,ner_en --seed 0 --sampler temp --tau 1 "
            f"--output-dir OUT/{run['folder']}"
        ).split()
    )


def keys(plan):
    """Label -> key. Labels name every run of the tiny plan apart."""
    found = {run["label"]: key for key, run in plan["runs"].items()}
    assert len(found) == len(plan["runs"])
    return found


def depends_on(plan, kind):
    """Labels of the runs of a kind, and of all that starts from them."""
    runs = plan["runs"]

    def reached(key):
        return runs[key]["kind"] == kind or any(map(reached, runs[key]["needs"]))

    return {runs[key]["label"] for key in runs if reached(key)}


@pytest.mark.parametrize(
    ("group", "flag", "kind"),
    [("meta", "inner-lr", "meta"), ("mtl", "weight-decay", "mtl"),
     ("finetune", "dropout", "finetune"), ("baseline", "dropout", "baseline"),
     ("evaluate", "bootstrap", "evaluate")],
)  # fmt: skip
def test_a_changed_flag_changes_what_depends_on_it_and_nothing_else(group, flag, kind, planned):
    before = planned()
    after = planned(lambda p: p["flags"].setdefault(group, {}).update({flag: 0.5}))
    old, new = keys(before), keys(after)
    assert old.keys() == new.keys()
    changed = {label for label in old if old[label] != new[label]}
    assert changed == depends_on(before, kind) and 0 < len(changed) < len(old)


def test_spelling_and_place_change_no_key(planned):
    before = keys(planned(lambda p: p["flags"]["meta"].update({"inner-lr": "1e-3", "meta-lr": 1})))
    again = planned(lambda p: p["flags"]["meta"].update({"inner-lr": 0.001, "meta-lr": "1.0"}))
    assert keys(again) == before
    elsewhere = planned(lambda p: p["flags"]["every"].update({"cache-dir": "/elsewhere"}))
    assert keys(elsewhere) == before
    assert keys(planned(lambda p: p.update(launch=["accelerate", "launch"]))) == before


def test_the_same_bytes_again(tiny, write, tmp_path):
    plan = make_plan(str(write(tiny)), {})
    path = plan.write(tmp_path / "out")
    first, then = path.read_bytes(), path.stat().st_mtime_ns
    assert make_plan(str(write(tiny)), {}).write(tmp_path / "out") == path
    assert path.read_bytes() == first and path.stat().st_mtime_ns == then
    assert json.loads(first)["format"] == 1


def test_a_tuned_rate_has_runs_that_choose_it_and_a_seed_of_its_own(planned):
    plan = planned(lambda p: p.update(rates={"mtl": [0.001, 0.01]}))
    runs = plan["runs"]
    tuned = [r for r in runs.values() if r["kind"] == "mtl" and r["choices"]]
    assert len(tuned) == 5  # en, es, pos, ner, all; es and ner are one TLP each
    for run in tuned:
        assert run["flags"]["lr"] == "<best of 0.001,0.01>" and run["flags"]["seed"] == "0"
        for rate, chosen_by in run["choices"]["lr"].items():
            (key,) = chosen_by
            assert key in run["needs"] and runs[key]["flags"]["lr"] == rate
            assert runs[key]["flags"]["seed"] == "1000"
            assert runs[key]["flags"]["selection"] == "pos_en,pos_es,ner_en"


EVERYTHING = {
    "seeds": [0],
    "extras": ["majority", "english-only", "mtl-finetuned", "mtl-matched-updates",
               "first-order-maml", "checkpoint-average", "tuned-rates"],
    "meta": {"reset": {"inner-state": "reset"}, "same": {"inner-steps": 2.0}},
    "multidds": {"mean": {"reward": "mean-of-cos"}},
    "dev": "task:pos",
}  # fmt: skip


def test_the_ablations_by_hand(planned):
    rates = {"meta": [0.001, 0.01], "mtl": [0.001, 0.01], "used": "ablations"}
    plan = planned(lambda p: p.update(ablations=EVERYTHING, rates=rates))
    found = by_row(plan, "ablations")
    assert list(found) == [
        *("reference", "reset", "same", "reference-mdds", "mean", "majority", "english-only"),
        *("reference-finetuned", "mtl-finetuned", "mtl-matched-updates", "first-order-maml"),
        *("mtl-all", "checkpoint-average", "meta-tuned", "mtl-tuned"),
    ]
    everywhere = ["pos_en", "pos_es", "ner_en", "pos_et"]
    assert [tlp for tlp, _, _ in found["reset"]] == everywhere
    # A change that is none is the reference itself.
    assert found["same"] == found["reference"] != found["reset"]
    assert [tlp for tlp, _, _ in found["english-only"]] == ["pos_es", "pos_et"]
    runs = plan["runs"]
    (matched,) = (run for run in runs.values() if "match-updates" in run["flags"])
    reference = {c["run"] for c in plan["cells"] if c["row"] == "reference"}
    assert [runs[key]["needs"] for key in reference] == [matched["needs"]]
    assert "epochs" not in matched["flags"] and "max-updates" not in matched["flags"]
    # Its checkpoints say how many updates there were; those of others are deleted.
    assert runs[matched["needs"][0]]["drop"] == []
    (other,) = (run for run in runs.values() if run["flags"].get("inner-state") == "reset")
    assert other["drop"] == ["checkpoints"]
    references = {c["row"]: c.get("reference") for c in plan["cells"] if c["target"] == "ablations"}
    assert references["mean"] == "reference-mdds" and references["reset"] is None
    assert references["mtl-finetuned"] == "reference-finetuned"
    rates = {run["flags"]["inner-lr"] for run in runs.values() if "inner-lr" in run["flags"]}
    assert rates == {"0.001", "0.01", "<best of 0.001,0.01>"}


def test_models_that_nobody_reads_are_dropped(planned):
    def with_english(protocol):
        protocol["ablations"] = {"seeds": [0], "extras": ["english-only"]}

    def dropped(plan, kind):
        return {tuple(run["drop"]) for run in plan["runs"].values() if run["kind"] == kind}

    plan = planned()
    assert dropped(plan, "baseline") == {("checkpoints", "*/seed_*/models")}
    plan = planned(with_english)
    assert dropped(plan, "baseline") == {("checkpoints",)}
    assert dropped(plan, "finetune") == {("checkpoints", "*/seed_*/models")}
    plan = planned(lambda p: p.update(keep="all"))
    assert {tuple(run["drop"]) for run in plan["runs"].values()} == {()}


META = (DataArguments, MetaArguments, RewardArguments, RunArguments)
FINETUNE = (EncodingArguments, FinetuneArguments, FinetuneOutputArguments)
TYPES = {
    "train_meta.py": (META, preset_defaults),
    "train_mtl.py": ((DataArguments, MtlArguments, MtlOutputArguments), mtl_defaults),
    "finetune.py": (FINETUNE, finetune_defaults),
    "evaluate_zeroshot.py": ((SourceArguments, EvaluateArguments), lambda given: {}),
    "data": (data.ARGUMENTS, lambda given: {}),
}


@cache
def paper():
    return make_plan("paper", SETTINGS)


@pytest.mark.parametrize("path", sorted(PROTOCOLS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_command_of_the_protocols_is_read(path):
    """One of each kind with each set of flags."""
    plan = paper() if path.stem == "paper" else make_plan(path.stem, SETTINGS)
    seen = set()
    for run in plan.runs.values():
        flags = run.words(OUT)
        if run.script == CUT_SCRIPT:
            assert set(flags) == {"data-dir", "scale"}
            continue
        form = (run.script, *(f"{k} {v}" if k not in VARIED else k for k, v in flags.items()))
        if form in seen:
            continue
        seen.add(form)
        words = [word for k, v in flags.items() for word in (f"--{k}", v)]
        words = [word.removeprefix("<best of ").partition(",")[0] if word.startswith("<") else word
                 for word in words]  # fmt: skip
        parts = parse_flags(*TYPES[run.script.rpartition(" ")[2]], "", words)
        values = {name: value for part in parts for name, value in vars(part).items()}
        if run.kind == "meta":
            parts[2].check_sampler(values["sampler"])
    assert len(seen) > 10
    assert set(plan.targets()) == set(TARGETS)


VARIED = ("seed", "seeds", "selection", "tlp", "tlps", "model", "dev-tlps", "init-from", "tau")


def test_the_published_code_one_difference_at_a_time():
    ablations = paper().protocol.ablations
    named = {name: flags for name, flags in ablations.meta.items() if name.startswith("authors")}
    whole = named.pop("authors-code-all")
    preset = {k.replace("_", "-"): canonical(v) for k, v in PRESETS["authors-code"].items()}
    assert whole == preset
    assert named == {f"authors-code-{k}": {k: v} for k, v in preset.items()}
    rewards = {k.replace("_", "-"): canonical(v) for k, v in AUTHORS_MULTIDDS.items()}
    rewards.pop("epochs")  # the paper's
    own = {n: f for n, f in ablations.multidds.items() if n.startswith("authors")}
    assert own == {f"authors-code-{k}": {k: v} for k, v in rewards.items()}


def test_the_paper_has_its_tables_whole():
    plan = paper()
    kinds = Counter(run.kind for run in plan.runs_for("table2"))
    # A seed: 6 + 5 + 1 MTL; four temperatures of as many, a run per target TLP in either
    # limitation, and D_dev of 6 languages and 5 tasks; each finetuned on its TLPs.
    assert kinds["mtl"] == 3 * 12 and kinds["meta"] == 3 * (4 * 12 + 2 * 24 + 11)
    assert kinds["finetune"] == 3 * 24 * (4 * 3 + 2 + 2) and kinds["baseline"] == 3 * 24
    cells = Counter(cell.target for cell in plan.cells)
    assert cells["table2"] == 3 * 24 * (4 + 4 * 3 + 2 + 2)
    assert cells["table3"] == 3 * 28 * (2 + 4 * 2 + 1)
    assert cells["table4"] == 3 * 24 * 12
    assert cells["grid_search"] == 24 * 3 * 4 * 3


def test_the_headline_metrics_are_those_of_the_tasks():
    assert {code: TASKS[code].metric for code in HEADLINE} == HEADLINE
