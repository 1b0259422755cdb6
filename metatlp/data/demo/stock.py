"""The shared stock of concepts: what the artificial languages have words for.

A concept is named by an English word, whose form plays no part. Knows no language and no sound.
"""

from __future__ import annotations

# Noun -> its hypernym; the roots are not in it.
HYPERNYM = {
    "dog": "animal",
    "cat": "animal",
    "horse": "animal",
    "goat": "animal",
    "duck": "bird",
    "crow": "bird",
    "bird": "animal",
    "teacher": "person",
    "doctor": "person",
    "farmer": "person",
    "child": "person",
    "student": "person",
    "apple": "fruit",
    "pear": "fruit",
    "plum": "fruit",
    "fruit": "food",
    "bread": "food",
    "rice": "food",
    "cheese": "food",
    "hammer": "tool",
    "knife": "tool",
    "rope": "tool",
    "bucket": "tool",
    "boat": "vehicle",
    "cart": "vehicle",
    "sled": "vehicle",
}
CREATURES = ("dog", "cat", "horse", "goat", "duck", "crow", "bird", "animal")
PEOPLE = ("teacher", "doctor", "farmer", "child", "student", "person")
THINGS = tuple(
    noun for noun in (*HYPERNYM, "food", "tool", "vehicle") if noun not in (*CREATURES, *PEOPLE)
)
NOUNS = (*CREATURES, *PEOPLE, *THINGS)
PLACES = ("market", "river", "forest", "school", "garden", "bridge", "station", "village")

VERBS = ("see", "find", "take", "carry", "wash", "draw", "want", "sell", "push", "hide")
ADJECTIVES = ("big", "small", "old", "new", "clean", "dirty", "red", "blue", "heavy", "light")
ANTONYM = {
    one: other
    for pair in (("big", "small"), ("old", "new"), ("clean", "dirty"), ("heavy", "light"))
    for one, other in (pair, pair[::-1])
}
# Two words for one meaning: a synonym means what its key means.
SYNONYM = {
    "see": "spot",
    "take": "grab",
    "find": "discover",
    "want": "desire",
    "dog": "hound",
    "doctor": "physician",
    "child": "kid",
    "boat": "ship",
    "big": "large",
    "dirty": "filthy",
}
MEANING_OF = {synonym: concept for concept, synonym in SYNONYM.items()}
# A verb made from a noun without a suffix ("hammer" - "to hammer"): one form with two tags.
VERB_OF_NOUN = {"hammer": "hammering", "rope": "roping", "boat": "boating"}

TIMES = ("today", "yesterday", "daily", "often", "soon", "at_night")
ADVERBS = ("slowly", "quietly", "gladly", "well")
NUMERALS = ("two", "three", "four", "five", "six", "seven")
PRONOUNS = {"singular": ("he", "she"), "plural": ("they", "we")}
INTERJECTIONS = ("oh", "yes")
FUNCTION_WORDS = {
    "a": "DET",
    "the": "DET",
    "some": "DET",
    "every": "DET",
    "no": "DET",
    "in": "ADP",
    "by": "ADP",
    "with": "ADP",
    "be": "AUX",
    "was_done": "AUX",
    "will": "AUX",
    "not": "PART",
    "and": "CCONJ",
    "because": "SCONJ",
    "who": "PRON",
    "what": "PRON",
    "where": "ADV",
    "when": "ADV",
}
# Endings: plural noun, accusative, past, agreement of the verb and the adjective, participle.
ENDINGS = ("plural", "accusative", "past", "verb_agreement", "adjective_agreement", "participle")

# Words that make a name one of an organisation or of a place.
ORG_NOUNS = ("bank", "company", "university", "club")
LOC_NOUNS = ("lake", "mount", "city")

CONTENT = {
    **dict.fromkeys((*NOUNS, *PLACES), "NOUN"),
    **dict.fromkeys((*VERBS, *VERB_OF_NOUN.values()), "VERB"),
    **dict.fromkeys(ADJECTIVES, "ADJ"),
    **dict.fromkeys((*TIMES, *ADVERBS), "ADV"),
    **dict.fromkeys(NUMERALS, "NUM"),
    **dict.fromkeys(INTERJECTIONS, "INTJ"),
}
UPOS = {
    **CONTENT,
    **{synonym: CONTENT[concept] for concept, synonym in SYNONYM.items()},
    **dict.fromkeys((*PRONOUNS["singular"], *PRONOUNS["plural"]), "PRON"),
    **FUNCTION_WORDS,
    **dict.fromkeys((*ORG_NOUNS, *LOC_NOUNS), "PROPN"),
}


def ancestors(noun: str) -> tuple[str, ...]:
    """A noun's hypernyms, nearest first."""
    above = []
    while noun in HYPERNYM:
        noun = HYPERNYM[noun]
        above.append(noun)
    return tuple(above)


def is_a(noun: str, other: str) -> bool:
    """Whether every `noun` is an `other`."""
    return noun == other or other in ancestors(noun)


def plain(word: str) -> str:
    """The concept that a word means: the word itself, or what it is a synonym of."""
    return MEANING_OF.get(word, word)
