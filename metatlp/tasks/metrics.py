"""Scores over plain Python values; sums per example come first, so that sets can be resampled.

A metric is the mean over labels of (sum of numerators) / (sum of denominators); accuracy, F1 over
spans and the scores of answers have one label. `terms` below are float64 (N, L, 2): numerator and
denominator of every example and label.

Answers are normalised by language as MLQA's evaluation does (Lewis et al. 2020, "MLQA: Evaluating
Cross-lingual Extractive Question Answering", and the behaviour of its published script), and as
SQuAD v1.1's does (Rajpurkar et al. 2016). Knows no tokenizer and no model.

Shapes: N examples, L labels of a metric, U units that are compared (words or pairs).
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache

import numpy as np

from metatlp.errors import InputError
from metatlp.grid import TLP

Terms = dict[str, np.ndarray]

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


def value(sums: np.ndarray) -> np.ndarray:
    """mean over the labels with a denominator of numerator / denominator; 0 if none has one.

    Args:
        sums: (..., L, 2), terms summed over examples.

    Returns:
        (...) float64 in 0..1.
    """
    there = sums[..., 1] > 0
    ratios = np.divide(sums[..., 0], sums[..., 1], out=np.zeros(there.shape), where=there)
    return ratios.sum(-1) / np.maximum(1, there.sum(-1))


def scores(terms: Mapping[str, np.ndarray]) -> dict[str, float]:
    """The value of every metric over all examples, and how many examples were scored.

    `words` is there too where an example is scored in several units, that is in tagging. Both
    numbers are those of the first metric, the task's headline.
    """
    units = next(iter(terms.values()))[..., 1].sum(-1)
    found = {name: float(value(each.sum(0))) for name, each in terms.items()}
    several = {"words": int(units.sum())} if (units > 1).any() else {}
    return {**found, **several, "examples": int(np.count_nonzero(units))}


def accuracy_terms(
    example: np.ndarray, found: np.ndarray, gold: np.ndarray, num: int
) -> np.ndarray:
    """(num, 1, 2): equal units and all units of each example.

    Args:
        example: (U,) the example of each unit.
        found, gold: (U,) label numbers.
        num: examples.
    """
    return _by_example(example, (found == gold, np.ones(len(found))), num)


def macro_f1_terms(
    example: np.ndarray, found: np.ndarray, gold: np.ndarray, num: int, num_labels: int
) -> np.ndarray:
    """(num, num_labels, 2): 2 * hits and found + gold of each label.

    Labels that are neither found nor in the gold data have no denominator and so take no part, as
    in scikit-learn's f1_score(average="macro"). Arguments as in `accuracy_terms`.
    """

    def counts(labels: np.ndarray, units: np.ndarray | slice = slice(None)) -> np.ndarray:
        cells = example[units] * num_labels + labels[units]
        return np.bincount(cells, minlength=num * num_labels).reshape(num, num_labels)

    hits = counts(gold, np.flatnonzero(found == gold))
    return np.stack([2 * hits, counts(found) + counts(gold)], axis=-1).astype(np.float64)


def entity_f1_terms(
    example: np.ndarray, found: np.ndarray, gold: np.ndarray, num: int, labels: Sequence[str]
) -> np.ndarray:
    """(num, 1, 2): 2 * common spans and found + gold spans of each sentence.

    Spans are (sentence, type, first word, last word) by the rules of CoNLL's conlleval and of
    seqeval: an I- without its like before it begins a span too.

    Args:
        labels: `O`, `B-...` and `I-...`; other arguments as in `accuracy_terms`, in word order.
    """
    last_found, kind_found = _spans(example, found, labels)
    last_gold, kind_gold = _spans(example, gold, labels)
    begins = (last_found >= 0).astype(np.float64) + (last_gold >= 0)
    common = (last_found >= 0) & (last_found == last_gold) & (kind_found == kind_gold)
    return _by_example(example, (2 * common, begins), num)


def _spans(
    example: np.ndarray, numbers: np.ndarray, labels: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """(U,) last word of the span that begins at each word, -1 where none does; (U,) its type."""
    kinds = sorted({label[2:] for label in labels})
    kind = np.array([kinds.index(label[2:]) for label in labels], dtype=np.int64)[numbers]
    outside = np.array([label == "O" for label in labels], dtype=bool)[numbers]
    begin = np.array([label[0] == "B" for label in labels], dtype=bool)[numbers]
    # `O` is a type of its own: the empty one.
    changes = (np.diff(kind, prepend=-1) != 0) | (np.diff(example, prepend=-1) != 0)
    starts = ~outside & (begin | changes)
    edges = np.append(np.flatnonzero(starts | changes), len(numbers))
    last = np.full(len(numbers), -1, dtype=np.int64)
    last[edges[:-1]] = np.where(starts[edges[:-1]], edges[1:] - 1, -1)
    return last, kind


def _by_example(example: np.ndarray, parts: Iterable[np.ndarray], num: int) -> np.ndarray:
    sums = [np.bincount(example, weights=part, minlength=num) for part in parts]
    return np.stack(sums, axis=-1)[:, None, :]


def label_numbers(tlp: TLP, names: Iterable[str], labels: Sequence[str]) -> np.ndarray:
    """(U,) int64. Raises InputError for a name that is no label."""
    number = {label: i for i, label in enumerate(labels)}
    try:
        return np.array([number[name] for name in names], dtype=np.int64)
    except KeyError as error:
        raise InputError(f"{tlp}: no label {error}; choose from {', '.join(labels)}") from None


def answer_terms(tlp: TLP, found: Sequence[str | None], gold: Sequence[Sequence[str]]) -> Terms:
    """`f1` and `em` by MLQA's normalisation, `squad_f1` and `squad_em` by SQuAD's; (N, 1, 2).

    Args:
        tlp: says the language of MLQA's normalisation.
        found: an answer per question, None for one without.
        gold: the right answers of each question; the best one counts.

    Raises:
        InputError: a question without a right answer.
    """
    names = ("f1", "em", "squad_f1", "squad_em")
    terms = np.zeros((len(names), len(found), 1, 2))
    mlqa = mlqa_tokens(tlp.lang)
    for i, (text, golds) in enumerate(zip(found, gold, strict=True)):
        if not golds:
            raise InputError(f"{tlp}: question {i + 1} has no right answer")
        if text is not None:
            both = *answer_scores(text, golds, mlqa), *answer_scores(text, golds, squad_tokens)
            terms[:, i, 0, 0], terms[:, i, 0, 1] = both, 1.0
    return dict(zip(names, terms, strict=True))


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
