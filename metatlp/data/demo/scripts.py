"""Writing systems: from the sounds of a word to code points. Knows no language and no meaning.

Sounds are the letters of CONSONANTS and VOWELS; a word is a string of them in syllables C? V C?.
"""

from __future__ import annotations

import re

CONSONANTS = "ptkbdgmnslrfvh"
VOWELS = "aeiou"
SYLLABLE = re.compile(rf"([{CONSONANTS}]?)([{VOWELS}])((?:[{CONSONANTS}](?![{VOWELS}]))?)")

# Scripts with a letter for each sound, in the order of CONSONANTS and VOWELS.
_ALPHABETS = {
    "latin": (CONSONANTS, VOWELS),
    "cyrillic": ("пткбдгмнслрфвх", "аэиоу"),
    "greek": ("πτκβδγμνσλρφξχ", "αειοω"),
    "arabic": ("پتکبدگمنسلرفڤه", "اېيۆو"),
}
# Scripts that write a vowel as a sign on the consonant before it: consonants, signs, and letters of
# vowels that begin a syllable. A consonant without a sign closes the syllable.
_ABUGIDAS = {
    "devanagari": ("पतकबदगमनसलरफवह", ["ा", "े", "ि", "ो", "ु"], "आएइओउ"),
    "bengali": ("পতকবদগমনসলরফভহ", ["া", "ে", "ি", "ো", "ু"], "আএইওউ"),
    "telugu": ("పతకబదగమనసలరఫవహ", ["ా", "ే", "ి", "ో", "ు"], "ఆఏఇఓఉ"),
    "tamil": ("பதகஜடஙமநசலரஷவஹ", ["ா", "ே", "ி", "ோ", "ு"], "ஆஏஇஓஉ"),
    "thai": ("ปตกบดงมนสลรฟวห", ["า", "ี", "ิ", "ๅ", "ุ"], "าีิๅุ"),
}
_KANA = {
    "": "アエイオウ",
    "k": "カケキコク",
    "g": "ガゲギゴグ",
    "s": "サセシソス",
    "t": "タテチトツ",
    "d": "ダデヂドヅ",
    "n": "ナネニノヌ",
    "h": "ハヘヒホフ",
    "b": "バベビボブ",
    "p": "パペピポプ",
    "m": "マメミモム",
    "r": "ラレリロル",
}
_KANA_ROW = {"l": "r", "f": "h", "v": "b"}
_HANGUL_INITIAL = dict(
    zip(CONSONANTS, (17, 16, 15, 7, 3, 0, 6, 2, 9, 5, 5, 18, 8, 18), strict=True)
)
_HANGUL_VOWEL = dict(zip(VOWELS, (0, 5, 20, 8, 13), strict=True))
_HANGUL_FINAL = dict(
    zip(CONSONANTS, (26, 25, 24, 17, 7, 1, 16, 4, 19, 8, 8, 26, 17, 27), strict=True)
)
_HANGUL_SILENT = 11
SCRIPTS = (*_ALPHABETS, *_ABUGIDAS, "kana", "hangul", "han")
CASED = ("latin", "cyrillic", "greek")
FULL_STOP = {
    "han": "。",
    "kana": "。",
    "devanagari": "।",
    "bengali": "।",
    "arabic": "۔",
}
QUESTION_MARK = {"han": "？", "kana": "？", "arabic": "؟"}


def write(sounds: str, script: str) -> str:
    """The word in the script; some scripts write two sounds alike.

    Raises:
        ValueError: unknown script.
    """
    if script in _ALPHABETS:
        return sounds.translate(_letters(*_ALPHABETS[script]))
    if script in _ABUGIDAS:
        return "".join(_with_signs(match, *_ABUGIDAS[script]) for match in _syllables(sounds))
    if script not in SCRIPTS:
        raise ValueError(f"unknown script '{script}'; one of {', '.join(SCRIPTS)}")
    sign = {"kana": _kana, "hangul": _hangul, "han": _han_of_syllable}[script]
    return "".join(sign(*match.groups()) for match in _syllables(sounds))


def han(index: int) -> str:
    """The two characters of the root with this number: Han writes meaning, not sound."""
    return chr(0x4E00 + 5 * (2 * index)) + chr(0x4E00 + 5 * (2 * index + 1))


def _syllables(sounds: str) -> list[re.Match[str]]:
    return list(SYLLABLE.finditer(sounds))


def _letters(consonants: str, vowels: str) -> dict[int, str]:
    return dict(zip(map(ord, CONSONANTS + VOWELS), consonants + vowels, strict=True))


def _with_signs(match: re.Match[str], consonants: str, signs: list[str], initial: str) -> str:
    first, vowel, final = match.groups()
    place = VOWELS.index(vowel)
    onset = consonants[CONSONANTS.index(first)] + signs[place] if first else initial[place]
    return onset + (consonants[CONSONANTS.index(final)] if final else "")


def _kana(first: str, vowel: str, final: str) -> str:
    row = _KANA[_KANA_ROW.get(first, first)]
    return row[VOWELS.index(vowel)] + _kana_closing(final)


def _kana_closing(final: str) -> str:
    if final in ("n", "m"):
        return "ン"
    return _KANA[_KANA_ROW.get(final, final)][-1] if final else ""


def _hangul(first: str, vowel: str, final: str) -> str:
    initial = _HANGUL_INITIAL[first] if first else _HANGUL_SILENT
    closing = _HANGUL_FINAL[final] if final else 0
    return chr(0xAC00 + (initial * 21 + _HANGUL_VOWEL[vowel]) * 28 + closing)


def _han_of_syllable(first: str, vowel: str, final: str) -> str:
    sounds = (" " + CONSONANTS).index(first or " "), (" " + CONSONANTS).index(final or " ")
    return chr(0x7000 + 2 * ((sounds[0] * 15 + sounds[1]) * 5 + VOWELS.index(vowel)))
