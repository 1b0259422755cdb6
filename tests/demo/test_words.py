"""Written forms: one reading each, and shared between languages as the family tree has it."""

import importlib
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metatlp.data.demo.languages import (
    EXTERNAL,
    FAR,
    LANGUAGES,
    NEAR,
    OTHER_SCRIPT,
    TRAINING,
)
from metatlp.data.demo.lexicon import Taken, build_lexicon
from metatlp.data.demo.roots import Root
from metatlp.data.demo.scripts import SCRIPTS, write
from metatlp.data.demo.stock import UPOS, VERB_OF_NOUN
from metatlp.grid import PAPER_LANGUAGES

SEEDS = st.integers(0, 2**63 - 1)
BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
HOMOGRAPHS = {frozenset(pair) for pair in VERB_OF_NOUN.items()}


@pytest.fixture(scope="module")
def relatedness():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield importlib.import_module("demo_relatedness")


def mean(values):
    return sum(values) / len(values)


@settings(max_examples=5, deadline=None)
@given(seed=SEEDS)
def test_every_form_has_one_reading_but_verbs_made_from_nouns(seed):
    for code in LANGUAGES:
        lexicon = build_lexicon(code, seed)
        for form, readings in lexicon.readings.items():
            concepts = frozenset(concept for concept, _ in readings)
            assert len(readings) == 1 or concepts in HOMOGRAPHS, (code, form, readings)
            assert len(readings) == 1 or all(not endings for _, endings in readings)
        names = [name for kind in lexicon.names.values() for name in kind]
        assert len(set(names)) == len(names) and not lexicon.readings.keys() & set(names)
        assert {concept for concept, _ in lexicon.forms} == set(UPOS)


@settings(max_examples=5, deadline=None)
@given(seed=SEEDS)
def test_without_spaces_no_word_begins_with_another(seed):
    for code in [code for code, language in LANGUAGES.items() if not language.spaces]:
        lexicon = build_lexicon(code, seed)
        # A word's own endings may follow it: nothing else begins as an ending does.
        stems = {lexicon.form(concept) for concept in UPOS}
        stems |= {name for names in lexicon.names.values() for name in names}
        ends = {
            form.removeprefix(lexicon.forms[concept, ()])
            for (concept, endings), form in lexicon.forms.items()
            if endings
        }
        for stem in stems:
            assert not any(stem[:length] in stems for length in range(1, len(stem)))
            assert not any(stem.startswith(end) for end in ends)


def test_taken_forms():
    apart, joined = Taken(spaces=True), Taken(spaces=False)
    for taken in (apart, joined):
        taken.add(["kato"])
    assert [apart.clashes(word) for word in ("kato", "ka", "kator", "kat")] == [True] + [False] * 3
    assert [joined.clashes(word) for word in ("kato", "ka", "kator", "ata")] == [True] * 3 + [False]


def test_scripts():
    assert write("kato", "latin") == "kato"
    assert write("kato", "cyrillic") == "като"
    assert write("kato", "devanagari") == "कातो"
    assert write("kanto", "kana") == "カント"
    assert write("kan", "hangul") == "칸"
    with pytest.raises(ValueError, match="unknown script 'runes'; one of latin"):
        write("kato", "runes")
    assert {language.script for language in LANGUAGES.values()} == set(SCRIPTS)


def test_the_grid_of_languages(relatedness):
    assert tuple(TRAINING) == PAPER_LANGUAGES
    assert set(EXTERNAL) == {*NEAR, *OTHER_SCRIPT, *FAR} and not set(TRAINING) & set(EXTERNAL)
    assert all(code == language.code for code, language in LANGUAGES.items())
    for group, nearest in ((NEAR, "siblings"), (OTHER_SCRIPT, "cousins"), (FAR, "strangers")):
        for code in group:
            kinships = [relatedness.kinship(code, other) for other in TRAINING]
            closest = min(kinships, key=list(relatedness.KINSHIPS).index)
            # Bengali and Urdu are of Hindi's family.
            assert closest == ("siblings" if code in ("bn", "ur") else nearest), code


def test_what_two_languages_share(relatedness):
    one = [
        Root("west", "boat", "kato"),
        Root("west", "duck", "pim"),
        Root("germanic", "bank", "so"),
    ]
    other = [Root("west", "boat", "kadu"), Root("west", "duck", "pim"), Root("en", "bank", "so")]
    # By chance another coinage sounds the same.
    assert relatedness.shared_roots(one, other) == pytest.approx(2 / 3)
    assert relatedness.shared_sounds(one, other) == pytest.approx(2 / 3)
    # 3/4 and 1/4 against 1/2 and 1/2 of other pieces: 1/2 of "a".
    assert relatedness.shared_pieces(Counter("aaab"), Counter("aacc")) == 0.5


@settings(max_examples=4, deadline=None)
@given(seed=SEEDS)
def test_words_are_shared_as_the_family_tree_has_it(relatedness, seed):
    lexicons = {code: build_lexicon(code, seed) for code in LANGUAGES}
    shares = relatedness.by_kinship(
        LANGUAGES, lambda a, b: relatedness.shared_words(lexicons[a], lexicons[b])
    )
    assert mean(shares["siblings"]) > 0.55
    assert mean(shares["siblings"]) > mean(shares["cousins"]) + 0.1
    assert mean(shares["cousins"]) > 0.08 and min(shares["siblings"]) > max(shares["strangers"])
    assert max(shares["strangers"]) < 0.04


@settings(max_examples=4, deadline=None)
@given(seed=SEEDS)
def test_other_scripts_hide_words_that_training_languages_have(relatedness, seed):
    roots = {code: relatedness.content_roots(code, seed) for code in LANGUAGES}
    lexicons = {code: build_lexicon(code, seed) for code in LANGUAGES}

    def most(shared, of):
        return {
            code: relatedness.to_training(code, lambda a, b: shared(of[a], of[b]))
            for code in EXTERNAL
        }

    same_root = most(relatedness.shared_roots, roots)
    same_sounds = most(relatedness.shared_sounds, roots)
    alike = most(relatedness.shared_words, lexicons)
    for code in OTHER_SCRIPT:
        assert same_root[code] > 0.3 and alike[code] == 0, code
    assert mean([same_sounds[code] for code in OTHER_SCRIPT]) > 0.15
    for code in FAR:
        assert same_root[code] == 0 and same_sounds[code] < 0.04, code


@pytest.mark.parametrize("seed", [0, 1])
def test_word_pieces_are_shared_as_the_family_tree_has_it(relatedness, seed):
    lexicons = {code: build_lexicon(code, seed) for code in LANGUAGES}
    pieces = relatedness.piece_counts(lexicons, num_sentences=100)
    shares = relatedness.by_kinship(
        LANGUAGES, lambda a, b: relatedness.shared_pieces(pieces[a], pieces[b])
    )
    siblings, cousins, strangers = (shares[name] for name in relatedness.KINSHIPS)
    assert mean(siblings) > mean(cousins) + 0.05 > mean(strangers) + 0.1
    assert min(siblings) > max(strangers)
    # Neither script nor stock: punctuation and foreign words are left.
    assert relatedness.shared_pieces(pieces["en"], pieces["ko"]) < mean(strangers)
