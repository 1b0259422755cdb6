"""What a sentence says, and what follows from it. Knows no language.

A statement says of some, every or no A that it has a property: does something to an O, at a place,
at a time; or has a quality. Everything spoken of exists: in "every A p" and "no A p" there is an A.
A name is one individual, a person. Places and times of an event only narrow it down: "today" is no
contradiction of "often". Kinds are not known to exclude each other, opposite qualities are.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from metatlp.data.demo.stock import ANTONYM, is_a, plain

ENTAILMENT, NEUTRAL, CONTRADICTION = "entailment", "neutral", "contradiction"


@dataclass(frozen=True)
class Phrase:
    """A noun phrase.

    Attributes:
        head: a noun; or a name as `kind:number`, several with spaces between.
        determiner: a, the, some, every, no; or nothing.
        adjective, numeral: a word of the stock, or nothing.
    """

    head: str
    determiner: str = ""
    adjective: str = ""
    numeral: str = ""

    @property
    def is_name(self) -> bool:
        return ":" in self.head


@dataclass(frozen=True)
class Clause:
    """One event or state.

    Attributes:
        verb: `be` in a clause that says of its subject that it has the `quality`.
        place: where it happens; time: when.
        negated: it is not so; where something is to follow from it, only with a name as subject.
        passive: how it is said; no part of what it says.
    """

    subject: Phrase
    verb: str
    object: Phrase | None = None
    place: Phrase | None = None
    time: str = ""
    quality: str = ""
    negated: bool = False
    passive: bool = False

    @property
    def denies(self) -> bool:
        return self.negated or self.subject.determiner == "no"

    @property
    def is_universal(self) -> bool:
        """Whether it is about all of its subject; a name is all of itself."""
        return self.subject.is_name or self.subject.determiner == "every"


def meaning(clause: Clause) -> Clause:
    """The clause without its form: no synonyms, active."""
    return replace(
        clause,
        subject=_plain(clause.subject),
        verb=plain(clause.verb),
        object=_plain(clause.object) if clause.object else None,
        quality=plain(clause.quality),
        passive=False,
    )


def relation(premise: Clause, hypothesis: Clause) -> str:
    """The label of a pair: entailment, contradiction, or neutral."""
    premise, hypothesis = meaning(premise), meaning(hypothesis)
    if _entails(premise, hypothesis):
        return ENTAILMENT
    if _excludes(premise, hypothesis) or _excludes(hypothesis, premise):
        return CONTRADICTION
    return NEUTRAL


def _plain(phrase: Phrase) -> Phrase:
    return replace(phrase, head=plain(phrase.head), adjective=plain(phrase.adjective))


def _entails(premise: Clause, hypothesis: Clause) -> bool:
    """Truth passes from some A to a wider B, from every A and no A to a narrower B."""
    shrinks = _within(hypothesis.subject, premise.subject)
    if premise.denies:
        return hypothesis.denies and shrinks and _says(hypothesis, premise)
    if hypothesis.denies:
        return premise.is_universal and shrinks and _rules_out(premise, hypothesis)
    if not _says(premise, hypothesis):
        return False
    if hypothesis.is_universal:
        return premise.is_universal and shrinks
    # "every A p" holds of the Bs among the As, and there are some.
    return _within(premise.subject, hypothesis.subject) or (premise.is_universal and shrinks)


def _excludes(one: Clause, other: Clause) -> bool:
    """Whether `one` denies what `other` affirms, or gives all its As the opposite quality."""
    if other.denies:
        return False
    clash = _says(other, one) if one.denies else one.is_universal and _rules_out(one, other)
    shared = _within(other.subject, one.subject) or (
        other.is_universal and _within(one.subject, other.subject)
    )
    return clash and shared


def _rules_out(one: Clause, other: Clause) -> bool:
    return bool(one.quality) and ANTONYM.get(one.quality) == other.quality


def _says(narrow: Clause, wide: Clause) -> bool:
    """Whether the property of `narrow` includes that of `wide`."""
    return (
        narrow.verb == wide.verb
        and narrow.quality == wide.quality
        and _optional_within(narrow.object, wide.object)
        and _optional_within(narrow.place, wide.place)
        and wide.time in ("", narrow.time)
    )


def _optional_within(narrow: Phrase | None, wide: Phrase | None) -> bool:
    return wide is None or (narrow is not None and _within(narrow, wide))


def _within(narrow: Phrase, wide: Phrase) -> bool:
    """Whether whatever is `narrow` is `wide`."""
    if wide.is_name:
        return narrow.head == wide.head
    if wide.adjective not in ("", narrow.adjective):
        return False
    return is_a("person" if narrow.is_name else narrow.head, wide.head)
