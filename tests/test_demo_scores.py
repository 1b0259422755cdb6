"""The arithmetic of benchmarks/demo_scores.py: means and spreads over seeds, and chance."""

import importlib
from pathlib import Path

import pytest

from metatlp.data.records import Answer, Question, TaggedSentence
from metatlp.errors import InputError
from metatlp.grid import TLP

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def part(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return lambda name: importlib.import_module(name)


def scores(**values):
    return {TLP.parse(name): float(value) for name, value in values.items()}


def test_trained_languages_are_averaged_within_a_seed_before_the_spread(part):
    trained = [TLP.parse("pos_en"), TLP.parse("pos_hi")]
    dev = [scores(pos_en=40, pos_hi=60), scores(pos_en=50, pos_hi=54)]
    test = [scores(pos_en=10, pos_hi=30, pos_nl=99), scores(pos_en=20, pos_hi=26, pos_nl=99)]
    chance = scores(pos_en=10, pos_hi=20, pos_nl=90)
    found = part("demo_runs.report").trained_summary(trained, dev, test, chance)
    assert list(found) == ["pos"]
    assert found["pos"]["chance"] == 15
    # 50 and 52; 20 and 23: sd = |difference| / sqrt(2)
    assert found["pos"]["dev"] == {"mean": 51, "sd": pytest.approx(2**0.5)}
    assert found["pos"]["test"] == {"mean": 21.5, "sd": pytest.approx(3 / 2**0.5)}


def test_near_minus_far_is_taken_within_a_seed_and_less_that_of_chance(part):
    trained = [TLP.parse("pos_en"), TLP.parse("nli_en")]
    test = [
        scores(pos_nl=30, pos_it=50, pos_et=10, nli_nl=60, nli_et=50),
        scores(pos_nl=20, pos_it=30, pos_et=11, nli_nl=40, nli_et=50),
    ]
    chance = scores(pos_nl=12, pos_it=14, pos_et=9, nli_nl=33, nli_et=33)
    report = part("demo_runs.report")
    found = report.zero_shot_summary(trained, test, chance)
    assert found["pos"]["near"] == {"chance": 13, "mean": 32.5, "sd": pytest.approx(15 / 2**0.5)}
    # 30 and 14
    assert found["pos"]["near - far"]["mean"] == 22
    assert found["pos"]["over chance"] == {"mean": 18, "sd": pytest.approx(16 / 2**0.5)}
    # The mean of the tasks: 30 and 10, 14 and -10.
    assert found["all"]["near - far"]["mean"] == 11
    assert found["pos"]["other script"] == {"chance": None, "mean": None, "sd": None}
    lines = report.zero_shot_table(found)
    assert "| NLI           | 50.0 ± 14.1 | -            | 50.0 ± 0.0 | +0.0 ± 14.1" in lines[2]


def test_a_single_seed_has_no_spread_and_a_trained_language_is_not_zero_shot(part):
    report = part("demo_runs.report")
    trained = [TLP.parse("pos_nl")]
    test = [scores(pos_nl=30, pos_it=50, pos_et=10)]
    found = report.zero_shot_summary(trained, test, scores(pos_nl=1, pos_it=2, pos_et=3))
    assert found["pos"]["near"] == {"chance": 2, "mean": 50, "sd": None}
    assert report.with_sd(found["pos"]["near"]) == "50.0"


def test_chance_of_tags_is_the_most_frequent_and_of_answers_the_mean_over_spans(part):
    chance = part("demo_runs.chance").chance
    tagged = [TaggedSentence(("a", "b", "c"), ("O", "O", "B-PER")), TaggedSentence(("d",), ("O",))]
    assert chance(TLP.parse("ner_en"), tagged) == 75
    assert chance(TLP.parse("nli_en"), []) == pytest.approx(100 / 3)
    assert chance(TLP.parse("pa_en"), []) == 50
    # Spans of two words: "x y" 1, "y z." 1/2, "z. u" 0.
    question = Question("1", "?", "x y z. u", (Answer("x y", 0),))
    assert chance(TLP.parse("qa_fr"), [question]) == 50
    # Of one character, marks among them.
    question = Question("1", "?", "一二。一", (Answer("一", 0),))
    assert chance(TLP.parse("qa_zh"), [question]) == 50


@pytest.mark.parametrize("word", ["--seed", "--output_dir=x", "--data", "--dry-run"])
def test_flags_that_the_benchmark_sets_cannot_be_passed_on(part, word):
    with pytest.raises(InputError, match="cannot be passed on"):
        part("demo_runs.train").check_passed_on(["--epochs", "2", word])
