"""From a written sentence back to its meaning, by synthesis: the inverse of `grammar`.

The text is cut into known words; every meaning that can be built of their concepts is realised,
and those whose text is the given one are what the sentence means. One must remain. Reads only the
text; knows no task.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import permutations, product

from metatlp.data.demo import grammar
from metatlp.data.demo.lexicon import Lexicon
from metatlp.data.demo.meaning import Clause, Phrase
from metatlp.data.demo.stock import PLACES, TIMES, UPOS

_NOTHING = Phrase("person")  # where a question asks; no word of it is written


class Reader:
    """Reads the sentences of one language."""

    def __init__(self, lexicon: Lexicon):
        self.lexicon = lexicon
        self._name_of = {
            written: f"{kind}:{number}"
            for kind, names in lexicon.names.items()
            for number, written in enumerate(names)
        }
        self._marks = {grammar.punctuation(mark, lexicon).text for mark in ".?"}
        forms = (*lexicon.readings, *self._name_of, *self._marks)
        self._known = frozenset(forms)
        self._longest = max(map(len, forms))

    def sentences(self, text: str) -> list[list[str]]:
        """The words of every sentence of a text, without the marks at the ends.

        Raises:
            ValueError: something in the text is no word of the language.
        """
        found: list[list[str]] = [[]]
        for word in self._words(text):
            if word in self._marks:
                found.append([])
            else:
                found[-1].append(word)
        return [words for words in found if words]

    def meaning(self, words: list[str], asked: str = "") -> Clause:
        """The one meaning of a sentence, with the words that it uses.

        Args:
            asked: the part that a question asks for; or nothing.

        Raises:
            ValueError: there is no meaning, or more than one.
        """
        found = {
            clause
            for clause in self._candidates(words, asked)
            if [word.text for word in grammar.realise(clause, self.lexicon, asked)] == words
        }
        if asked == "time":  # the tense leaves several times open
            found = {replace(clause, time="") for clause in found}
        if len(found) != 1:
            raise ValueError(f"{len(found)} meanings of {' '.join(words)}: {found}")
        return found.pop()

    def concepts(self, word: str) -> set[str]:
        """What the word can be: concepts of the stock, or one name as `kind:number`."""
        if word in self._name_of:
            return {self._name_of[word]}
        return {concept for concept, _ in self.lexicon.readings.get(word, [])}

    def _words(self, text: str) -> list[str]:
        """The cut of the text into known words, the longest possible one first.

        Without spaces a word and an ending can be taken for the same word with a longer ending,
        until what is left is no word: then a shorter one is tried.
        """
        stuck = 0

        def cut(at: int) -> list[str] | None:
            nonlocal stuck
            while text[at : at + 1] == " ":
                at += 1
            if at == len(text):
                return []
            for end in range(min(at + self._longest, len(text)), at, -1):
                if self._is_word(text, at, end) and (rest := cut(end)) is not None:
                    return [text[at:end], *rest]
            stuck = max(stuck, at)
            return None

        words = cut(0)
        if words is None:
            raise ValueError(f"no word of the language begins {text[stuck : stuck + 12]!r}")
        return words

    def _is_word(self, text: str, at: int, end: int) -> bool:
        if text[at:end] not in self._known:
            return False
        ends = not self.lexicon.language.spaces or text[at:end] in self._marks
        return ends or text[end : end + 1] in ("", " ", *self._marks)

    def _candidates(self, words: list[str], asked: str) -> Iterator[Clause]:
        for concepts in product(*(sorted(self.concepts(word)) for word in words)):
            yield from _clauses(concepts, asked)


def _clauses(concepts: tuple[str, ...], asked: str) -> Iterator[Clause]:
    """Every clause that these words in this order might say."""
    there = set(concepts)
    arguments, place = _phrases(concepts)
    verbs = [word for word in concepts if UPOS.get(word) == "VERB"]
    base = Clause(
        subject=_NOTHING,
        verb=verbs[0] if verbs else "be",
        object=_NOTHING if asked == "object" else None,
        place=place,
        negated="not" in there,
        passive="was_done" in there,
    )
    qualities = [word for word in concepts if UPOS.get(word) == "ADJ"] if "be" in there else [""]
    times = TIMES if asked == "time" else [word for word in concepts if word in TIMES] or [""]
    for clause in _with_roles(base, arguments, there, asked):
        for time, quality in product(times, qualities):
            yield replace(clause, time=time, quality=quality)


def _with_roles(
    base: Clause, arguments: list[list[Phrase]], there: set[str], asked: str
) -> Iterator[Clause]:
    """Either argument is the subject, but for the one that is asked for."""
    roles = [role for role in ("subject", "object") if role != asked]
    for order in permutations(roles, len(arguments)):
        for chosen in product(*arguments):
            given = dict(zip(order, chosen, strict=True))
            subject = _quantified(given.get("subject", base.subject), there)
            yield replace(base, subject=subject, object=given.get("object", base.object))


def _phrases(concepts: tuple[str, ...]) -> tuple[list[list[Phrase]], Phrase | None]:
    """For every argument the phrases that it might be; and the place."""
    article = "a" if "a" in concepts else "the"
    arguments: list[list[Phrase]] = []
    place = None
    for at, concept in enumerate(concepts):
        if concept in PLACES:
            place = Phrase(concept, "the")
        elif concept.startswith("place:"):
            place = Phrase(concept)
        elif concept.startswith("last:") and at and concepts[at - 1].startswith("first:"):
            arguments[-1] = [Phrase(f"{concepts[at - 1]} {concept}")]
        elif ":" in concept:
            arguments.append([Phrase(concept)])
        elif UPOS[concept] == "NOUN":
            beside = concepts[max(at - 1, 0) : at + 2]
            adjectives = ["", *(word for word in beside if UPOS.get(word) == "ADJ")]
            arguments.append([Phrase(concept, article, word) for word in adjectives])
    return arguments, place


def _quantified(subject: Phrase, there: set[str]) -> Phrase:
    quantifiers = sorted(there & {"some", "every", "no"})
    if subject.is_name or not quantifiers:
        return subject
    return replace(subject, determiner=quantifiers[0])
