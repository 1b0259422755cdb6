"""Verdicts by their rules, on cases made so that each of them comes out."""

from __future__ import annotations

import math

import numpy as np
import pytest

from metatlp.engine.scoring.bootstrap import Sample
from metatlp.grid import TLP
from metatlp.report.claims import ALL, CLAIMS, MEAN, MOST, Better, Claim, Curve, MoreGain
from metatlp.report.collected import Resampler, collect
from metatlp.report.curves import QUANTITIES, Curves
from metatlp.report.plan_file import read_plan
from metatlp.report.readings import Reader
from metatlp.report.significance import Estimate
from metatlp.report.tables import LAYOUTS
from metatlp.report.verdicts import FAILS, HOLDS, OPEN, Comparison, by_signs, equal, judge

TARGET = TLP("qa", "en")
PLAIN = Sample(0.1, np.full(10, 0.1))


def compared(value: float, p: float, p_holm: float | None = None) -> Comparison:
    estimate = Estimate.of({0: Sample(value, np.full(10, value))}, "x")
    return Comparison("a less b", estimate, p, p if p_holm is None else p_holm)


UP, DOWN, UNSURE = compared(0.1, 0.01), compared(-0.1, 0.01), compared(0.1, 0.2)
UP_BY_ITSELF, DOWN_BY_ITSELF = compared(0.1, 0.04, 0.08), compared(-0.1, 0.04, 0.08)


@pytest.mark.parametrize(
    ("how", "found", "verdict"),
    [
        (ALL, [UP, UP], HOLDS),
        (ALL, [UP, UP_BY_ITSELF], HOLDS),
        (ALL, [UP, UNSURE], OPEN),
        (ALL, [UP, DOWN], FAILS),
        (ALL, [UP, DOWN_BY_ITSELF], OPEN),
        (MEAN, [UP], HOLDS),
        (MEAN, [UNSURE], OPEN),
        (MEAN, [DOWN], FAILS),
        (MOST, [UP, UP, DOWN], HOLDS),
        (MOST, [UP, UNSURE], OPEN),
        (MOST, [UP, UP_BY_ITSELF], OPEN),
        (MOST, [DOWN, UNSURE], FAILS),
        (MOST, [UP, UP, UNSURE, DOWN], OPEN),
        (ALL, [compared(0.1, 0.05)], HOLDS),
    ],
)
def test_signs(how, found, verdict):
    assert by_signs(found, how, 1 - 0.95)[0] == verdict


def spread(low: float, high: float) -> Comparison:
    estimate = Estimate.of({0: Sample((low + high) / 2, np.linspace(low, high, 1001))}, "x")
    return Comparison("a", estimate)


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        ([spread(-0.04, 0.04)], HOLDS),
        ([spread(-0.04, 0.04), spread(0.0, 0.2)], OPEN),
        ([spread(-0.04, 0.04), spread(0.06, 0.2)], FAILS),
    ],
)
def test_about_zero(found, verdict):
    assert equal(found, 0.05, 0.95)[0] == verdict


def tables(made):
    folder = made.write()
    plan = read_plan(folder)
    return {t: collect(plan, t, Reader(folder), Resampler(500)) for t in ("table2", "table3")}


def claim(test) -> Claim:
    return Claim("name", "5", "A claim.", test)


def of_ten(right: int) -> list[float]:
    return [1.0] * right + [0.0] * (10 - right)


BETTER = Better("table2", ("meta-temp-all",), ("baseline",), ("pos", "ner"), ALL)


@pytest.mark.parametrize(
    ("baseline", "verdict"),
    [((1, 2, 1), HOLDS), ((9, 7, 10), OPEN), ((10, 10, 10), FAILS)],
)
def test_a_table_decides(made, baseline, verdict):
    meta = {HOLDS: (9, 10, 9), OPEN: (8, 9, 9), FAILS: (2, 1, 2)}[verdict]
    for tlp in ("pos_en", "ner_de"):
        made.finetuned("table2", "baseline", tlp, {s: of_ten(n) for s, n in enumerate(baseline)})
        made.finetuned("table2", "meta-temp-all", tlp, {s: of_ten(n) for s, n in enumerate(meta)})
    # A task that the claim is not about.
    made.finetuned("table2", "baseline", "qa_en", {0: of_ten(5)})
    found = judge(claim(BETTER), tables(made), {}, 0.95)
    assert found.verdict == verdict
    assert [each.what.partition(":")[0] for each in found.comparisons] == ["pos_en", "ner_de"]


def test_of_several_rows_dev_chooses_for_each_column(made):
    # mdds-task is the better one on dev, and the worse one on test.
    seeds = (0, 1)
    made.finetuned("table2", "baseline", "pos_en", {s: of_ten(5) for s in seeds})
    made.finetuned("table2", "meta-temp-all", "pos_en", {s: of_ten(9) for s in seeds}, dev=0.3)
    made.finetuned("table2", "mdds-task", "pos_en", {s: of_ten(6) for s in seeds}, dev=0.4)
    test = Better("table2", ("meta-temp-all", "mdds-task"), ("baseline",), ("pos",), MEAN)
    (found,) = judge(claim(test), tables(made), {}, 0.95).comparisons
    assert found.estimate.value == pytest.approx(0.1)


def test_more_gain(made):
    right = {"qa_en": (3, 9), "pos_en": (5, 6)}
    for tlp, (before, after) in right.items():
        for row, number in (("baseline", before), ("meta-temp-all", after)):
            hits = {s: of_ten(number) for s in (0, 1, 2)}
            made.finetuned("table2", row, tlp, hits)
    test = MoreGain("table2", ("meta-temp-all",), ("baseline",), ("qa",), ("pos",))
    found = judge(claim(test), tables(made), {}, 0.95)
    assert found.comparisons[0].estimate.value == pytest.approx(0.6 - 0.1)
    assert found.verdict == HOLDS


def test_what_is_missing_leaves_it_open(made):
    none = judge(claim(BETTER), {}, {}, 0.95)
    assert (none.verdict, none.reason) == (OPEN, "no numbers: table2 was not run")
    made.finetuned("table2", "baseline", "pos_en", {0: of_ten(1)})
    found = judge(claim(BETTER), tables(made), {}, 0.95)
    assert found.verdict == OPEN and "no rows meta-temp-all" in found.reason
    made.finetuned("table2", "meta-temp-all", "pos_en", {0: of_ten(9)})
    found = judge(claim(BETTER), tables(made), {}, 0.95)
    assert found.verdict == OPEN and "no columns of ner" in found.reason
    made.finetuned("table2", "meta-temp-all", "ner_de", {0: of_ten(9)})
    found = judge(claim(BETTER), tables(made), {}, 0.95)
    assert found.verdict == OPEN and found.reason == "no number of baseline ner_de in table2"
    made.finetuned("table2", "baseline", "ner_de", {0: of_ten(1)})
    found = judge(claim(BETTER), tables(made), {}, 0.95)
    assert found.verdict == OPEN and "1 seed" in found.reason and len(found.comparisons) == 2


def curves(nli: tuple[float, float], qa: tuple[float, float], reward: float = 0.5) -> Curves:
    """Two pairs and POS; probabilities at the start and at the end."""
    names = [TLP("nli", "en"), TLP("qa", "en"), TLP("pos", "en")]
    rest = (1 - nli[0] - qa[0], 1 - nli[1] - qa[1])
    rewards = dict(zip(names, ([reward], [reward], [0.1]), strict=True))
    return Curves([0, 10], dict(zip(names, (nli, qa, rest), strict=True)), {}, rewards)


def test_quantities_by_hand():
    found = {name: of(curves((0.5, 0.25), (0.25, 0.25))) for name, (_, of) in QUANTITIES.items()}
    assert found["nli_share_lost"] == pytest.approx(0.25)
    assert found["rewards_of_qa_and_nli"] == pytest.approx(0.4)
    assert found["qa_less_nli"] == pytest.approx(0)
    # 1/2, 1/4, 1/4 twice: the same entropy. One update: no change of the spread.
    assert found["entropy_gained"] == pytest.approx(0)
    assert found["spread_gained"] == 0
    uniform = curves((0.5, 1 / 3), (0.25, 1 / 3))
    entropy = 1.5 * math.log(2)
    assert QUANTITIES["entropy_gained"][1](uniform) == pytest.approx(1 - entropy / math.log(3))


@pytest.mark.parametrize(
    ("ends", "verdict"),
    [((0.2, 0.21, 0.19), HOLDS), ((0.3, 0.6, 0.5), OPEN), ((0.7, 0.71, 0.7), FAILS)],
)
def test_curves_decide(ends, verdict):
    runs = {("mdds", TARGET): {s: curves((0.5, end), (0.25, 0.2)) for s, end in enumerate(ends)}}
    assert judge(claim(Curve("nli_share_lost")), {}, runs, 0.95).verdict == verdict
    # Of another task there is no target.
    other = judge(claim(Curve("nli_share_lost", ("pos",))), {}, runs, 0.95)
    assert other.verdict == OPEN and "no sampler" in other.reason


@pytest.mark.parametrize(
    ("qa", "verdict"),
    [((0.3, 0.3, 0.31), HOLDS), ((0.3, 0.4, 0.2), OPEN), ((0.6, 0.6, 0.61), FAILS)],
)
def test_curves_about_zero(qa, verdict):
    runs = {("mdds", TARGET): {s: curves((0.5, 0.3), (0.25, end)) for s, end in enumerate(qa)}}
    assert judge(claim(Curve("qa_less_nli", within=0.05)), {}, runs, 0.95).verdict == verdict


def test_the_claims_name_rows_tasks_and_quantities_that_there_are():
    names = [each.name for each in CLAIMS]
    assert len(set(names)) == len(names) >= 15
    for each in CLAIMS:
        test = each.test
        if isinstance(test, Curve):
            assert test.quantity in QUANTITIES
            continue
        rows = {row for group in LAYOUTS[test.target].values() for row in group}
        assert {*test.rows, *test.against} <= rows and not {*test.rows} & {*test.against}
        tasks = test.tasks if isinstance(test, Better) else test.more + test.less
        assert {*tasks} <= {"qa", "nli", "pa", "pos", "ner"}
