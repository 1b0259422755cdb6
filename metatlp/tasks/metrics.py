"""Scores over plain Python values, as fractions in 0..1.

Answers are normalised by language as MLQA's evaluation does (Lewis et al. 2020, "MLQA: Evaluating
Cross-lingual Extractive Question Answering", and the behaviour of its published script), and as
SQuAD v1.1's does (Rajpurkar et al. 2016). Knows no tokenizer and no model.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache

# The words MLQA removes; languages that are not listed have none.
ARTICLES = {
    "en": r"\b(a|an|the)\b",
    "es": r"\b(un|una|unos|unas|el|la|los|las)\b",
    "de": r"\b(ein|eine|einen|einem|eines|einer|der|die|das|den|dem|des)\b",
    "vi": r"\b(của|là|cái|chiếc|những)\b",
    # The article is written as one word with its noun. MLQA removes these letters wherever they
    # stand, inside words too; published numbers are computed so.
    "ar": "ال",
}
# Written without blanks: every character of these classes is a token of its own. Chinese as in
# MLQA; Japanese, which MLQA does not have, adds its two syllabaries.
CHARACTERS = {"zh": "[\u4e00-\u9fa5]", "ja": "[\u4e00-\u9fa5\u3040-\u30ff]"}

Normalise = Callable[[str], list[str]]


def accuracy(found: Sequence, gold: Sequence) -> float:
    """Share of equal entries."""
    return sum(f == g for f, g in zip(found, gold, strict=True)) / max(1, len(gold))


def macro_f1(found: Sequence, gold: Sequence) -> float:
    """Mean over the labels that occur in `gold` of 2 tp / (found + gold)."""
    hits = Counter(g for f, g in zip(found, gold, strict=True) if f == g)
    num_found, num_gold = Counter(found), Counter(gold)
    scores = [2 * hits[label] / (num_found[label] + num_gold[label]) for label in num_gold]
    return sum(scores) / max(1, len(scores))


def entity_f1(found: Sequence[Sequence[str]], gold: Sequence[Sequence[str]]) -> float:
    """F1 over (sentence, type, first word, last word), as CoNLL's conlleval counts them."""
    spans_found = {(i, *span) for i, tags in enumerate(found) for span in entities(tags)}
    spans_gold = {(i, *span) for i, tags in enumerate(gold) for span in entities(tags)}
    return 2 * len(spans_found & spans_gold) / max(1, len(spans_found) + len(spans_gold))


def entities(tags: Sequence[str]) -> list[tuple[str, int, int]]:
    """(type, first word, last word) of each; an I- without its like before it begins one too."""
    spans: list[tuple[str, int, int]] = []
    before = "O"
    for i, tag in enumerate(tags):
        kind = tag[2:]
        if tag != "O" and (tag[0] == "B" or before[2:] != kind):
            spans.append((kind, i, i))
        elif tag != "O":
            spans[-1] = (kind, spans[-1][1], i)
        before = tag
    return spans


def answer_scores(found: str, gold: Sequence[str], normalise: Normalise) -> tuple[float, float]:
    """(F1, exact match) of one answer: the best over the gold answers."""
    tokens = normalise(found)
    golds = [normalise(text) for text in gold]
    return (
        max(token_f1(tokens, other) for other in golds),
        float(any(tokens == other for other in golds)),
    )


def token_f1(found: Sequence[str], gold: Sequence[str]) -> float:
    """2 |common| / (|found| + |gold|) over bags of tokens; 0 where nothing is common."""
    common = sum((Counter(found) & Counter(gold)).values())
    return 2 * common / max(1, len(found) + len(gold))


def mlqa_tokens(lang: str) -> Normalise:
    """MLQA's normalisation: lower case, no Unicode punctuation, no articles, then tokens."""
    articles = re.compile(ARTICLES[lang]) if lang in ARTICLES else None
    characters = re.compile(f"({CHARACTERS[lang]})") if lang in CHARACTERS else None

    def normalise(text: str) -> list[str]:
        text = "".join(c for c in text.lower() if not _is_punctuation(c))
        if articles:
            text = articles.sub(" ", text)
        if characters:
            text = characters.sub(r" \1 ", text)
        return text.split()

    return normalise


def squad_tokens(text: str) -> list[str]:
    """SQuAD v1.1's normalisation, whatever the language: ASCII punctuation, English articles."""
    text = "".join(c for c in text.lower() if c not in string.punctuation)
    return re.sub(ARTICLES["en"], " ", text).split()


@lru_cache(maxsize=65536)
def _is_punctuation(character: str) -> bool:
    return unicodedata.category(character).startswith("P") or character in string.punctuation
