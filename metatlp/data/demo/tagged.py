"""POS and NER sentences with the labels that the grammar gives. Knows no file."""

from __future__ import annotations

from dataclasses import replace

from metatlp.data.demo import events, grammar
from metatlp.data.demo.dice import Dice
from metatlp.data.demo.grammar import Word
from metatlp.data.demo.lexicon import Lexicon
from metatlp.data.demo.meaning import Clause, Phrase
from metatlp.data.demo.stock import (
    ADVERBS,
    CREATURES,
    INTERJECTIONS,
    LOC_NOUNS,
    NUMERALS,
    ORG_NOUNS,
    PLACES,
    PRONOUNS,
    VERB_OF_NOUN,
)
from metatlp.data.records import TaggedSentence

CURRENCY = "$"
# A verb with the same form as a noun stands in clauses without such a noun.
_AMBIGUOUS = (*VERB_OF_NOUN, "vehicle", "tool")


def pos_sentence(lexicon: Lexicon, dice: Dice) -> TaggedSentence:
    """One or two clauses with the 17 tags of Universal Dependencies."""
    words = _clause(lexicon, dice)
    if dice.chance(0.15):
        words = [_word(dice.choice(INTERJECTIONS), "INTJ", lexicon), _comma(lexicon), *words]
    draw = dice.below(4)
    if draw == 0:
        words += [_word("and", "CCONJ", lexicon), *_clause(lexicon, dice)]
    elif draw == 1:
        words += [_word("because", "SCONJ", lexicon), *_clause(lexicon, dice)]
    mark = "?" if dice.chance(0.1) else "."
    words.append(grammar.punctuation(mark, lexicon))
    return TaggedSentence(tuple(w.text for w in words), tuple(w.upos for w in words))


def ner_sentence(lexicon: Lexicon, dice: Dice) -> TaggedSentence:
    """A clause or a fragment as in WikiAnn, with names of persons, organisations and places."""
    draw = dice.below(5)
    if draw == 0:
        pieces = [_entity(lexicon, dice), _outside(_comma(lexicon)), _entity(lexicon, dice)]
    elif draw == 1:
        pieces = [_entity(lexicon, dice), _outside(Word("(", "PUNCT"))]
        pieces += [_entity(lexicon, dice), _outside(Word(")", "PUNCT"))]
    else:
        pieces = _clause_with_entities(lexicon, dice)
    return TaggedSentence(
        tuple(text for piece in pieces for text, _ in piece),
        tuple(label for piece in pieces for _, label in piece),
    )


def _clause(lexicon: Lexicon, dice: Dice) -> list[Word]:
    """A clause and what may be added to it."""
    clause = events.event(dice, 0.4, 0.4)
    draw = dice.below(8)
    if draw == 0:
        clause = replace(clause, subject=events.counted(dice, CREATURES))
    elif draw == 1 and not clause.object.adjective:
        clause = replace(clause, object=events.counted(dice, (clause.object.head,)))
    elif draw == 2:
        clause = replace(clause, negated=True)
    elif draw == 3:
        quality = dice.choice(("big", "old", "clean", "red", "heavy"))
        clause = Clause(clause.subject, "be", quality=quality, time=clause.time)
    elif draw == 4:
        clause = replace(clause, passive=True)
    elif draw == 5 and clause.object.head not in _AMBIGUOUS:
        clause = replace(clause, verb=dice.choice(tuple(VERB_OF_NOUN.values())))
    words = grammar.realise(clause, lexicon)
    return _with_extras(words, clause, lexicon, dice)


def _with_extras(words: list[Word], clause: Clause, lexicon: Lexicon, dice: Dice) -> list[Word]:
    """A pronoun for the subject, an adverb, a price, or a foreign word in quotes."""
    draw = dice.below(6)
    if draw == 0 and not clause.passive:
        pronoun = _word(dice.choice(PRONOUNS), "PRON", lexicon)
        first = next(i for i, word in enumerate(words) if word.part == "subject")
        words = [word for word in words if word.part != "subject"]
        return [*words[:first], pronoun, *words[first:]]
    if draw == 1:
        return [*words, _word(dice.choice(ADVERBS), "ADV", lexicon)]
    if draw == 2:
        price = [Word(CURRENCY, "SYM"), _word(dice.choice(NUMERALS), "NUM", lexicon)]
        return [*words, *price]
    if draw == 3:
        quote = Word('"', "PUNCT")
        return [*words, quote, Word(_foreign(dice), "X"), quote]
    return words


def _foreign(dice: Dice) -> str:
    """A word of no language here, in capitals."""
    return "".join(dice.choice("XQWYZJC") + dice.choice("AEIOU") for _ in range(2 + dice.below(2)))


def _clause_with_entities(lexicon: Lexicon, dice: Dice) -> list[list[tuple[str, str]]]:
    clause = events.event(dice, 0.0, 0.3)
    clause = replace(clause, subject=Phrase("first:0"), object=events.patient(dice))
    words = grammar.realise(clause, lexicon)
    pieces = []
    for word in words:
        pieces.append(_entity(lexicon, dice) if word.part == "subject" else _outside(word))
    if dice.chance(0.6):
        adposition = _outside(_word("in", "ADP", lexicon))
        where = (
            _labelled(_place_name(lexicon, dice), "LOC")
            if dice.chance(0.7)
            else [
                (w.text, "O") for w in grammar.phrase(Phrase(dice.choice(PLACES), "the"), lexicon)
            ]
        )
        added = [where, adposition] if lexicon.language.postposition else [adposition, where]
        pieces = [*added, *pieces] if dice.chance(0.3) else [*pieces, *added]
    return [*pieces, _outside(grammar.punctuation(".", lexicon))]


def _entity(lexicon: Lexicon, dice: Dice) -> list[tuple[str, str]]:
    """A name with its labels. A name of a place or a person is also part of names of firms."""
    draw = dice.below(7)
    if draw < 3:
        kinds = (("first",), ("last",), ("first", "last"))[draw]
        return _labelled(_names(events.name(dice, *kinds), lexicon), "PER")
    if draw == 3:
        return _labelled(_place_name(lexicon, dice), "LOC")
    if draw == 4:
        return _labelled(_names(events.name(dice, "firm"), lexicon), "ORG")
    kind = dice.choice(("firm", "place", "last"))
    base = _names(events.name(dice, kind), lexicon)
    return _labelled(_compound(base, dice.choice(ORG_NOUNS), lexicon), "ORG")


def _place_name(lexicon: Lexicon, dice: Dice) -> list[str]:
    base = _names(events.name(dice, "place"), lexicon)
    return _compound(base, dice.choice(LOC_NOUNS), lexicon) if dice.chance(0.3) else base


def _compound(base: list[str], noun: str, lexicon: Lexicon) -> list[str]:
    """`Sifur bank`, or `bank Sifur` where adjectives follow."""
    word = lexicon.form(noun)
    return [word, *base] if lexicon.language.adjective_after else [*base, word]


def _names(value: Phrase, lexicon: Lexicon) -> list[str]:
    return [grammar.name_form(name, lexicon) for name in value.head.split()]


def _labelled(words: list[str], kind: str) -> list[tuple[str, str]]:
    return [(text, f"{'I' if i else 'B'}-{kind}") for i, text in enumerate(words)]


def _outside(word: Word) -> list[tuple[str, str]]:
    return [(word.text, "O")]


def _word(concept: str, upos: str, lexicon: Lexicon) -> Word:
    return Word(lexicon.form(concept), upos)


def _comma(lexicon: Lexicon) -> Word:
    return grammar.punctuation(",", lexicon)
