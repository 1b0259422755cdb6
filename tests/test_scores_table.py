"""The tables of scores: what stands where, on the screen and in Markdown."""

from __future__ import annotations

import numpy as np
import pytest

from metatlp.engine.scoring.bootstrap import Sample
from metatlp.grid import TLP
from metatlp.report.scores import Comparison, markdown_lines, screen_lines

METRICS = {"qa": "f1", "pos": "accuracy"}
POS_HI, POS_ET, POS_TA, QA_AR = map(TLP.parse, ("pos_hi", "pos_et", "pos_ta", "qa_ar"))


def number(value: float, spread: float = 0.1) -> Sample:
    """Resamples from value - spread to value + spread."""
    return Sample(value, value + np.linspace(-spread, spread, 101))


def comparison(marks=None, unlabelled=(), **scores) -> Comparison:
    return Comparison.of("test", METRICS, scores, 0.9, marks or {}, unlabelled)


@pytest.fixture
def two() -> Comparison:
    return comparison(
        {"mtl": {"pos_ta": "t"}},
        mtl={POS_TA: number(0.5), POS_ET: number(0.7), QA_AR: number(0.3)},
        meta={POS_TA: number(0.5), POS_ET: number(0.9, 0.2)},
    )


def test_means_are_over_all_columns_or_missing(two):
    values = {name: {key: s.value for key, s in row.items()} for name, row in two.rows.items()}
    assert values["mtl"]["pos"] == pytest.approx(0.6)
    assert values["mtl"]["all"] == pytest.approx(0.5), "of TLPs, not of tasks"
    assert values["meta"]["pos"] == pytest.approx(0.7)
    assert not values["meta"].keys() & {"qa", "all", "qa_ar"}


def test_the_screen(two):
    assert screen_lines(two) == [
        "qa, f1 (%)    ar",
        "mtl         30.0",
        "meta           -",
        "meta - mtl     -",
        "",
        "pos, accuracy (%)     et     ta    mean",
        "mtl                 70.0   50.0t   60.0",
        "meta                90.0   50.0    70.0",
        # Resamples of et differ by .1 to .3, those of ta not at all.
        "meta - mtl         +20.0*  +0.0   +10.0*",
        "",
        "means (%)     qa    pos   mean of all 3",
        "mtl         30.0   60.0            50.0",
        "meta           -   70.0               -",
        "meta - mtl     -  +10.0*              -",
    ]


def test_markdown_has_intervals_and_p(two):
    text = "\n".join(markdown_lines(two))
    assert "| system | et | ta | mean |\n|---|---|---|---|\n" in text
    # 90 % of a uniform spread of .1 is .09 to each side.
    assert "| mtl | 70.0 [61.0, 79.0] | 50.0t [41.0, 59.0] | 60.0 [51.0, 69.0] |" in text
    assert "| meta - mtl | +20.0 [11.0, 29.0] p = 0.02 | +0.0 [0.0, 0.0] p = 1 |" in text


def test_one_tlp_needs_no_mean():
    lines = screen_lines(comparison(only={QA_AR: number(0.25)}))
    assert lines == ["qa, f1 (%)    ar", "only        25.0"]


def test_files_without_labels_have_no_number_and_no_part_in_the_means():
    found = comparison(
        {"a": {"pos_ta": "t"}},
        a={POS_TA: number(0.5), POS_ET: number(0.7)},
        b={POS_TA: number(0.4), POS_ET: number(0.8)},
        unlabelled=[POS_HI, QA_AR],
    )
    assert found.rows["a"]["pos"].value == found.rows["a"]["all"].value == pytest.approx(0.6)
    assert screen_lines(found) == [
        "qa, f1 (%)         ar",
        "a           no labels",
        "b           no labels",
        "b - a               -",
        "",
        "pos, accuracy (%)         hi     et      ta   mean",
        "a                  no labels   70.0    50.0t  60.0",
        "b                  no labels   80.0    40.0   60.0",
        "b - a                      -  +10.0*  -10.0*  +0.0",
        "",
        "means (%)   pos  mean of all 2",
        "a          60.0           60.0",
        "b          60.0           60.0",
        "b - a      +0.0           +0.0",
    ]
    assert "| a | no labels | 70.0 [61.0, 79.0] | 50.0t [" in "\n".join(markdown_lines(found))
    record = found.as_json()
    assert record["tlps"] == ["qa_ar", "pos_hi", "pos_et", "pos_ta"]
    assert record["unlabelled"] == ["qa_ar", "pos_hi"]
    assert set(record["systems"]["a"]) == {"pos_et", "pos_ta", "pos", "all"}


def test_no_file_with_labels_gives_no_mean():
    found = comparison(only={}, unlabelled=[POS_HI, POS_ET])
    assert screen_lines(found) == [
        "pos, accuracy (%)         hi         et",
        "only               no labels  no labels",
    ]


def test_json_has_every_number(two):
    found = two.as_json()
    assert found["tlps"] == ["qa_ar", "pos_et", "pos_ta"]
    assert found["systems"]["meta"]["pos_et"] == pytest.approx(
        {"value": 0.9, "low": 0.72, "high": 1.08}
    )
    assert found["differences"]["meta - mtl"]["pos_et"] == pytest.approx(
        {"value": 0.2, "low": 0.11, "high": 0.29, "p": 2 / 102}
    )
    assert set(found["differences"]["meta - mtl"]) == {"pos_et", "pos_ta", "pos"}
