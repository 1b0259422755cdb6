"""The words of a language: roots inherited down the family tree, sound changes, endings, names.

Knows scripts and the stock of concepts; knows no sentence.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from metatlp.data.demo import scripts
from metatlp.data.demo.dice import Dice
from metatlp.data.demo.languages import LANGUAGES, Language, lineage
from metatlp.data.demo.scripts import CONSONANTS, VOWELS, write
from metatlp.data.demo.stock import ENDINGS, UPOS, VERB_OF_NOUN

# What a language may do to all its words: pattern and replacement.
SOUND_CHANGES = (
    (r"^p", "f"),
    (r"^t", "d"),
    (r"^k", "h"),
    (r"^b", "v"),
    (r"^s", "h"),
    (r"(?<=[aeiou])t(?=[aeiou])", "d"),
    (r"(?<=[aeiou])k(?=[aeiou])", "g"),
    (r"(?<=[aeiou])b(?=[aeiou])", "v"),
    (r"l(?=[aeiou])", "r"),
    (r"e$", "i"),
    (r"o$", "u"),
    (r"[nm]$", "n"),
    (r"[kg]$", "k"),
    (r"s$", "r"),
    (r"(?<=[aeiou][lrns])o", "a"),
)
NAMES_PER_KIND = 40
# Kind of name -> what half of them end in.
NAME_KINDS = {"first": "a", "last": "es", "place": "dor", "firm": "kor"}
_FUNCTION_POS = ("DET", "ADP", "AUX", "PART", "CCONJ", "SCONJ", "PRON")


@dataclass(frozen=True)
class Root:
    """Where a word comes from: the branch that coined it, the concept, its sounds today."""

    origin: str
    concept: str
    sounds: str


@dataclass
class Lexicon:
    """A language's forms.

    Attributes:
        forms: (concept, endings) -> written form.
        readings: written form -> its (concept, endings); more than one only for a verb made from
            a noun.
        names: kind (first, last, place, firm) -> written names, in the same order in every language.
    """

    language: Language
    forms: dict[tuple[str, tuple[str, ...]], str] = field(default_factory=dict)
    readings: dict[str, list[tuple[str, tuple[str, ...]]]] = field(default_factory=dict)
    names: dict[str, list[str]] = field(default_factory=dict)

    def form(self, concept: str, *endings: str) -> str:
        """The written word; endings that the language does not have are left out."""
        has = endings_of(self.language)
        return self.forms[concept, tuple(e for e in endings if e in has)]


def endings_of(language: Language) -> set[str]:
    wanted = {
        "plural": language.plural,
        "accusative": language.case,
        "verb_agreement": language.verb_agrees,
        "adjective_agreement": language.adjective_agrees,
        "past": language.code not in ("zh", "vi", "th"),
        "participle": True,
    }
    return {ending for ending, there in wanted.items() if there}


def build_lexicon(code: str, seed: int) -> Lexicon:
    """All words of a language. A concept whose word is taken coins a new root.

    Raises:
        ValueError: no free word was found for a concept.
    """
    lexicon = Lexicon(LANGUAGES[code])
    endings = _endings(seed, lexicon.language)
    for number, concept in enumerate(UPOS):
        if concept in VERB_OF_NOUN.values():
            continue
        for attempt in range(100):
            root = _root(seed, code, concept, attempt)
            paradigm = _paradigm(lexicon.language, concept, root, number, endings)
            if not lexicon.readings.keys() & set(paradigm.values()):
                break
        else:
            raise ValueError(f"no free word for '{concept}' in {code}")
        for (word, row), form in paradigm.items():
            lexicon.forms[word, row] = form
            lexicon.readings.setdefault(form, []).append((word, row))
    _add_names(lexicon, seed)
    return lexicon


def _paradigm(
    language: Language, concept: str, root: Root, number: int, written: dict[str, str]
) -> dict[tuple[str, tuple[str, ...]], str]:
    """Every form of a word; those of the verb made from a noun are among the noun's."""
    stem = _stem(language, root, number)
    found = {}
    for word in (concept, *([VERB_OF_NOUN[concept]] if concept in VERB_OF_NOUN else [])):
        for endings in _ending_rows(language, word):
            found[word, endings] = stem + "".join(written[ending] for ending in endings)
    return found


def _ending_rows(language: Language, concept: str) -> list[tuple[str, ...]]:
    """The combinations of endings that a word can take."""
    rows = {
        "NOUN": [(), ("plural",), ("accusative",), ("plural", "accusative")],
        "ADJ": [(), ("adjective_agreement",)],
        "VERB": [
            (),
            ("verb_agreement",),
            ("past",),
            ("past", "verb_agreement"),
            ("participle",),
        ],
    }.get(UPOS[concept], [()])
    has = endings_of(language)
    return [row for row in rows if has.issuperset(row)]


def _stem(language: Language, root: Root, number: int) -> str:
    """In Han a root has characters of its own; in Kana only if it came from the common stock."""
    if language.script == "han" or (language.script == "kana" and root.origin == "east"):
        characters = scripts.han(number + (0 if root.origin == "east" else len(UPOS)))
        return characters[: 1 if UPOS[root.concept] in _FUNCTION_POS else 2]
    return write(root.sounds, language.script)


def _endings(seed: int, language: Language) -> dict[str, str]:
    """Ending -> its written form; an ending that sounds like another, or like two, is replaced."""
    found: dict[str, str] = {}
    for number, ending in enumerate(ENDINGS):
        for attempt in range(100):
            sounds = _root(seed, language.code, ending, attempt).sounds
            written = write(sounds, language.script)
            if language.script == "han":
                written = scripts.han(2 * len(UPOS) + number)[0]
            pairs = {one + other for one in found.values() for other in (written, *found.values())}
            if written not in pairs | set(found.values()):
                break
        else:
            raise ValueError(f"no free ending for '{ending}' in {language.code}")
        found[ending] = written
    return found


def _root(seed: int, code: str, concept: str, attempt: int = 0) -> Root:
    """The root as it came down the tree; later attempts coin it in the language itself."""
    origin, sounds = "", ""
    for name, branch in lineage(code):
        dice = Dice(seed, "root", name, concept)
        if not sounds or dice.chance(branch.replaced):
            origin, sounds = name, _coin(dice, concept)
        for pattern, to in Dice(seed, "changes", name).sample(SOUND_CHANGES, branch.num_changes):
            sounds = re.sub(pattern, to, sounds)
    if attempt:
        origin, sounds = code, _coin(Dice(seed, "root", code, concept, attempt), concept)
    return Root(origin, concept, sounds)


def _coin(dice: Dice, concept: str) -> str:
    """CV(C) for function words, V(C) for endings, CVCV(C) for the others."""
    consonant, vowel = CONSONANTS, VOWELS
    last = dice.choice(consonant) if dice.chance(0.6) else ""
    if concept in ENDINGS:
        return dice.choice(vowel) + last
    if UPOS[concept] in _FUNCTION_POS:
        return dice.choice(consonant) + dice.choice(vowel) + last
    pairs = [dice.choice(consonant) + dice.choice(vowel) for _ in range(2)]
    return "".join(pairs) + last


def _add_names(lexicon: Lexicon, seed: int) -> None:
    """The same names everywhere, written in the language's script."""
    script, taken = lexicon.language.script, set(lexicon.readings)
    for kind, ending in NAME_KINDS.items():
        names: list[str] = []
        for number in range(NAMES_PER_KIND):
            for attempt in range(100):
                dice = Dice(seed, "name", kind, number, attempt)
                sounds = _coin(dice, "dog") + (ending if dice.chance(0.5) else "")
                name = write(sounds, script)
                name = name.capitalize() if script in scripts.CASED else name
                if name not in taken:
                    break
            else:
                raise ValueError(f"no free name of kind '{kind}' in {lexicon.language.code}")
            taken.add(name)
            names.append(name)
        lexicon.names[kind] = names
