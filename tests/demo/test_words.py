"""Written forms: one reading each, and shared between languages as the family tree has it."""

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
from metatlp.data.demo.relatedness import (
    KINSHIPS,
    by_kinship,
    kinship,
    piece_counts,
    shared_pieces,
    shared_words,
)
from metatlp.data.demo.scripts import SCRIPTS, write
from metatlp.data.demo.stock import UPOS, VERB_OF_NOUN
from metatlp.grid import PAPER_LANGUAGES

SEEDS = st.integers(0, 2**63 - 1)
HOMOGRAPHS = {frozenset(pair) for pair in VERB_OF_NOUN.items()}


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


def test_the_grid_of_languages():
    assert tuple(TRAINING) == PAPER_LANGUAGES
    assert set(EXTERNAL) == {*NEAR, *OTHER_SCRIPT, *FAR} and not set(TRAINING) & set(EXTERNAL)
    assert all(code == language.code for code, language in LANGUAGES.items())
    for group, nearest in ((NEAR, "siblings"), (OTHER_SCRIPT, "cousins"), (FAR, "strangers")):
        for code in group:
            closest = min((kinship(code, other) for other in TRAINING), key=KINSHIPS.index)
            # Bengali and Urdu are of Hindi's family.
            assert closest == ("siblings" if code in ("bn", "ur") else nearest), code


@settings(max_examples=4, deadline=None)
@given(seed=SEEDS)
def test_words_are_shared_as_the_family_tree_has_it(seed):
    lexicons = {code: build_lexicon(code, seed) for code in LANGUAGES}
    shares = by_kinship(LANGUAGES, lambda a, b: shared_words(lexicons[a], lexicons[b]))
    assert mean(shares["siblings"]) > 0.55
    assert mean(shares["siblings"]) > mean(shares["cousins"]) + 0.1
    assert mean(shares["cousins"]) > 0.08 and min(shares["siblings"]) > max(shares["strangers"])
    assert max(shares["strangers"]) < 0.04


@pytest.mark.parametrize("seed", [0, 1])
def test_word_pieces_are_shared_as_the_family_tree_has_it(seed):
    lexicons = {code: build_lexicon(code, seed) for code in LANGUAGES}
    pieces = piece_counts(lexicons, num_sentences=100)
    shares = by_kinship(LANGUAGES, lambda a, b: shared_pieces(pieces[a], pieces[b]))
    siblings, cousins, strangers = (shares[name] for name in KINSHIPS)
    assert mean(siblings) > mean(cousins) + 0.05 > mean(strangers) + 0.1
    assert min(siblings) > max(strangers)
    # Neither script nor stock: punctuation and foreign words are left.
    assert shared_pieces(pieces["en"], pieces["ko"]) < mean(strangers)
