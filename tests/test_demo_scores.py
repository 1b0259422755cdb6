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


def test_the_groups_part_family_and_script(part):
    report = part("demo_runs.report")
    assert report.NEAR_LATIN == ["nl", "it"]
    assert report.FAR_LATIN == ["et", "fi", "tr", "sw", "vi"]
    assert report.GROUPS["far, own script"] == ["ta", "te", "ar", "th", "ko"]


def test_differences_are_taken_within_a_seed_and_less_that_of_chance(part):
    trained = [TLP.parse("pos_en"), TLP.parse("nli_en")]
    test = [
        scores(pos_nl=30, pos_mr=50, pos_et=10, pos_ko=4, nli_nl=60, nli_et=50),
        scores(pos_nl=20, pos_mr=30, pos_et=11, pos_ko=9, nli_nl=40, nli_et=50),
    ]
    chance = scores(pos_nl=12, pos_mr=14, pos_et=9, pos_ko=7, nli_nl=33, nli_et=33)
    report = part("demo_runs.report")
    found = report.zero_shot_summary(trained, test, chance)
    groups, differences = found["pos"]["groups"], found["pos"]["differences"]
    assert groups["near"] == {"chance": 13, "mean": 32.5, "sd": pytest.approx(15 / 2**0.5)}
    assert groups["far, Latin script"]["mean"] == 10.5
    assert groups["far, own script"]["mean"] == 6.5
    assert groups["other script"] == {"chance": None, "mean": None, "sd": None}
    # 40 - 7 and 25 - 10; chance 13 - 8.
    assert differences["near - far"]["mean"] == 24
    assert differences["near - far"]["over chance"] == {
        "mean": 19,
        "sd": pytest.approx(18 / 2**0.5),
    }
    # nl less et, without mr and ko: 20 and 9; chance 3.
    controlled = differences["near - far, Latin script"]
    assert (controlled["mean"], controlled["chance"]) == (14.5, 3)
    # The mean of the tasks: near 50 and 32.5, far 28.5 and 30.
    assert found["all"]["differences"]["near - far"]["mean"] == 12
    lines = report.zero_shot_table(found)
    assert [cell.strip() for cell in lines[2].split("|")[1:-1]] == [
        "NLI, accuracy",
        "50.0 ± 14.1",
        "-",
        "50.0 ± 0.0",
        "-",
    ]
    assert report.difference_table(found)[2].split("|")[2].strip() == "+0.0 ± 14.1"


def test_what_stands_for_ner_is_the_f1_of_entities(part):
    metrics = {"accuracy": 0.9, "entity_f1": 0.5}
    both = {TLP.parse("ner_en"): metrics, TLP.parse("pos_en"): metrics}
    assert part("demo_runs.report").headline(both) == scores(ner_en=50, pos_en=90)


def test_a_single_seed_has_no_spread_and_a_trained_language_is_not_zero_shot(part):
    report = part("demo_runs.report")
    trained = [TLP.parse("pos_nl")]
    test = [scores(pos_nl=30, pos_it=50, pos_et=10)]
    found = report.zero_shot_summary(trained, test, scores(pos_nl=1, pos_it=2, pos_et=3))
    near = found["pos"]["groups"]["near"]
    assert near == {"chance": 2, "mean": 50, "sd": None}
    assert report.with_sd(near) == "50.0"


def test_chance_of_tags_is_the_most_frequent_and_of_answers_the_mean_over_spans(part):
    chance = part("demo_runs.chance").chance
    tagged = [TaggedSentence(("a", "b", "c"), ("O", "O", "B-PER")), TaggedSentence(("d",), ("O",))]
    assert chance(TLP.parse("pos_en"), tagged) == 75
    assert chance(TLP.parse("ner_en"), tagged) == 0
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
