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
_AMBIGUOUS = tuple(VERB_OF_NOUN)
_QUALITIES = ("big", "old", "clean", "red", "heavy")
Piece = list[tuple[str, str]]  # words and their labels


def pos_sentence(lexicon: Lexicon, dice: Dice, turn: int | None = None) -> TaggedSentence:
    """One or two clauses with the 17 tags of Universal Dependencies.

    Args:
        turn: the number of the sentence in its split. What is in a sentence takes turns, so that
            every tag is in a file of forty sentences. Without it: any sentence.
    """
    # The lengths of the cycles share no factor, so every combination has its turn.
    number = dice.below(9 * 8 * 7 * 5) if turn is None else turn
    words = _clause(lexicon, dice, number % 8, number % 7)
    if number % 9 == 0:
        words = [_word(dice.choice(INTERJECTIONS), "INTJ", lexicon), _comma(lexicon), *words]
    joint = {0: ("and", "CCONJ"), 1: ("because", "SCONJ")}.get(number % 5)
    if joint:
        second = _clause(lexicon, dice, dice.below(8), dice.below(7))
        words += [_word(*joint, lexicon), *second]
    mark = "?" if dice.chance(0.1) else "."
    words.append(grammar.punctuation(mark, lexicon))
    return TaggedSentence(tuple(w.text for w in words), tuple(w.upos for w in words))


def ner_sentence(lexicon: Lexicon, dice: Dice, turn: int | None = None) -> TaggedSentence:
    """A clause or a fragment as in WikiAnn, with names of persons, organisations and places."""
    draw = dice.below(5) if turn is None else turn % 5
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


def _clause(lexicon: Lexicon, dice: Dice, kind: int, extra: int) -> list[Word]:
    """A clause of one of eight kinds, with one of seven extras or none."""
    clause = _varied(events.event(dice, 0.4, 0.4), kind, dice)
    words = grammar.realise(clause, lexicon)
    if extra == 0 and not clause.passive:
        pronouns = PRONOUNS["plural" if clause.subject.numeral else "singular"]
        return _with_pronoun(words, _word(dice.choice(pronouns), "PRON", lexicon))
    return [*words, *_extra(lexicon, dice, extra)]


def _varied(clause: Clause, kind: int, dice: Dice) -> Clause:
    """One of eight kinds of clause; the last is plain."""
    assert clause.object is not None
    thing = clause.object
    if kind == 0:
        return replace(clause, subject=events.counted(dice, CREATURES))
    if kind == 1:
        return replace(clause, object=events.counted(dice, (thing.head,)))
    if kind == 2:
        return replace(clause, negated=True)
    if kind == 3:
        quality = dice.choice(_QUALITIES)
        return Clause(clause.subject, "be", quality=quality, time=clause.time)
    if kind == 4:
        return replace(clause, passive=True)
    if kind == 5 and thing.head not in _AMBIGUOUS:
        return replace(clause, verb=dice.choice(tuple(VERB_OF_NOUN.values())))
    if kind == 6:
        # Languages without articles have determiners too.
        determiner = dice.choice(("some", "every", "no"))
        return replace(clause, subject=events.noun_phrase(dice, CREATURES, determiner))
    return clause


def _with_pronoun(words: list[Word], pronoun: Word) -> list[Word]:
    """The pronoun in the place of the subject."""
    first = next(i for i, word in enumerate(words) if word.part == "subject")
    others = [word for word in words[first:] if word.part != "subject"]
    return [*words[:first], pronoun, *others]


def _extra(lexicon: Lexicon, dice: Dice, extra: int) -> list[Word]:
    """An adverb, a price, a foreign word in quotes, or nothing."""
    if extra == 1:
        return [_word(dice.choice(ADVERBS), "ADV", lexicon)]
    if extra == 2:
        return [Word(CURRENCY, "SYM"), _word(dice.choice(NUMERALS), "NUM", lexicon)]
    if extra == 3:
        quote = Word('"', "PUNCT")
        return [quote, Word(_foreign(dice), "X"), quote]
    return []


def _foreign(dice: Dice) -> str:
    """A word of no language here, in capitals."""
    return "".join(dice.choice("XQWYZJC") + dice.choice("AEIOU") for _ in range(2 + dice.below(2)))


def _clause_with_entities(lexicon: Lexicon, dice: Dice) -> list[Piece]:
    clause = events.event(dice, 0.0, 0.3)
    clause = replace(clause, subject=Phrase("first:0"), object=events.patient(dice))
    pieces = [
        _entity(lexicon, dice) if word.part == "subject" else _outside(word)
        for word in grammar.realise(clause, lexicon)
    ]
    if dice.chance(0.6):
        where = _where(lexicon, dice)
        pieces = [*where, *pieces] if dice.chance(0.3) else [*pieces, *where]
    return [*pieces, _outside(grammar.punctuation(".", lexicon))]


def _where(lexicon: Lexicon, dice: Dice) -> list[Piece]:
    """In a named place, or in one without a name."""
    adposition = _outside(_word("in", "ADP", lexicon))
    if dice.chance(0.7):
        place = _labelled(_place_name(lexicon, dice), "LOC")
    else:
        words = grammar.phrase(Phrase(dice.choice(PLACES), "the"), lexicon)
        place = [(word.text, "O") for word in words]
    return [place, adposition] if lexicon.language.postposition else [adposition, place]


def _entity(lexicon: Lexicon, dice: Dice) -> Piece:
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


def _labelled(words: list[str], kind: str) -> Piece:
    return [(text, f"{'I' if i else 'B'}-{kind}") for i, text in enumerate(words)]


def _outside(word: Word) -> Piece:
    return [(word.text, "O")]


def _word(concept: str, upos: str, lexicon: Lexicon) -> Word:
    return Word(lexicon.form(concept), upos)


def _comma(lexicon: Lexicon) -> Word:
    return grammar.punctuation(",", lexicon)
