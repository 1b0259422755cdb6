"""The answer key: rules that read only the texts are right on every example."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metatlp.data.demo import grammar
from metatlp.data.demo.languages import LANGUAGES
from metatlp.data.demo.lexicon import build_lexicon
from metatlp.data.demo.meaning import Clause, Phrase, meaning
from metatlp.data.demo.oracle import Oracle
from metatlp.data.demo.reading import Reader
from metatlp.data.demo.splits import build_splits, split_sizes
from metatlp.grid import TASK_CODES, TLP


def mistakes(code: str, seed: int, scale: float) -> tuple[int, list]:
    """The number of examples in a language, and those that the oracle gets wrong."""
    oracle = Oracle(build_lexicon(code, seed))
    examples = [
        (task, example)
        for task in TASK_CODES
        for split in build_splits(
            oracle.lexicon, task, split_sizes(TLP(task, code), scale), seed
        ).values()
        for example in split
    ]
    wrong = [
        (task, example) for task, example in examples if oracle.predict(task, example) != example
    ]
    return len(examples), wrong


@pytest.mark.parametrize("code", LANGUAGES)
def test_right_on_all_splits_of_all_tasks(code):
    count, wrong = mistakes(code, seed=0, scale=0.002)
    assert count >= 100 and not wrong


@pytest.mark.parametrize("passive", [False, True])
def test_a_meaning_is_the_same_in_every_language(passive):
    # Deep tasks share what a sentence says, shallow ones how it is written (Vauquois).
    clause = Clause(Phrase("dog", "the", "old"), "see", Phrase("first:3"), Phrase("river", "the"))
    clause = replace(clause, time="today", passive=passive)
    texts = set()
    for code in LANGUAGES:
        reader = Reader(build_lexicon(code, 0))
        text = grammar.sentence(grammar.realise(clause, reader.lexicon), reader.lexicon)
        (words,) = reader.sentences(text)
        read = meaning(reader.meaning(words))
        # A language without articles does not write `the`.
        assert _without_articles(read) == _without_articles(meaning(clause)), (code, text)
        texts.add(text)
    assert len(texts) == len(LANGUAGES)


def _without_articles(clause: Clause) -> Clause:
    parts = {part: getattr(clause, part) for part in ("subject", "object", "place")}
    return replace(clause, **{k: replace(v, determiner="") for k, v in parts.items() if v})


@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 2**63 - 1))
def test_right_for_any_seed(seed):
    for code in LANGUAGES:
        assert not mistakes(code, seed, scale=0.0002)[1]


def test_an_ending_that_begins_as_a_longer_one():
    # An object that ends in U, a verb that begins with FU, and the past of the verb made from
    # that object, which ends in UFU.
    assert not mistakes("ja", 31097672, scale=0.0002)[1]


def test_it_reads_only_known_words():
    oracle = Oracle(build_lexicon("en", 0))
    with pytest.raises(ValueError, match="no word of the language begins 'qwerty"):
        oracle.pa_label("qwerty.", "qwerty.")
    word = oracle.lexicon.form("dog")
    with pytest.raises(ValueError, match="0 meanings"):
        oracle.nli_label(f"{word} {word} {word} {word}.", f"{word}.")
