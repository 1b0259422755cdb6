"""The words of a language: roots inherited down the family tree, sound changes, endings, names.

Knows scripts and the stock of concepts; knows no sentence.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
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
MAX_ATTEMPTS = 200
Reading = tuple[str, tuple[str, ...]]  # a concept and the endings on it
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
        names: kind (first, last, place, firm) -> written names, in the same order in every
            language.
    """

    language: Language
    forms: dict[Reading, str] = field(default_factory=dict)
    readings: dict[str, list[Reading]] = field(default_factory=dict)
    names: dict[str, list[str]] = field(default_factory=dict)

    def form(self, concept: str, *endings: str) -> str:
        """The written word; endings that the language does not have are left out."""
        has = endings_of(self.language)
        return self.forms[concept, tuple(e for e in endings if e in has)]


class Taken:
    """The written forms that a new word must not be mistaken for.

    Args:
        spaces: words are written apart; else none may begin with another.
    """

    def __init__(self, spaces: bool):
        self._spaces = spaces
        self._forms: set[str] = set()
        self._beginnings: set[str] = set()

    def add(self, forms: Iterable[str]) -> None:
        for form in forms:
            self._forms.add(form)
            self._beginnings.update(form[:end] for end in range(1, len(form)))

    def clashes(self, form: str) -> bool:
        if self._spaces or form in self._forms:
            return form in self._forms
        begins = any(form[:end] in self._forms for end in range(1, len(form)))
        return begins or form in self._beginnings


def endings_of(language: Language) -> set[str]:
    """Which of ENDINGS the language has."""
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
    """All words of a language.

    A concept whose word is taken coins a new root. So every form has one reading, but for a verb
    made from a noun; and where words are not written apart none begins with another (nor with an
    ending), so that a text can be cut in one way only.

    Raises:
        ValueError: no free word was found for a concept.
    """
    lexicon = Lexicon(LANGUAGES[code])
    taken = Taken(lexicon.language.spaces)
    endings = _endings(seed, lexicon.language)
    for number, concept in enumerate(UPOS):
        if concept in VERB_OF_NOUN.values():
            continue
        for attempt in range(MAX_ATTEMPTS):
            root = _root(seed, code, concept, attempt)
            paradigm = _paradigm(lexicon.language, concept, root, number, endings)
            if not any(taken.clashes(form) for form in paradigm.values()):
                break
        else:
            raise ValueError(f"no free word for '{concept}' in {code}")
        _add_word(lexicon, paradigm)
        taken.add(paradigm.values())
    _add_names(lexicon, seed, taken)
    return lexicon


def _add_word(lexicon: Lexicon, paradigm: dict[Reading, str]) -> None:
    for reading, form in paradigm.items():
        lexicon.forms[reading] = form
        lexicon.readings.setdefault(form, []).append(reading)


def _paradigm(
    language: Language, concept: str, root: Root, number: int, written: dict[str, str]
) -> dict[Reading, str]:
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
    """Ending -> its written form; no ending, and no two of them, are written like others."""
    found: dict[str, str] = {}
    for number, ending in enumerate(ENDINGS):
        for attempt in range(MAX_ATTEMPTS):
            written = write(_root(seed, language.code, ending, attempt).sounds, language.script)
            if language.script == "han":
                written = scripts.han(2 * len(UPOS) + number)[0]
            if _all_differ([*found.values(), written]):
                break
        else:
            raise ValueError(f"no free ending for '{ending}' in {language.code}")
        found[ending] = written
    return found


def _all_differ(endings: list[str]) -> bool:
    pairs = [one + other for one in endings for other in endings if one != other]
    return len({*endings, *pairs}) == len(endings) + len(pairs)


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
    if concept not in ENDINGS and UPOS[concept] not in _FUNCTION_POS:
        return _coin_word(dice)
    last = _coin_last(dice)
    first = "" if concept in ENDINGS else dice.choice(CONSONANTS)
    return first + dice.choice(VOWELS) + last


def _coin_word(dice: Dice) -> str:
    last = _coin_last(dice)
    return "".join(dice.choice(CONSONANTS) + dice.choice(VOWELS) for _ in range(2)) + last


def _coin_last(dice: Dice) -> str:
    return dice.choice(CONSONANTS) if dice.chance(0.6) else ""


def _add_names(lexicon: Lexicon, seed: int, taken: Taken) -> None:
    """The same names everywhere, written in the language's script."""
    for kind, ending in NAME_KINDS.items():
        lexicon.names[kind] = []
        for number in range(NAMES_PER_KIND):
            for attempt in range(MAX_ATTEMPTS):
                dice = Dice(seed, "name", kind, number, attempt)
                name = _name(_coin_word(dice) + ending * dice.chance(0.5), lexicon.language.script)
                if not taken.clashes(name):
                    break
            else:
                raise ValueError(f"no free name of kind '{kind}' in {lexicon.language.code}")
            taken.add([name])
            lexicon.names[kind].append(name)


def _name(sounds: str, script: str) -> str:
    written = write(sounds, script)
    return written.capitalize() if script in scripts.CASED else written
