"""The answer key: rules that know lexicon and grammar, and read only what an example shows.

On data without label noise they are right on every example of every task and language: the labels
follow from the texts. Knows no generator of examples and no file.
"""

from __future__ import annotations

from metatlp.data.demo import grammar
from metatlp.data.demo.lexicon import Lexicon
from metatlp.data.demo.meaning import Clause, meaning, relation
from metatlp.data.demo.questions import span
from metatlp.data.demo.reading import Reader
from metatlp.data.demo.stock import LOC_NOUNS, ORG_NOUNS, UPOS
from metatlp.data.demo.tagged import CURRENCY
from metatlp.data.records import Answer, Example, Question, TaggedSentence, TextPair

_ASKED = {word: part for part, word in grammar.QUESTION_WORDS.items()}
_NAME_LABELS = {"first": "PER", "last": "PER", "place": "LOC", "firm": "ORG"}
_NOUN_LABELS = {**dict.fromkeys(ORG_NOUNS, "ORG"), **dict.fromkeys(LOC_NOUNS, "LOC")}


class Oracle:
    """Predicts the labels of examples in one language."""

    def __init__(self, lexicon: Lexicon):
        self.lexicon = lexicon
        self.reader = Reader(lexicon)

    def predict(self, task: str, example: Example) -> Example:
        """The example with what the oracle says in place of its labels.

        Raises:
            ValueError: a text has no meaning or several, or a question no answer or several.
        """
        if isinstance(example, TaggedSentence):
            tags = self.pos_tags(example.words) if task == "pos" else self.ner_tags(example.words)
            return TaggedSentence(example.words, tuple(tags))
        if isinstance(example, TextPair):
            label = self.nli_label if task == "nli" else self.pa_label
            return TextPair(example.first, example.second, label(example.first, example.second))
        answer = self.answer(example.question, example.context)
        return Question(example.id, example.question, example.context, (answer,))

    def nli_label(self, premise: str, hypothesis: str) -> str:
        return relation(self._read(premise), self._read(hypothesis))

    def pa_label(self, first: str, second: str) -> str:
        return str(int(meaning(self._read(first)) == meaning(self._read(second))))

    def answer(self, question: str, context: str) -> Answer:
        """The asked part of the one fact that agrees with the question in all others."""
        words = self.reader.sentences(question)[0]
        asked = next(_ASKED[c] for word in words for c in self.reader.concepts(word) if c in _ASKED)
        wanted = _without(self.reader.meaning(words, asked), asked)
        facts = [self.reader.meaning(sentence) for sentence in self.reader.sentences(context)]
        numbers = [
            number
            for number, fact in enumerate(facts)
            if getattr(fact, asked) and _without(fact, asked) == wanted
        ]
        if len(numbers) != 1:
            raise ValueError(f"{len(numbers)} facts answer {question!r} in {context!r}")
        return self.span_of(facts, numbers[0], asked)

    def pos_tags(self, words: tuple[str, ...]) -> list[str]:
        """A word's one tag; a verb that looks like a noun is the verb where there is no other."""
        tags = [self._tags_of(word) for word in words]
        found = []
        for at, choices in enumerate(tags):
            if len(choices) == 1:
                found += choices
            else:
                others = [tag for tag in _clause_around(at, tags) if tag in (["VERB"], ["AUX"])]
                found.append("NOUN" if ["VERB"] in others else "VERB")
        return found

    def ner_tags(self, words: tuple[str, ...]) -> list[str]:
        """A name by its kind, a first and a last name together, a name with a noun by the noun."""
        labels = ["O"] * len(words)
        at = 0
        while at < len(words):
            length, kind = self._entity_at(at, words)
            labels[at : at + length] = [f"{'I' if i else 'B'}-{kind}" for i in range(length)]
            at += max(length, 1)
        return labels

    def _read(self, text: str) -> Clause:
        (words,) = self.reader.sentences(text)
        return self.reader.meaning(words)

    def span_of(self, facts: list[Clause], number: int, asked: str) -> Answer:
        """Facts are realised again to find where the part stands."""
        space = " " if self.lexicon.language.spaces else ""
        sentences = [grammar.realise(fact, self.lexicon) for fact in facts]
        texts = [grammar.sentence(words, self.lexicon) + space for words in sentences]
        text, start = span(sentences[number], asked, self.lexicon)
        return Answer(text, sum(map(len, texts[:number])) + start)

    def _tags_of(self, word: str) -> list[str]:
        concepts = self.reader.concepts(word)
        tags = {"PROPN" if ":" in concept else UPOS[concept] for concept in concepts}
        if tags:
            return sorted(tags)
        if word == CURRENCY:
            return ["SYM"]
        return ["X"] if word.isalpha() else ["PUNCT"]

    def _entity_at(self, at: int, words: tuple[str, ...]) -> tuple[int, str]:
        """Length and kind of the entity that begins here; length 0 if none does."""
        here, after = (self._kind(words[i]) if i < len(words) else "" for i in (at, at + 1))
        noun_first = self.lexicon.language.adjective_after
        noun, name = (here, after) if noun_first else (after, here)
        if noun in _NOUN_LABELS and name in _NAME_LABELS:
            return 2, _NOUN_LABELS[noun]
        if (here, after) == ("first", "last"):
            return 2, "PER"
        return (1, _NAME_LABELS[here]) if here in _NAME_LABELS else (0, "")

    def _kind(self, word: str) -> str:
        """The kind of a name, or the concept of another word."""
        return min(
            (concept.partition(":")[0] for concept in self.reader.concepts(word)), default=""
        )


def _without(clause: Clause, part: str) -> tuple[object, ...]:
    """What a fact says besides one part, however it says it."""
    said = meaning(clause)
    parts = {"subject": said.subject, "object": said.object}
    parts |= {"place": said.place, "time": said.time}  # type: ignore[dict-item]
    return (said.verb, *(value for name, value in parts.items() if name != part))


def _clause_around(at: int, tags: list[list[str]]) -> list[list[str]]:
    """The tags between the conjunctions on either side."""
    joints = [i for i, tag in enumerate(tags) if tag in (["CCONJ"], ["SCONJ"])]
    start = max((i for i in joints if i < at), default=-1)
    end = min((i for i in joints if i > at), default=len(tags))
    return tags[start + 1 : end]
