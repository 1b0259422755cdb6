"""How much two languages share: written words, and the pieces of a WordPiece tokenizer.

Measures what `languages` promises; no part of the generator. Knows no task but POS, for its texts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from itertools import combinations

from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from metatlp.data.demo.dice import Dice
from metatlp.data.demo.languages import FAMILIES, LANGUAGES
from metatlp.data.demo.lexicon import Lexicon
from metatlp.data.demo.stock import CONTENT
from metatlp.data.demo.tagged import pos_sentence

KINSHIPS = ("siblings", "cousins", "strangers")


def stock(branch: str) -> str:
    """The root of the tree that a family stands in."""
    parent = FAMILIES[branch].parent
    return stock(parent) if parent else branch


def kinship(one: str, other: str) -> str:
    """Of the same family, of the same stock, or of none."""
    families = [LANGUAGES[code].family for code in (one, other)]
    if families[0] == families[1]:
        return "siblings"
    return "cousins" if stock(families[0]) == stock(families[1]) else "strangers"


def shared_words(one: Lexicon, other: Lexicon) -> float:
    """Share of the content words that are written alike."""
    same = [one.form(concept) == other.form(concept) for concept in CONTENT]
    return sum(same) / len(same)


def piece_counts(lexicons: Mapping[str, Lexicon], num_sentences: int) -> dict[str, Counter[str]]:
    """Language -> how often every piece is in its texts, for one tokenizer of all languages."""
    texts = {
        code: [" ".join(pos_sentence(lexicon, dice).words) for _ in range(num_sentences)]
        for code, lexicon in lexicons.items()
        for dice in [Dice(0, "pieces", code)]
    }
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=4000, special_tokens=["[UNK]"], show_progress=False
    )
    tokenizer.train_from_iterator([text for each in texts.values() for text in each], trainer)
    return {
        code: Counter(piece for text in each for piece in tokenizer.encode(text).tokens)
        for code, each in texts.items()
    }


def shared_pieces(one: Counter[str], other: Counter[str]) -> float:
    """The part of the texts that is the same pieces: sum of min(p, q) over pieces, 0 to 1."""
    return sum(min(one[piece] / one.total(), other[piece] / other.total()) for piece in one)


def by_kinship(
    codes: Iterable[str], measure: Callable[[str, str], float]
) -> dict[str, list[float]]:
    """Kinship -> the measure of all pairs of languages in the same script."""
    found: dict[str, list[float]] = {name: [] for name in KINSHIPS}
    for one, other in combinations(codes, 2):
        if LANGUAGES[one].script == LANGUAGES[other].script:
            found[kinship(one, other)].append(measure(one, other))
    return found
