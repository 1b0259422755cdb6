"""What follows from what, against a model checker that enumerates small worlds.

A statement is about the properties of single individuals, so all that matters of an individual is
to which of the two subjects it belongs and which of the two properties it has. Which combinations
there can be is found by enumerating individuals: a kind, adjectives, qualities, up to two deeds. A
world is a set of such combinations; four are enough for a witness of everything that a pair of
statements says or denies.
"""

from collections.abc import Iterator
from itertools import combinations, product

import pytest

from metatlp.data.demo.dice import Dice
from metatlp.data.demo.inference import statements
from metatlp.data.demo.meaning import Clause, Phrase, meaning, relation
from metatlp.data.demo.stock import ANTONYM, NOUNS, is_a
from metatlp.data.tsv import NLI_LABELS

Combination = tuple[bool, bool, bool, bool]  # in A, in B, has property p, has property q


def adjective_sets(words: set[str]) -> list[frozenset[str]]:
    """All sets of the words without opposites."""
    sets = [
        frozenset(some) for n in range(len(words) + 1) for some in combinations(sorted(words), n)
    ]
    return [some for some in sets if not any(ANTONYM.get(word) in some for word in some)]


def described(phrase: Phrase, kind: str, adjectives: frozenset[str], name: str = "") -> bool:
    """Whether an individual is what the phrase speaks of."""
    if phrase.is_name:
        return phrase.head == name
    return is_a(kind, phrase.head) and adjectives >= {phrase.adjective} - {""}


def kinds_for(*phrases: Phrase) -> list[str]:
    """One noun for every way to be below the phrases' heads or not."""
    patterns = {}
    for noun in NOUNS:
        patterns.setdefault(tuple(is_a(noun, phrase.head) for phrase in phrases), noun)
    return list(patterns.values())


def deeds(one: Clause, other: Clause) -> Iterator[tuple[bool, bool]]:
    """For every possible deed whether it is what each clause says that somebody does."""
    clauses = (one, other)
    objects = [clause.object for clause in clauses]
    words = {phrase.adjective for phrase in objects} - {""}
    for verb, place, time, kind, adjectives in product(
        {clause.verb for clause in clauses},
        {clause.place for clause in clauses} | {None},
        {clause.time for clause in clauses} | {""},
        kinds_for(*objects),
        adjective_sets(words),
    ):
        yield tuple(
            clause.verb == verb
            and clause.place in (None, place)
            and clause.time in ("", time)
            and described(clause.object, kind, adjectives)
            for clause in clauses
        )


def properties(one: Clause, other: Clause) -> set[tuple[bool, bool]]:
    """Which of the two properties an individual can have together, by up to two deeds."""
    single = set(deeds(one, other)) | {(False, False)}
    return {(a or c, b or d) for (a, b), (c, d) in product(single, repeat=2)}


def individuals(one: Clause, other: Clause) -> Iterator[tuple[str, Combination]]:
    """Name, and combination, of everybody that there can be."""
    clauses = (one, other)
    subjects = [clause.subject for clause in clauses]
    qualities = {clause.quality for clause in clauses} - {""}
    adjectives_spoken_of = {subject.adjective for subject in subjects} - {""}
    done = None if qualities else properties(one, other)
    names = {subject.head for subject in subjects if subject.is_name} | {""}
    everyone = [("person", name) if name else (kind, "") for name in names for kind in
                (["person"] if name else kinds_for(*subjects))]  # fmt: skip
    for (kind, name), adjectives in product(
        everyone, adjective_sets(adjectives_spoken_of | qualities)
    ):
        belongs = tuple(described(subject, kind, adjectives, name) for subject in subjects)
        has = done or {tuple(clause.quality in adjectives for clause in clauses)}
        yield from ((name, (*belongs, *both)) for both in has)


def holds(clause: Clause, world: tuple[Combination, ...], number: int) -> bool:
    members = [combination[2 + number] for combination in world if combination[number]]
    if clause.subject.is_name:
        return any(members) != clause.negated
    determiner = clause.subject.determiner
    return {"some": any(members), "every": all(members), "no": not any(members)}[determiner]


def worlds(one: Clause, other: Clause) -> Iterator[tuple[Combination, ...]]:
    """All small worlds in which both subjects exist, and a name is one individual."""
    people = sorted(set(individuals(one, other)))
    names = {name for name, _ in people} - {""}
    for size in range(1, 5):
        for world in combinations(people, size):
            called = [name for name, _ in world if name]
            if sorted(called) == sorted(names):
                combination = tuple(c for _, c in world)
                if all(any(c[number] for c in combination) for number in (0, 1)):
                    yield combination


def checked(one: Clause, other: Clause) -> str:
    """The relation by the definition: truth of the second in all worlds of the first."""
    truths = {holds(other, world, 1) for world in worlds(one, other) if holds(one, world, 0)}
    assert truths, "the first statement is true in no world"
    return {(True,): "entailment", (False,): "contradiction"}.get(tuple(truths), "neutral")


def pairs(wanted: str, count: int) -> Iterator[tuple[Clause, Clause]]:
    dice = Dice(5, "worlds", wanted)
    yield from (statements(wanted, dice) for _ in range(count))


@pytest.mark.parametrize("wanted", NLI_LABELS)
def test_labels_are_true_in_every_small_world(wanted):
    for premise, hypothesis in pairs(wanted, 120):
        assert checked(premise, hypothesis) == wanted, (premise, hypothesis)


def test_the_relation_of_pairs_in_the_other_direction_too():
    for wanted in NLI_LABELS:
        for premise, hypothesis in pairs(wanted, 60):
            assert relation(hypothesis, premise) == checked(hypothesis, premise)


def test_worked_pairs():
    dog, animal = Phrase("dog", "some"), Phrase("animal", "some")
    seen = Clause(dog, "see", Phrase("cat", "a"), Phrase("market", "the"))
    wider = Clause(animal, "see", Phrase("animal", "a"))
    assert relation(seen, wider) == "entailment"
    assert relation(wider, seen) == "neutral"
    none = Clause(Phrase("animal", "no"), "see", Phrase("cat", "a"))
    assert relation(none, seen) == "contradiction" == relation(seen, none)
    every_old = Clause(Phrase("person", "every"), "be", quality="old")
    name_new = Clause(Phrase("first:3"), "be", quality="new")
    assert relation(every_old, name_new) == "contradiction"
    assert relation(every_old, Clause(Phrase("first:3"), "be", quality="new", negated=True)) == (
        "entailment"
    )
    assert relation(Clause(dog, "be", quality="old"), Clause(dog, "be", quality="new")) == "neutral"


def test_form_is_no_part_of_the_meaning():
    clause = Clause(Phrase("hound", "the", "large"), "spot", Phrase("kid", "the"), passive=True)
    plain = Clause(Phrase("dog", "the", "big"), "see", Phrase("child", "the"))
    assert meaning(clause) == plain
