"""Scores: by hand, by their properties, and against scikit-learn and seqeval."""

import numpy as np
import pytest
import seqeval.metrics
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st

from metatlp.errors import InputError
from metatlp.grid import TLP
from metatlp.tasks import TASKS
from metatlp.tasks.metrics import (
    answer_scores,
    mlqa_tokens,
    scores,
    squad_tokens,
    token_f1,
    value,
)

NER_EN, POS_EN, NLI_EN, QA_EN = (TLP(task, "en") for task in ("ner", "pos", "nli", "qa"))


def compare(tlp, found, gold):
    return TASKS[tlp.task].compare(tlp, found, gold)


def test_value_is_the_mean_over_labels_with_a_denominator():
    assert value(np.array([[3.0, 4.0]])) == 0.75
    assert value(np.array([[1.0, 2.0], [0.0, 0.0], [0.0, 5.0]])) == 0.25
    assert value(np.zeros((3, 2))) == 0.0
    many = np.array([[[1.0, 2.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]]])
    assert value(many).tolist() == [0.5, 0.0]


def test_scores_count_what_was_scored():
    one, none, three = [1.0, 1.0], [0.0, 0.0], [1.0, 3.0]
    assert scores({"accuracy": np.array([[one], [none]])}) == {"accuracy": 1.0, "examples": 1}
    tagging = {"accuracy": np.array([[one], [three]]), "entity_f1": np.array([[none], [none]])}
    assert scores(tagging) == {"accuracy": 0.5, "entity_f1": 0.0, "words": 4, "examples": 2}


def test_terms_of_pairs_by_hand():
    found = ["neutral", None, "neutral"]
    terms = compare(NLI_EN, found, ["neutral", "neutral", "entailment"])
    assert terms["accuracy"].tolist() == [[[1, 1]], [[0, 0]], [[0, 1]]]
    # Labels: entailment, neutral, contradiction.
    assert terms["macro_f1"].tolist() == [
        [[0, 0], [2, 2], [0, 0]],
        [[0, 0], [0, 0], [0, 0]],
        [[0, 1], [0, 1], [0, 0]],
    ]
    assert all(each.dtype == np.float64 for each in terms.values())


def test_terms_of_entities_by_hand():
    # Found: PER 0, LOC 1; gold: PER 0, ORG 1. The second sentence has no word.
    terms = compare(NER_EN, [["B-PER", "I-LOC"], []], [["B-PER", "B-ORG"], []])
    assert terms["entity_f1"].tolist() == [[[2, 4]], [[0, 0]]]
    assert terms["accuracy"].tolist() == [[[1, 2]], [[0, 0]]]


def test_terms_of_answers_by_hand():
    terms = compare(TLP("qa", "es"), ["la casa «roja»", None], [["una casa", "x"], ["y"]])
    # MLQA: `casa roja` and `casa`; SQuAD: `la casa «roja»` and `una casa`.
    assert terms["f1"][0].tolist() == [[pytest.approx(2 / 3), 1]]
    assert terms["squad_f1"][0].tolist() == [[pytest.approx(2 / 5), 1]]
    assert terms["em"][0].tolist() == terms["squad_em"][0].tolist() == [[0, 1]]
    assert all(each[1].tolist() == [[0, 0]] for each in terms.values())
    assert [*terms] == ["f1", "em", "squad_f1", "squad_em"]


def test_words_where_a_model_and_gold_differ_in_number():
    with pytest.raises(InputError, match="pos_en: sentence 2: 1 tags for 2 words"):
        compare(POS_EN, [["X"], ["X"]], [["X"], ["X", "X"]])
    with pytest.raises(InputError, match="pos_en: no label 'B-LOC'; choose from ADJ, "):
        compare(POS_EN, [["B-LOC"]], [["X"]])
    with pytest.raises(InputError, match="qa_en: question 2 has no right answer"):
        compare(QA_EN, ["a", "b"], [["a"], []])


@st.composite
def tagged(draw, labels):
    """(found, gold): sentences, some of them empty; half of the tags found are right."""
    gold = draw(st.lists(st.lists(st.sampled_from(labels), max_size=9), min_size=1, max_size=6))
    guess = st.sampled_from([None, None, *labels])
    return [[draw(guess) or tag for tag in tags] for tags in gold], gold


@settings(max_examples=100, deadline=None)
@given(tagged(TASKS["ner"].labels))
def test_span_f1_is_that_of_seqeval(pair):
    # I- without B- before it, spans at sentence ends, changes of type: all tags are drawn freely.
    found, gold = pair
    got = scores(compare(NER_EN, found, gold))
    assert got["entity_f1"] == pytest.approx(
        seqeval.metrics.f1_score(gold, found, zero_division=0), abs=1e-12
    )
    assert got["examples"] == sum(map(bool, gold))
    if any(gold):
        assert got["accuracy"] == pytest.approx(seqeval.metrics.accuracy_score(gold, found))


@settings(max_examples=60, deadline=None)
@given(tagged(TASKS["pos"].labels[:5]))
def test_accuracy_and_macro_f1_of_words_are_those_of_scikit_learn(pair):
    found, gold = ([tag for tags in each for tag in tags] for each in pair)
    got = scores(compare(POS_EN, *pair))
    if gold:
        assert got["accuracy"] == pytest.approx(sklearn.metrics.accuracy_score(gold, found))
        f1 = sklearn.metrics.f1_score(gold, found, average="macro", zero_division=0)
        assert got["macro_f1"] == pytest.approx(f1)


@pytest.mark.parametrize("task", ["nli", "pa"])
def test_accuracy_and_macro_f1_of_pairs_are_those_of_scikit_learn(task):
    random = np.random.default_rng(0)
    for size in (1, 2, 5, 300):
        found, gold = random.choice(TASKS[task].labels, (2, size)).tolist()
        got = scores(compare(TLP(task, "en"), found, gold))
        f1 = sklearn.metrics.f1_score(gold, found, average="macro", zero_division=0)
        accuracy = sklearn.metrics.accuracy_score(gold, found)
        assert got == {
            "accuracy": pytest.approx(accuracy), "macro_f1": pytest.approx(f1), "examples": size
        }  # fmt: skip


def random_values(tlp, random, size):
    if tlp.task in ("pos", "ner"):
        lengths = random.integers(0, 5, size)
        found, gold = (
            [random.choice(TASKS[tlp.task].labels, n).tolist() for n in lengths] for _ in "fg"
        )
        return found, gold
    names = TASKS[tlp.task].labels if tlp.task != "qa" else ["the cat", "a cat", "dog", "cat dog"]
    found, gold = random.choice(names, (2, size)).tolist()
    found[0] = None
    return found, [[text, "dog"] for text in gold] if tlp.task == "qa" else gold


@pytest.mark.parametrize("task", TASKS)
def test_any_choice_of_rows_has_the_scores_of_those_examples(task):
    # What a bootstrap relies on; examples may come more than once.
    tlp, random = TLP(task, "en"), np.random.default_rng(1)
    found, gold = random_values(tlp, random, 30)
    terms = compare(tlp, found, gold)
    for _ in range(5):
        rows = random.integers(0, 30, 12)
        chosen = compare(tlp, [found[i] for i in rows], [gold[i] for i in rows])
        got = scores({name: each[rows] for name, each in terms.items()})
        assert got == pytest.approx(scores(chosen))
    assert next(iter(terms)) == TASKS[task].metric


@pytest.mark.parametrize(
    ("lang", "text", "tokens"),
    [
        ("en", "The «Eiffel» Tower, a tower!", ["eiffel", "tower", "tower"]),
        ("en", "another theatre", ["another", "theatre"]),
        # Symbols go where they are ASCII punctuation: $ + but not € °.
        ("en", "$5 + 5€ at 20°", ["5", "5€", "at", "20°"]),
        ("es", "La casa de los niños", ["casa", "de", "niños"]),
        ("es", "¿Una casa? ¡Él!", ["casa", "él"]),
        ("de", "Der Hund und ein Haus", ["hund", "und", "haus"]),
        ("de", "„Das Haus“ des ‚Mannes‘ – 3", ["haus", "mannes", "3"]),
        ("hi", "भारत का।", ["भारत", "का"]),
        # The danda is punctuation, the vowel signs are not; there are no articles.
        ("hi", "एक, दो॥ the", ["एक", "दो", "the"]),
        ("vi", "Những người của tôi", ["người", "tôi"]),
        ("vi", "Đây là cái bàn.", ["đây", "bàn"]),
        ("ar", "الكتاب الجديد،", ["كتاب", "جديد"]),
        # The two letters of the article go inside words too.
        ("ar", "المال؟", ["م"]),
        ("zh", "在2008年，北京", ["在", "2008", "年", "北", "京"]),
        ("zh", "NBA 球队", ["nba", "球", "队"]),
        ("zh", "《红楼梦》「一」", ["红", "楼", "梦", "一"]),
        ("ja", "東京タワー", ["東", "京", "タ", "ワ", "ー"]),
        ("fr", "La Tour", ["la", "tour"]),
    ],
)
def test_mlqa_normalisation(lang, text, tokens):
    assert mlqa_tokens(lang)(text) == tokens


def test_squad_normalisation_knows_english_only():
    assert squad_tokens("The «Eiffel» Tower, a tower!") == ["«eiffel»", "tower", "tower"]
    assert squad_tokens("Der Hund.") == ["der", "hund"]
    assert squad_tokens("भारत। 北京") == ["भारत।", "北京"]


def test_token_f1_and_exact_match():
    assert token_f1(list("aab"), list("abc")) == pytest.approx(2 * 2 / 6)
    assert token_f1([], []) == 0.0
    assert answer_scores("the cat", ["dog", "A cat."], mlqa_tokens("en")) == (1.0, 1.0)
    # Nothing is left of an answer that is an article: as in both scripts, equal but without F1.
    assert answer_scores("una", ["Una"], mlqa_tokens("es")) == (0.0, 1.0)
    assert answer_scores("", ["cat"], squad_tokens) == (0.0, 0.0)


words = st.sampled_from(
    ["the", "a", "la", "der", "των", "cat", "Haus", "niños", "là", "của", "ال", "كتاب", "कुत्ता"]
    + ["।", "¿", "„", "“", "北京", "北", "2008", ".", "$", "€"]
)
texts = st.lists(words, max_size=6).map(" ".join) | st.text(max_size=8)
normalisations = st.sampled_from(["en", "es", "de", "hi", "vi", "ar", "zh", "ja", "fi"]).map(
    mlqa_tokens
) | st.just(squad_tokens)


@settings(deadline=None)
@given(normalisations, texts, st.lists(texts, min_size=1, max_size=3))
def test_what_holds_for_answers(normalise, text, gold):
    f1, em = answer_scores(text, gold, normalise)
    tokens = normalise(text)
    assert 0 <= f1 <= 1 and em in (0, 1)
    assert not (em and tokens) or f1 == 1
    if len(gold) == 1:
        # Symmetric, for one right answer; and 1 for bags that are equal.
        assert answer_scores(gold[0], [text], normalise) == (f1, em)
        assert (f1 == 1) == (sorted(tokens) == sorted(normalise(gold[0])) != [])
    more = answer_scores(text, [*gold, text], normalise)
    assert more == (float(bool(tokens)), 1) and more[0] >= f1
