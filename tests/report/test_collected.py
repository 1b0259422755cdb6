"""Cells to numbers: strict reading, choice by dev, borrowed rows."""

from __future__ import annotations

import json

import numpy as np
import pytest

from metatlp.engine.scoring.terms_file import write_terms
from metatlp.errors import InputError
from metatlp.grid import TLP
from metatlp.report.collected import Resampler, collect
from metatlp.report.plan_file import read_plan
from metatlp.report.readings import Reader

POS, QA = TLP("pos", "en"), TLP("qa", "vi")


def collected(folder, target="table2", partial=False):
    return collect(read_plan(folder), target, Reader(folder), Resampler(200), partial)


@pytest.fixture
def two(made):
    """A row of finetuning with two seeds, and one of an evaluation."""
    made.finetuned("table2", "baseline", "pos_en", {0: [1, 1, 0, 0], 1: [1, 1, 1, 0]}, dev=0.25)
    made.evaluated("table2", "mtl-all", 0, {"pos_en": [1, 1, 1, 1]}, dev={"pos_en": 0.75})
    return made


def test_numbers_by_hand(two):
    found = collected(two.write())
    assert found.rows == ("baseline", "mtl-all") and found.tlps == (POS,)
    number = found.numbers["baseline", POS]
    # .5 and .75: mean .625, sd .25 / 2^.5.
    assert number.estimate.value == 0.625
    assert number.estimate.sd == pytest.approx(0.25 / 2**0.5)
    assert number.dev == 0.25 and number.distance == 1.5
    assert number.second == pytest.approx((0.625, 0.25 / 2**0.5))
    other = found.numbers["mtl-all", POS]
    assert other.estimate.value == 1 and other.estimate.sd is None and other.dev == 0.75


def test_dev_of_a_zero_shot_score_is_that_of_the_models_own_pairs(made):
    made.evaluated("table3", "mtl-all", 0, {"qa_vi": [1, 0]}, {"qa_en": 0.2, "qa_de": 0.4})
    assert collected(made.write(), "table3").numbers["mtl-all", QA].dev == pytest.approx(0.3)


def test_the_last_dev_scores_of_a_run(made):
    folder = made.run("run", "meta")
    lines = [
        {"step": 1, "dev": {"pos_en": {"accuracy": 0.1}}},
        {"step": 2, "dev": {"pos_en": {"accuracy": 0.6, "macro_f1": 0.5}}},
        {"step": 3, "loss": 1.0},
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    made.cell("grid_search", "m4", "pos_en", 0, "run", "metrics.jsonl", split="dev")
    number = collected(made.write(), "grid_search").numbers["m4", POS]
    assert number.estimate.value == 0.6 and number.dev == 0.6


def test_dev_chooses_and_test_does_not(made):
    # On test tau 5 is the better one.
    for tau, dev, hits in (("1", 0.7, [1, 0, 0, 0]), ("5", 0.6, [1, 1, 1, 1])):
        candidate = {"candidate": {"tau": tau}}
        made.finetuned("table2", "meta-temp-all", "pos_en", {0: hits, 1: hits}, dev, **candidate)
    found = collected(made.write())
    assert found.numbers["meta-temp-all", POS].estimate.value == 0.25
    (choice,) = found.choices
    assert choice.dev == {'{"tau": "1"}': pytest.approx(0.7), '{"tau": "5"}': pytest.approx(0.6)}
    assert str(choice) == (
        "meta-temp-all: tau 1 by its mean dev score over 2 pairs of TLP and seed "
        "(tau 1: 70.00; tau 5: 60.00)"
    )


def test_the_choice_is_for_the_whole_row(made):
    # Of tau 1 .9 and .2, of tau 5 .5 and .8.
    for tlp, by_tau in {"pos_en": (0.9, 0.5), "pos_hi": (0.2, 0.8)}.items():
        for tau, dev in zip(("1", "5"), by_tau, strict=True):
            made.finetuned("table2", "meta-temp-all", tlp, {0: [1, 0]}, dev, candidate={"tau": tau})
    (choice,) = collected(made.write()).choices
    assert choice.kept == '{"tau": "5"}' and choice.num_scores == 2


def test_dev_cells_give_the_scores_to_choose_by(made):
    for tau, dev in (("1", [1, 0]), ("5", [1, 1])):
        hits = {"pos_en": [1.0, 0.0]}
        candidate = {"candidate": {"tau": tau}}
        made.evaluated("table3", "meta-temp-all", 0, hits, **candidate)
        made.finetuned("table3", "meta-temp-all", "pos_en", {0: dev}, **candidate)
        made.cells[-1]["split"] = "dev"
        path = made.folder / made.cells[-1]["file"]
        found = json.loads(path.read_text())
        found["results"][0]["scores"]["dev"]["accuracy"] = sum(dev) / 2
        path.write_text(json.dumps(found))
    (choice,) = collected(made.write(), "table3").choices
    assert choice.kept == '{"tau": "5"}' and list(choice.dev.values()) == [0.5, 1.0]


def test_without_dev_scores_nothing_is_chosen(made):
    for tau in ("1", "5"):
        made.evaluated("table3", "m", 0, {"qa_vi": [1, 0]}, candidate={"tau": tau})
    with pytest.raises(InputError, match=r"scores.json: no dev score .* cannot choose .* of m"):
        collected(made.write(), "table3")


def test_table4_borrows_the_baselines_of_table2_and_ablations_their_reference(two):
    two.finetuned("table4", "temp-1-all", "pos_en", {0: [1, 1, 0, 0]})
    two.finetuned("ablations", "reset", "pos_en", {0: [1, 0, 0, 0]}, reference="mtl-all")
    folder = two.write()
    assert set(collected(folder, "table4").rows) == {"baseline", "mtl-all", "temp-1-all"}
    assert set(collected(folder, "ablations").rows) == {"mtl-all", "reset"}
    two.cells[-1]["reference"] = "nothing"
    with pytest.raises(InputError, match="ablations reset: no row nothing to compare it with"):
        collected(two.write(), "ablations")


def spoil(made, action):
    """Apply to the folder of seed 1 of the baseline."""
    action(made.folder / "runs/table2-baseline-pos_en-1-")
    return made.write()


def drop(name):
    return lambda folder: (folder / name).unlink()


def put(name, text):
    return lambda folder: (folder / name).write_text(text)


def alter(**changes):
    def change(folder):
        found = json.loads((folder / "results.json").read_text())
        found["results"][0] |= changes
        (folder / "results.json").write_text(json.dumps(found))

    return change


def other_examples(folder):
    terms = {"test/accuracy": np.ones((4, 1, 2)) * [[[1, 1]], [[1, 1]], [[1, 2]], [[0, 0]]]}
    write_terms(folder / "pos_en/seed_1", terms)


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (drop("results.json"), r"pos_en-1-/results.json: No such file .* pos_en seed 1"),
        (put("results.json", "{"), r"results.json: damaged \(Expecting"),
        (put("results.json", "[]"), r"results.json: damaged \(a JSON object"),
        (put("results.json", "{}"), r"results.json: damaged \(no results"),
        (alter(seed=7), r"results.json: 0 results of pos_en, seed 1"),
        (alter(shots="16"), r"results.json: 0 results of pos_en, seed 1"),
        (alter(scores={}), r"results.json: damaged \(no number at test.accuracy"),
        (
            alter(scores={"test": {"accuracy": "high"}}),
            r"results.json: damaged \(no number at test.accuracy",
        ),
        (
            alter(scores={"test": {"accuracy": 0.5}}),
            r"accuracy of table2 baseline pos_en seed 1 is 0.500000, .* give 0.750000",
        ),
        (put("pos_en/seed_1/terms.npz", "no"), r"terms.npz: damaged"),
        (other_examples, "did not score the same test examples of pos_en"),
    ],
)
def test_what_is_missing_or_damaged_is_named(two, action, message):
    with pytest.raises(InputError, match=message):
        collected(spoil(two, action))


def test_partial_leaves_out_what_is_missing_and_nothing_that_is_damaged(two):
    folder = spoil(two, drop("results.json"))
    found = collected(folder, partial=True)
    assert found.numbers["baseline", POS].estimate.value == 0.5
    (line,) = found.missing
    assert "baseline pos_en seed 1" in line and line.endswith("results.json is missing")
    (folder / "runs/table2-mtl-all-0-/scores.json").write_text("{")
    with pytest.raises(InputError, match=r"scores.json: damaged"):
        collected(folder, partial=True)


def test_systems_and_splits_of_an_evaluation(two):
    two.cells[-1]["system"] = "other"
    with pytest.raises(InputError, match=r"scores.json: no system other; there is meta"):
        collected(two.write())
    two.cells[-1] |= {"system": "meta", "split": "xquad"}
    with pytest.raises(InputError, match=r"scores.json: meta has no xquad score of pos_en"):
        collected(two.write())


def test_without_terms_only_the_seeds_are_known_to_vary(two):
    folder = two.write()
    (folder / "runs/table2-mtl-all-0-/terms.npz").unlink()
    reader = Reader(folder)
    found = collect(read_plan(folder), "table2", reader, Resampler(200))
    assert found.numbers["mtl-all", POS].estimate.interval(0.95) is None
    assert [path.name for path in reader.without_terms] == ["table2-mtl-all-0-"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, r"plan.json: format 2; this version reads 1"),
        ({"cells": {}}, r"plan.json: damaged \(no cells"),
        ({"protocol": {"name": "x"}}, r"plan.json: damaged \(protocol needs"),
        ({"cells": [{"target": "table2"}]}, r"plan.json: cells\[0\]: damaged"),
        ({"runs": {}}, r"plan.json: cells\[0\]: no run "),
    ],
)
def test_plans_that_cannot_be_read(two, change, message):
    path = two.write() / "plan.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(InputError, match=message):
        read_plan(path.parent)
