"""Which of two synonyms stands in a text, and the text of a meaning. Knows no task."""

from __future__ import annotations

from dataclasses import replace

from metatlp.data.demo import grammar
from metatlp.data.demo.dice import Dice
from metatlp.data.demo.events import with_synonym
from metatlp.data.demo.lexicon import Lexicon
from metatlp.data.demo.meaning import Clause, Phrase


def with_synonyms(clause: Clause, dice: Dice, probability: float) -> Clause:
    """The clause with every word that has a synonym replaced by it with the given probability."""

    def worded(phrase: Phrase) -> Phrase:
        head = with_synonym(phrase.head, dice, probability)
        adjective = with_synonym(phrase.adjective, dice, probability)
        return replace(phrase, head=head, adjective=adjective)

    return replace(
        clause,
        subject=worded(clause.subject),
        verb=with_synonym(clause.verb, dice, probability),
        object=worded(clause.object) if clause.object else None,
        quality=with_synonym(clause.quality, dice, probability),
    )


def text_of(clause: Clause, lexicon: Lexicon) -> str:
    """The clause as a written sentence."""
    return grammar.sentence(grammar.realise(clause, lexicon), lexicon)
