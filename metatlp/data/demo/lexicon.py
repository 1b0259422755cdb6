"""The written words of a language: roots in its script, with their endings, and names.

Knows scripts and the stock of concepts; knows no sentence.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from metatlp.data.demo import scripts
from metatlp.data.demo.dice import Dice
from metatlp.data.demo.languages import LANGUAGES, Language
from metatlp.data.demo.roots import FUNCTION_POS, Root, coin_word, root_of
from metatlp.data.demo.scripts import write
from metatlp.data.demo.stock import ENDINGS, UPOS, VERB_OF_NOUN

NAMES_PER_KIND = 40
# Kind of name -> what half of them end in.
NAME_KINDS = {"first": "a", "last": "es", "place": "dor", "firm": "kor"}
MAX_ATTEMPTS = 200
Reading = tuple[str, tuple[str, ...]]  # a concept and the endings on it


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
    ending), so that a text can be cut in one way only. Where one ending begins as another does,
    it is what follows that tells them apart.

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
            root = root_of(seed, code, concept, attempt)
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
        return characters[: 1 if UPOS[root.concept] in FUNCTION_POS else 2]
    return write(root.sounds, language.script)


def _endings(seed: int, language: Language) -> dict[str, str]:
    """Ending -> its written form; no ending, and no two of them, are written like others."""
    found: dict[str, str] = {}
    for number, ending in enumerate(ENDINGS):
        for attempt in range(MAX_ATTEMPTS):
            written = write(root_of(seed, language.code, ending, attempt).sounds, language.script)
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


def _add_names(lexicon: Lexicon, seed: int, taken: Taken) -> None:
    """The same names everywhere, written in the language's script."""
    for kind, ending in NAME_KINDS.items():
        lexicon.names[kind] = []
        for number in range(NAMES_PER_KIND):
            for attempt in range(MAX_ATTEMPTS):
                dice = Dice(seed, "name", kind, number, attempt)
                name = _name(coin_word(dice) + ending * dice.chance(0.5), lexicon.language.script)
                if not taken.clashes(name):
                    break
            else:
                raise ValueError(f"no free name of kind '{kind}' in {lexicon.language.code}")
            taken.add([name])
            lexicon.names[kind].append(name)


def _name(sounds: str, script: str) -> str:
    written = write(sounds, script)
    return written.capitalize() if script in scripts.CASED else written
