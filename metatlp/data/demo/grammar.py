"""From a meaning to the words of a language, in its order. Knows no task and no file."""

from __future__ import annotations

from dataclasses import dataclass

from metatlp.data.demo import scripts
from metatlp.data.demo.lexicon import Lexicon
from metatlp.data.demo.meaning import Clause, Phrase
from metatlp.data.demo.stock import UPOS

QUESTION_WORDS = {"subject": "who", "object": "what", "place": "where", "time": "when"}
PAST_TIME = "yesterday"
FUTURE_TIME = "soon"


@dataclass(frozen=True)
class Word:
    """A written word.

    Attributes:
        text, upos: as in the tagging files.
        part: subject, object, place or time if it is in that phrase (its adposition is not).
    """

    text: str
    upos: str
    part: str = ""


def realise(clause: Clause, lexicon: Lexicon, asked: str = "") -> list[Word]:
    """The clause's words, without punctuation.

    Args:
        asked: the part whose place a question word takes; or nothing.
    """
    language = lexicon.language
    parts = {
        "time": _time(clause, lexicon),
        "place": _place(clause, lexicon),
        "subject": _argument(clause, "subject", lexicon),
        "object": _argument(clause, "object", lexicon),
        "verb": _verb(clause, lexicon),
    }
    if asked:
        parts[asked] = [_question_word(asked, clause, lexicon)]
    order = _order(clause, lexicon)
    if asked and language.fronts_questions:
        order = [asked, *(part for part in order if part != asked)]
    return [word for part in order for word in parts[part]]


def phrase(value: Phrase, lexicon: Lexicon, part: str = "", accusative: bool = False) -> list[Word]:
    """A noun phrase; determiner, numeral, and adjective and noun in the language's order."""
    if value.is_name:
        return [Word(name_form(name, lexicon), "PROPN", part) for name in value.head.split()]
    plural = ["plural"] if value.numeral else []
    noun = lexicon.form(value.head, *plural, *(["accusative"] if accusative else []))
    words = [(noun, UPOS[value.head])]
    if value.adjective:
        agreement = ["adjective_agreement"] if plural else []
        words.insert(0, (lexicon.form(value.adjective, *agreement), "ADJ"))
        words = words[::-1] if lexicon.language.adjective_after else words
    if value.numeral:
        words.insert(0, (lexicon.form(value.numeral), "NUM"))
    if value.determiner and (lexicon.language.articles or value.determiner not in ("a", "the")):
        words.insert(0, (lexicon.form(value.determiner), "DET"))
    return [Word(text, upos, part) for text, upos in words]


def name_form(name: str, lexicon: Lexicon) -> str:
    """The written name of `kind:number`."""
    kind, number = name.split(":")
    return lexicon.names[kind][int(number)]


def sentence(words: list[Word], lexicon: Lexicon, mark: str = ".") -> str:
    """Running text; punctuation touches the word before it, and so do words without spaces."""
    return detokenise([*words, punctuation(mark, lexicon)], lexicon)


def detokenise(words: list[Word], lexicon: Lexicon) -> str:
    space = " " if lexicon.language.spaces else ""
    return "".join(
        word.text if i == 0 or word.upos == "PUNCT" else space + word.text
        for i, word in enumerate(words)
    )


def punctuation(mark: str, lexicon: Lexicon) -> Word:
    """`.` or `?` as the script writes it, or the mark itself."""
    written = {".": scripts.FULL_STOP, "?": scripts.QUESTION_MARK}.get(mark, {})
    return Word(written.get(lexicon.language.script, mark), "PUNCT")


def _order(clause: Clause, lexicon: Lexicon) -> list[str]:
    first, second = ("object", "subject") if clause.passive else ("subject", "object")
    return {
        "SVO": ["time", first, "verb", second, "place"],
        "SOV": ["time", first, second, "place", "verb"],
        "VSO": ["time", "verb", first, second, "place"],
    }[lexicon.language.order]


def _argument(clause: Clause, part: str, lexicon: Lexicon) -> list[Word]:
    """Subject or object. The agent of a passive has the adposition `by`."""
    value: Phrase | None = getattr(clause, part)
    if value is None:
        return []
    words = phrase(value, lexicon, part, accusative=part == "object" and not clause.passive)
    return _with_adposition("by", words, lexicon) if clause.passive and part == "subject" else words


def _place(clause: Clause, lexicon: Lexicon) -> list[Word]:
    if clause.place is None:
        return []
    return _with_adposition("in", phrase(clause.place, lexicon, "place"), lexicon)


def _time(clause: Clause, lexicon: Lexicon) -> list[Word]:
    return [Word(lexicon.form(clause.time), "ADV", "time")] if clause.time else []


def _with_adposition(adposition: str, words: list[Word], lexicon: Lexicon) -> list[Word]:
    word = Word(lexicon.form(adposition), "ADP")
    return [*words, word] if lexicon.language.postposition else [word, *words]


def _question_word(asked: str, clause: Clause, lexicon: Lexicon) -> Word:
    word = QUESTION_WORDS[asked]
    return Word(lexicon.form(word), UPOS[word], asked)


def _verb(clause: Clause, lexicon: Lexicon) -> list[Word]:
    """Auxiliary, negation, verb, and the mirror of that where the verb is last."""
    agreement = ["verb_agreement"] if _agrees_with(clause).numeral else []
    words = []
    if clause.time == FUTURE_TIME:
        words.append(Word(lexicon.form("will"), "AUX"))
    if clause.verb == "be":
        words.append(Word(lexicon.form("be"), "AUX"))
    elif clause.passive:
        words.append(Word(lexicon.form("was_done"), "AUX"))
    if clause.negated:
        words.append(Word(lexicon.form("not"), "PART"))
    if clause.verb == "be":
        words.append(Word(lexicon.form(clause.quality), "ADJ"))
    elif clause.passive:
        words.append(Word(lexicon.form(clause.verb, "participle"), "VERB"))
    else:
        past = ["past"] if clause.time == PAST_TIME else []
        words.append(Word(lexicon.form(clause.verb, *past, *agreement), "VERB"))
    return words[::-1] if lexicon.language.order == "SOV" else words


def _agrees_with(clause: Clause) -> Phrase:
    return clause.object if clause.passive and clause.object else clause.subject
