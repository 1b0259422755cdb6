"""What a sentence says, and what follows from it. Knows no language.

The logic is monotone: "some A p" follows from a narrower A or p, "no A p" from a wider one, "every
A p" from a wider A and a narrower p, where everything spoken of exists. A name is a set of one.
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
        negated: only with a name as subject.
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


def _quantifier(clause: Clause) -> str:
    if clause.subject.is_name:
        return "no" if clause.negated else "some"
    return clause.subject.determiner


def _entails(premise: Clause, hypothesis: Clause) -> bool:
    kinds = _quantifier(premise), _quantifier(hypothesis)
    narrower = _within(premise.subject, hypothesis.subject)
    wider = _within(hypothesis.subject, premise.subject)
    if kinds == ("some", "some"):
        return narrower and _says(premise, hypothesis)
    if kinds == ("every", "every"):
        return wider and _says(premise, hypothesis)
    if kinds == ("no", "no"):
        return wider and _says(hypothesis, premise)
    if kinds == ("every", "some"):
        return (narrower or wider) and _says(premise, hypothesis)
    if kinds == ("some", "every"):  # a set of one
        return premise.subject.is_name and wider and _says(premise, hypothesis)
    return False


def _excludes(one: Clause, other: Clause) -> bool:
    """Both cannot be true: `one` denies what `other` says, or gives it the opposite quality."""
    kinds = _quantifier(one), _quantifier(other)
    wider = _within(other.subject, one.subject)
    narrower = _within(one.subject, other.subject)
    if kinds == ("no", "some"):
        return wider and _says(other, one)
    if kinds == ("no", "every"):
        return (wider or narrower) and _says(other, one)
    if one.quality and ANTONYM.get(one.quality) == other.quality:
        same_name = one.subject.is_name and one.subject.head == other.subject.head
        if kinds == ("every", "some"):
            return wider
        if kinds == ("every", "every"):
            return wider or narrower
        return kinds == ("some", "some") and same_name
    return False


def _says(narrow: Clause, wide: Clause) -> bool:
    """Whether what `narrow` says of its subject includes what `wide` says."""
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
    if wide.adjective not in ("", narrow.adjective):
        return False
    if narrow.is_name:
        return narrow.head == wide.head or (
            not wide.is_name and wide.head == "person" and not wide.adjective
        )
    return not wide.is_name and is_a(narrow.head, wide.head)
