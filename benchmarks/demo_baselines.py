"""What the tasks of the demo grid give to methods that do not understand them, and to the oracle.

    python benchmarks/demo_baselines.py --seed 0

Trains on the training split of every TLP of Table 1 and scores other examples; the table has the
mean over the task's languages.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from metatlp.data.demo.dice import Dice
from metatlp.data.demo.folder import DEFAULT_SCALE
from metatlp.data.demo.lexicon import build_lexicon
from metatlp.data.demo.oracle import Oracle
from metatlp.data.demo.splits import build_splits, split_sizes
from metatlp.engine.arguments.command_line import parse_flags, run_script
from metatlp.engine.arguments.flags import at_least, flag
from metatlp.errors import InputError
from metatlp.grid import PAPER_SIZES, TASK_CODES, TLP
from metatlp.tasks import TASKS
from metatlp.tasks.metrics import answer_scores, mlqa_tokens, scores

MARKS = ".。।?？"
Words = tuple[str, ...]


@dataclass(frozen=True)
class BaselineArguments:
    seed: int = flag("of the grid", 0)
    scale: float = flag("factor on Table 1's training sizes, as in the grid", DEFAULT_SCALE)
    examples: int = flag("scored per TLP", 1000)

    def __post_init__(self) -> None:
        at_least(1, self, "examples")
        if not 0 < self.scale <= 1:
            raise InputError(f"--scale {self.scale}: must be above 0, and at most 1")


@dataclass(frozen=True)
class Data:
    """The two splits of a TLP."""

    tlp: TLP
    train: Sequence
    test: Sequence
    oracle: Oracle

    def words(self, text: str) -> Words:
        """Words where they are written apart, else characters; no marks."""
        kept = "".join(" " if character in MARKS else character for character in text)
        return tuple(kept.split() if self.oracle.lexicon.language.spaces else kept.replace(" ", ""))


def load(tlp: TLP, arguments: BaselineArguments) -> Data:
    lexicon = build_lexicon(tlp.lang, arguments.seed)
    sizes = {"test": arguments.examples, "train": split_sizes(tlp, arguments.scale)["train"]}
    splits = build_splits(lexicon, tlp.task, sizes, arguments.seed)
    return Data(tlp, splits["train"], splits["test"], Oracle(lexicon))


def accuracy(found: Sequence, gold: Sequence) -> float:
    """Share of equal entries."""
    return sum(f == g for f, g in zip(found, gold, strict=True)) / len(gold)


def most_frequent(values: Sequence) -> object:
    return Counter(values).most_common(1)[0][0]


def tag_score(data: Data, tags: Callable[[Words], Sequence[str]]) -> float:
    """Accuracy of words (POS), F1 of entities (NER)."""
    found = [tags(one.words) for one in data.test]
    gold = [one.tags for one in data.test]
    got = scores(TASKS[data.tlp.task].compare(data.tlp, found, gold))
    return got["entity_f1"] if data.tlp.task == "ner" else got["accuracy"]


def majority_tag(data: Data) -> float:
    tag = most_frequent([tag for one in data.train for tag in one.tags])
    return tag_score(data, lambda words: [tag] * len(words))


def tag_of_form(data: Data) -> float:
    """Every word its most frequent tag in training; unknown ones the most frequent tag of all."""
    counts: dict[str, Counter] = defaultdict(Counter)
    for one in data.train:
        for word, tag in zip(one.words, one.tags, strict=True):
            counts[word][tag] += 1
    usual = most_frequent([tag for one in data.train for tag in one.tags])
    best = {word: each.most_common(1)[0][0] for word, each in counts.items()}
    return tag_score(data, lambda words: [best.get(word, usual) for word in words])


def majority_label(data: Data) -> float:
    label = most_frequent([one.label for one in data.train])
    return accuracy([label] * len(data.test), [one.label for one in data.test])


def overlap(data: Data, pair) -> float:
    one, other = set(data.words(pair.first)), set(data.words(pair.second))
    return len(one & other) / len(one | other)


def overlap_alone(data: Data) -> float:
    """The most frequent label among training pairs whose overlap is the same to a tenth."""
    labels: dict[float, list[str]] = defaultdict(list)
    for pair in data.train:
        labels[round(overlap(data, pair), 1)].append(pair.label)
    usual = most_frequent([pair.label for pair in data.train])
    best = {tenth: most_frequent(each) for tenth, each in labels.items()}
    found = [best.get(round(overlap(data, pair), 1), usual) for pair in data.test]
    return accuracy(found, [pair.label for pair in data.test])


def bag(data: Data, pair, parts: str) -> set[str]:
    """Which features a pair has: words of the first, of the second, of both, of one only."""
    one, other = set(data.words(pair.first)), set(data.words(pair.second))
    chosen = {"1": one, "2": other, "&": one & other, "-": one - other, "+": other - one}
    return {f"{part}{word}" for part in parts for word in chosen[part]}


def bag_of_words(parts: str) -> Callable[[Data], float]:
    """Logistic regression on the features of `bag` and the overlap."""

    def score(data: Data) -> float:
        names = sorted({name for pair in data.train for name in bag(data, pair, parts)})
        index = {name: column for column, name in enumerate(names)}
        labels = sorted({pair.label for pair in data.train})

        def inputs(pairs) -> torch.Tensor:
            rows = torch.zeros(len(pairs), len(index) + 1)
            for row, pair in zip(rows, pairs, strict=True):
                row[[index[n] for n in bag(data, pair, parts) if n in index]] = 1.0
                row[-1] = overlap(data, pair) if len(parts) > 1 else 0.0
            return rows

        gold = torch.tensor([labels.index(pair.label) for pair in data.train])
        found = regression(inputs(data.train), gold, inputs(data.test), len(labels))
        return accuracy([labels[i] for i in found.tolist()], [pair.label for pair in data.test])

    return score


def regression(x: torch.Tensor, gold: torch.Tensor, test: torch.Tensor, n: int) -> torch.Tensor:
    """Predicted labels of `test`; weights by L-BFGS on cross entropy + |w|^2 / |train|."""
    weights = torch.zeros(x.shape[1], n, requires_grad=True)
    bias = torch.zeros(n, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights, bias], max_iter=60, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        value = F.cross_entropy(x @ weights + bias, gold) + weights.square().sum() / len(x)
        value.backward()
        return value

    optimizer.step(loss)
    return (test @ weights + bias).argmax(1)


def qa_score(data: Data, answer: Callable) -> float:
    """Token F1 by MLQA's rules."""
    normalise = mlqa_tokens(data.tlp.lang)
    scores = [answer_scores(answer(q), [q.answers[0].text], normalise)[0] for q in data.test]
    return sum(scores) / len(scores)


def join(data: Data, words: Sequence[str]) -> str:
    return (" " if data.oracle.lexicon.language.spaces else "").join(words)


def random_span(data: Data) -> float:
    """As many words as the answer has, anywhere in the context."""
    dice = Dice(0, "random span", data.tlp.lang)

    def answer(question) -> str:
        context, length = data.words(question.context), len(data.words(question.answers[0].text))
        start = dice.below(len(context) - length + 1)
        return join(data, context[start : start + length])

    return qa_score(data, answer)


def usual_part(data: Data) -> float:
    """The most frequent kind of part, of a random fact (the oracle says where it stands)."""
    dice = Dice(0, "usual part", data.tlp.lang)
    oracle = data.oracle

    def answer(question) -> str:
        reader = oracle.reader
        facts = [reader.meaning(words) for words in reader.sentences(question.context)]
        return oracle.span_of(facts, dice.below(len(facts)), "subject").text

    return qa_score(data, answer)


def rest_of_nearest(data: Data) -> float:
    """What the sentence with most of the question's words has besides them, up to three words."""

    def answer(question) -> str:
        asked = set(data.words(question.question))
        sentences = [[]]
        for character in question.context:
            if character in MARKS:
                sentences.append([])
            else:
                sentences[-1].append(character)
        bags = [data.words("".join(each)) for each in sentences]
        nearest = max(bags, key=lambda words: len(asked & set(words)))
        return join(data, [word for word in nearest if word not in asked][:3])

    return qa_score(data, answer)


def oracle_score(data: Data) -> float:
    found = [data.oracle.predict(data.tlp.task, one) for one in data.test]
    return accuracy(found, list(data.test))


PAIRS = (
    ("most frequent label", majority_label),
    ("overlap of words alone", overlap_alone),
    ("words of the second text", bag_of_words("2")),
    ("words of both texts, and the overlap", bag_of_words("12")),
    ("the same, and words of both or one only", bag_of_words("12&-+")),
)
TAGS = (("most frequent tag", majority_tag), ("most frequent tag of the word", tag_of_form))
BASELINES: dict[str, tuple[tuple[str, Callable[[Data], float]], ...]] = {
    "pos": TAGS,
    "ner": TAGS,
    "nli": PAIRS,
    "pa": PAIRS,
    "qa": (
        ("random span of the right length", random_span),
        ("subject of a random fact", usual_part),
        ("rest of the most similar sentence", rest_of_nearest),
    ),
}
METRICS = {"pos": "accuracy", "ner": "F1", "nli": "accuracy", "pa": "accuracy", "qa": "F1"}


def main(argv: Sequence[str]) -> int:
    description = (__doc__ or "").splitlines()[0]
    (arguments,) = parse_flags((BaselineArguments,), lambda given: {}, description, argv)
    print("| task | metric | method | mean | lowest | highest |\n|---|---|---|---|---|---|")
    for task in TASK_CODES:
        tlps = sorted((tlp for tlp in PAPER_SIZES if tlp.task == task), key=lambda tlp: tlp.order)
        grid = [load(tlp, arguments) for tlp in tlps]
        for name, score in (*BASELINES[task], ("oracle", oracle_score)):
            scores = [100 * score(data) for data in grid]
            numbers = (sum(scores) / len(scores), min(scores), max(scores))
            shown = " | ".join(f"{number:.1f}" for number in numbers)
            print(f"| {task.upper()} | {METRICS[task]} | {name} | {shown} |", flush=True)
    return 0


if __name__ == "__main__":
    run_script(main)
