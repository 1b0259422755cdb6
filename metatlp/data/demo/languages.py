"""The artificial languages: family tree, script, word order, morphology. Knows no word of them.

They carry the codes of real languages because the readers, the metrics and the paper's grid are by
code; each has the script and the rough type of its namesake, and none of its words.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Branch:
    """A node of the family tree.

    Attributes:
        parent: the node it comes from; None for a stock of its own.
        replaced: share of the parent's roots that it replaced by new ones.
        num_changes: sound changes since the parent.
    """

    parent: str | None
    replaced: float = 0.0
    num_changes: int = 0


FAMILIES = {
    "west": Branch(None),
    "germanic": Branch("west", 0.20, 2),
    "romance": Branch("west", 0.20, 2),
    "balkan": Branch("west", 0.25, 3),
    "indic": Branch("west", 0.35, 3),
    "east": Branch(None),
    "uralic": Branch(None),
    "dravidian": Branch(None),
    "semitic": Branch(None),
    "turkic": Branch(None),
    "bantu": Branch(None),
    "austric": Branch(None),
    "tai": Branch(None),
    "koreanic": Branch(None),
}


@dataclass(frozen=True)
class Language:
    """One language's type.

    Attributes:
        code: ISO 639-1, borrowed.
        branch: its own node: parent, lost roots, sound changes.
        script: see scripts.SCRIPTS.
        order: of subject, verb and object.
        adjective_after: the adjective follows its noun.
        postposition: the adposition follows its phrase.
        articles, case, plural: whether it has them; case is an accusative ending.
        verb_agrees, adjective_agrees: in number.
        fronts_questions: the question word comes first.
        spaces: words are written apart.
    """

    code: str
    branch: Branch
    script: str = "latin"
    order: str = "SVO"
    adjective_after: bool = False
    postposition: bool = False
    articles: bool = False
    case: bool = False
    plural: bool = True
    verb_agrees: bool = False
    adjective_agrees: bool = False
    fronts_questions: bool = True
    spaces: bool = True

    @property
    def family(self) -> str:
        """The node of the tree right above it."""
        assert self.branch.parent is not None
        return self.branch.parent


def _leaf(family: str) -> Branch:
    return Branch(family, 0.10, 1)


_GERMANIC: dict[str, Any] = {"branch": _leaf("germanic"), "articles": True, "verb_agrees": True}
_ROMANCE: dict[str, Any] = {
    "branch": _leaf("romance"),
    "articles": True,
    "adjective_after": True,
    "verb_agrees": True,
    "adjective_agrees": True,
}
_SLAVIC: dict[str, Any] = {"branch": _leaf("balkan"), "script": "cyrillic", "verb_agrees": True}
_HEAD_FINAL: dict[str, Any] = {
    "order": "SOV",
    "postposition": True,
    "case": True,
    "fronts_questions": False,
}
_INDIC: dict[str, Any] = {**_HEAD_FINAL, "branch": _leaf("indic"), "verb_agrees": True}
_URALIC: dict[str, Any] = {
    "branch": _leaf("uralic"),
    "postposition": True,
    "case": True,
    "verb_agrees": True,
}
_DRAVIDIAN: dict[str, Any] = {**_HEAD_FINAL, "branch": _leaf("dravidian"), "verb_agrees": True}
_ISOLATING: dict[str, Any] = {"plural": False, "fronts_questions": False}

TRAINING = {
    "en": Language("en", **_GERMANIC),
    "hi": Language("hi", script="devanagari", **_INDIC),
    "es": Language("es", **_ROMANCE),
    "de": Language("de", case=True, **_GERMANIC),
    "fr": Language("fr", **_ROMANCE),
    "zh": Language("zh", _leaf("east"), script="han", spaces=False, **_ISOLATING),
}
# Near: the family and the script (ja: in part) of a training language.
NEAR = {
    "nl": Language("nl", **_GERMANIC),
    "it": Language("it", **_ROMANCE),
    "mr": Language("mr", script="devanagari", **_INDIC),
    "ja": Language("ja", _leaf("east"), script="kana", spaces=False, plural=False, **_HEAD_FINAL),
}
# Related by words and grammar, but in a script of their own.
OTHER_SCRIPT = {
    "bg": Language("bg", articles=True, **_SLAVIC),
    "ru": Language("ru", case=True, **_SLAVIC),
    "el": Language("el", _leaf("balkan"), script="greek", articles=True, verb_agrees=True),
    "bn": Language("bn", script="bengali", **_INDIC),
    "ur": Language("ur", script="arabic", **_INDIC),
}
# Far: a family without a training language.
FAR = {
    "et": Language("et", **_URALIC),
    "fi": Language("fi", adjective_agrees=True, **_URALIC),
    "ta": Language("ta", script="tamil", **_DRAVIDIAN),
    "te": Language("te", script="telugu", **_DRAVIDIAN),
    "ar": Language(
        "ar",
        _leaf("semitic"),
        script="arabic",
        order="VSO",
        adjective_after=True,
        articles=True,
        adjective_agrees=True,
    ),
    "tr": Language("tr", _leaf("turkic"), verb_agrees=True, **_HEAD_FINAL),
    "sw": Language("sw", _leaf("bantu"), adjective_after=True, adjective_agrees=True),
    "vi": Language("vi", _leaf("austric"), adjective_after=True, **_ISOLATING),
    "th": Language(
        "th", _leaf("tai"), script="thai", adjective_after=True, spaces=False, **_ISOLATING
    ),
    "ko": Language("ko", _leaf("koreanic"), script="hangul", plural=False, **_HEAD_FINAL),
}
EXTERNAL = {**NEAR, **OTHER_SCRIPT, **FAR}
LANGUAGES = {**TRAINING, **EXTERNAL}


def lineage(code: str) -> list[tuple[str, Branch]]:
    """(name, branch) from the stock down to the language itself."""
    path = [(code, LANGUAGES[code].branch)]
    while path[0][1].parent is not None:
        parent = path[0][1].parent
        path.insert(0, (parent, FAMILIES[parent]))
    return path
