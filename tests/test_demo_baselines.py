"""benchmarks/demo_baselines.py: what each method sees and scores, by hand, and a tiny run."""

import importlib
from pathlib import Path

import pytest
import torch

from metatlp.data.demo.lexicon import build_lexicon
from metatlp.data.demo.oracle import Oracle
from metatlp.data.records import Answer, Question, TaggedSentence, TextPair
from metatlp.grid import TLP

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def baselines(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("demo_baselines")


@pytest.fixture
def data(baselines):
    def build(tlp, train, test):
        tlp = TLP.parse(tlp)
        return baselines.Data(tlp, train, test, Oracle(build_lexicon(tlp.lang, 0)))

    return build


PAIR = TextPair("a b c.", "b d.", "1")


def test_words_are_those_written_apart_or_characters_without_marks(data):
    assert data("pa_en", [], []).words("a bc. d?") == ("a", "bc", "d")
    assert data("pa_zh", [], []).words("一二。三？") == ("一", "二", "三")


def test_overlap_and_the_features_of_a_pair(baselines, data):
    pairs = data("pa_en", [], [])
    assert baselines.overlap(pairs, PAIR) == 1 / 4
    assert baselines.bag(pairs, PAIR, "2") == {"2b", "2d"}
    assert baselines.bag(pairs, PAIR, "1&-+") == {"1a", "1b", "1c", "&b", "-a", "-c", "+d"}


def test_labels_by_frequency_and_by_overlap(baselines, data):
    same, other = TextPair("a b", "b a", "1"), TextPair("a b", "c d", "0")
    pairs = data("pa_en", [same, other, other], [same, same, same, other])
    assert baselines.majority_label(pairs) == 1 / 4
    assert baselines.overlap_alone(pairs) == 1
    # An overlap of a third was in no training pair: the most frequent label.
    unseen = TextPair("a b", "b c", "0")
    assert baselines.overlap_alone(data("pa_en", [same, other, other], [unseen])) == 1


def test_a_bag_of_words_learns_the_word_that_tells(baselines, data):
    train = [TextPair("a b", "a not b", "0"), TextPair("c d", "c d", "1")] * 10
    test = [TextPair("c a", "c not a", "0"), TextPair("a d", "d a", "1")]
    assert baselines.bag_of_words("+")(data("pa_en", train, test)) == 1


def test_regression_needs_examples_against_its_penalty(baselines):
    # The penalty is |w|^2 / |train|: three examples give the prior, 150 of the same give the rule.
    x, gold = torch.tensor([[0.0], [0.0], [1.0]]), torch.tensor([0, 0, 1])
    assert baselines.regression(x, gold, torch.tensor([[0.0], [1.0]]), 2).tolist() == [0, 0]
    many = baselines.regression(x.repeat(50, 1), gold.repeat(50), torch.tensor([[0.0], [1.0]]), 2)
    assert many.tolist() == [0, 1]


def test_tags(baselines, data):
    train = [TaggedSentence(("x", "x", "y"), ("NOUN", "NOUN", "VERB"))]
    test = [TaggedSentence(("y", "x", "z", "y"), ("VERB", "NOUN", "NOUN", "NOUN"))]
    assert baselines.majority_tag(data("pos_en", train, test)) == 3 / 4
    # The second y is wrong; z is unknown, so a NOUN.
    assert baselines.tag_of_form(data("pos_en", train, test)) == 3 / 4
    train = [TaggedSentence(("in", "Rome", "now"), ("O", "B-LOC", "O"))]
    test = [TaggedSentence(("Rome", "Bonn"), ("B-LOC", "B-LOC"))]
    assert baselines.majority_tag(data("ner_en", train, test)) == 0
    # One of two found, nothing else: 2 * 1 / (1 + 2).
    assert baselines.tag_of_form(data("ner_en", train, test)) == pytest.approx(2 / 3)


def test_answers(baselines, data):
    context = "today ann sees bob. often eva eats two apples."
    question = Question("1", "who eats often?", context, (Answer("eva two apples", 0),))
    one = data("qa_fr", [], [question])
    # Nearest is the second sentence; less the words of the question: eva two apples.
    assert baselines.rest_of_nearest(one) == 1
    whole = Question("1", "?", "x y", (Answer("x y", 0),))
    assert baselines.random_span(data("qa_fr", [], [whole])) == 1
    assert baselines.qa_score(one, lambda question: "eva") == 2 / (1 + 3)


def test_from_start_to_end(baselines, capsys):
    assert baselines.main(["--scale", "0.0002", "--examples", "2"]) == 0
    rows = [line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines()[2:]]
    assert {row[0] for row in rows} == {"QA", "NLI", "PA", "POS", "NER"}
    assert [row[3:] for row in rows if row[2] == "oracle"] == [["100.0"] * 3] * 5
    assert all(0 <= float(row[4]) <= float(row[3]) <= float(row[5]) <= 100 for row in rows)
