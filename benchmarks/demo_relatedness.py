"""How much the demo's languages share: roots, sounds, written words, and word pieces.

    python benchmarks/demo_relatedness.py --num-seeds 3

Measures what the family tree of `metatlp/data/demo/languages.py` promises. Knows no model, and no
task but POS, for its texts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean

from demo_runs.report import GROUPS
from results_file import table

from metatlp.data.demo.dice import Dice
from metatlp.data.demo.languages import FAMILIES, LANGUAGES, TRAINING
from metatlp.data.demo.lexicon import Lexicon, build_lexicon
from metatlp.data.demo.roots import Root, root_of
from metatlp.data.demo.stock import CONTENT, VERB_OF_NOUN
from metatlp.data.demo.tagged import pos_sentence
from metatlp.engine.arguments.command_line import parse_flags, run_script
from metatlp.engine.arguments.flags import at_least, flag
from metatlp.model.demo_tokenizer import train_tokenizer

KINSHIPS = {"siblings": "same family", "cousins": "same stock", "strangers": "strangers"}
MEASURES = ("same root", "same sounds", "written alike", "word pieces in common")
# A measure of two languages, 0 to 1.
Measure = Callable[[str, str], float]


@dataclass(frozen=True)
class RelatednessArguments:
    num_seeds: int = flag("families of languages to take the mean over: seeds 0, 1, ...", 3)
    sentences: int = flag("POS sentences per language, for the word pieces", 300)

    def __post_init__(self) -> None:
        at_least(1, self, "num_seeds", "sentences")


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


def content_roots(code: str, seed: int) -> list[Root]:
    """The root of every content word, before it is written in the language's script."""
    made_from = {verb: noun for noun, verb in VERB_OF_NOUN.items()}
    return [root_of(seed, code, made_from.get(concept, concept)) for concept in CONTENT]


def shared_roots(one: Sequence[Root], other: Sequence[Root]) -> float:
    """Share of the content words that come from one ancestor, however they sound today."""
    return fmean(a.origin == b.origin for a, b in zip(one, other, strict=True))


def shared_sounds(one: Sequence[Root], other: Sequence[Root]) -> float:
    """Share of the content words that would be written alike if both had the same script."""
    return fmean(a.sounds == b.sounds for a, b in zip(one, other, strict=True))


def shared_words(one: Lexicon, other: Lexicon) -> float:
    """Share of the content words that are written alike."""
    return fmean(one.form(concept) == other.form(concept) for concept in CONTENT)


def piece_counts(lexicons: Mapping[str, Lexicon], num_sentences: int) -> dict[str, Counter[str]]:
    """Language -> how often every piece is in its texts, for a tokenizer like the encoder's."""
    texts = {
        code: [" ".join(pos_sentence(lexicon, dice).words) for _ in range(num_sentences)]
        for code, lexicon in lexicons.items()
        for dice in [Dice(0, "pieces", code)]
    }
    tokenizer = train_tokenizer([text for each in texts.values() for text in each], 4000)
    return {
        code: Counter(piece for text in each for piece in tokenizer.tokenize(text))
        for code, each in texts.items()
    }


def shared_pieces(one: Counter[str], other: Counter[str]) -> float:
    """The part of the texts that is the same pieces: sum of min(p, q) over pieces, 0 to 1."""
    return sum(min(one[piece] / one.total(), other[piece] / other.total()) for piece in one)


def by_kinship(codes: Iterable[str], measure: Measure) -> dict[str, list[float]]:
    """Kinship -> the measure of all pairs of languages in the same script."""
    found: dict[str, list[float]] = {name: [] for name in KINSHIPS}
    for one, other in combinations(codes, 2):
        if LANGUAGES[one].script == LANGUAGES[other].script:
            found[kinship(one, other)].append(measure(one, other))
    return found


def to_training(code: str, measure: Measure) -> float:
    """The largest measure of a language and one that is trained on."""
    return max(measure(code, other) for other in TRAINING)


def measures(seed: int, num_sentences: int) -> dict[str, Measure]:
    """MEASURES of one family of languages."""
    roots = {code: content_roots(code, seed) for code in LANGUAGES}
    lexicons = {code: build_lexicon(code, seed) for code in LANGUAGES}
    pieces = piece_counts(lexicons, num_sentences)
    found: tuple[Measure, ...] = (
        lambda a, b: shared_roots(roots[a], roots[b]),
        lambda a, b: shared_sounds(roots[a], roots[b]),
        lambda a, b: shared_words(lexicons[a], lexicons[b]),
        lambda a, b: shared_pieces(pieces[a], pieces[b]),
    )
    return dict(zip(MEASURES, found, strict=True))


def main(argv: Sequence[str]) -> int:
    description = (__doc__ or "").splitlines()[0]
    (arguments,) = parse_flags((RelatednessArguments,), lambda given: {}, description, argv)
    seeds = [measures(seed, arguments.sentences) for seed in range(arguments.num_seeds)]
    print(f"Seeds 0 to {len(seeds) - 1}; mean over seeds and pairs in the same script:\n")
    kin = [{name: by_kinship(LANGUAGES, m) for name, m in of.items()} for of in seeds]
    rows = [
        [title, *(f"{fmean(fmean(of[name][key]) for of in kin):.2f}" for name in MEASURES)]
        for key, title in KINSHIPS.items()
    ]
    print("\n".join(table(["pair", *MEASURES], rows)))
    print("\nWith the training language that shares most; mean over seeds and languages:\n")
    rows = [
        [
            f"{group}: {' '.join(codes)}",
            *(
                f"{fmean(to_training(code, of[name]) for of in seeds for code in codes):.2f}"
                for name in MEASURES
            ),
        ]
        for group, codes in GROUPS.items()
    ]
    print("\n".join(table(["languages", *MEASURES], rows)))
    return 0


if __name__ == "__main__":
    run_script(main)
