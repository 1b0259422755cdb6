"""What a row of one's own CSV and JSONL files means, task by task.

Knows the columns; knows no file. A row is a dict: from CSV all values are strings, from JSONL they
are what JSON has.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from metatlp.data.plaintext import shown
from metatlp.data.records import Question, TaggedSentence, TextPair
from metatlp.data.squad import SquadError, build_question
from metatlp.data.tsv import LABELS

Row = Mapping[str, Any]


@dataclass(frozen=True)
class RowFormat:
    """The rows of one task.

    Args:
        columns: that the header of a CSV file has to name, in any order.
        read: row and counts -> example. It counts what is noteworthy, and raises ValueError saying
            what is wrong; file and line are added.
        keys: that an object of a JSONL file has to have; None: the columns.
        version: a change of it makes the files be read anew; `add_task` sets it.
    """

    columns: tuple[str, ...]
    read: Callable[[Row, Counter[str]], Any]
    keys: tuple[str, ...] | None = None
    version: str = ""

    @property
    def json_keys(self) -> tuple[str, ...]:
        return self.columns if self.keys is None else self.keys


def pair_rows(labels: Collection[str]) -> RowFormat:
    """`first`, `second`, `label`: two texts, of which one may be empty."""

    def read(row: Row, counts: Counter[str]) -> TextPair:
        first, second = text_of(row, "first"), text_of(row, "second")
        if not first and not second:
            raise ValueError("both texts are empty")
        counts["texts_empty"] += not first or not second
        return TextPair(first, second, label_of(row, "label", labels))

    return RowFormat(("first", "second", "label"), read)


def tagged_rows(labels: Collection[str]) -> RowFormat:
    """`words`, `tags`: lists in JSONL; in CSV each is one field, with single blanks between."""

    def read(row: Row, counts: Counter[str]) -> TaggedSentence:
        words, tags = _strings(row, "words"), _strings(row, "tags")
        if len(words) != len(tags):
            raise ValueError(f"{len(words)} words, but {len(tags)} tags")
        for tag in tags:
            if tag not in labels:
                raise ValueError(f"unknown tag {shown(tag)}; expected one of {', '.join(labels)}")
        counts["words_with_space"] += sum(" " in word for word in words)
        return TaggedSentence(words, tags)

    return RowFormat(("words", "tags"), read)


def question_rows() -> RowFormat:
    """`id`, `question`, `context`, and one `answer` with `answer_start`; in JSONL any number of
    `answers`, each with `text` and `start`. Starts are characters from 0. What does not stand at
    its start is settled as in SQuAD's files."""
    asked = ("id", "question", "context")

    def read(row: Row, counts: Counter[str]) -> Question:
        stated = [_csv_answer(row)] if "answer" in row else _json_answers(row)
        entry = {**{name: text_of(row, name) for name in asked[:2]}, "answers": stated}
        try:
            question = build_question(entry, text_of(row, "context"), counts)
        except SquadError as fault:
            raise ValueError(fault.message) from None
        if question is None:
            raise ValueError(f"the question of id {shown(row['id'])} has no answer")
        return question

    return RowFormat((*asked, "answer", "answer_start"), read, keys=(*asked, "answers"))


def text_of(row: Row, name: str) -> str:
    """The string in that column. Raises ValueError for another JSON type."""
    value = row[name]
    if not isinstance(value, str):
        raise ValueError(f"'{name}' is no text but {shown(repr(value))}")
    return value


def label_of(row: Row, name: str, labels: Collection[str]) -> str:
    """The label in that column. Raises ValueError for one that is not among `labels`."""
    label = text_of(row, name)
    if label not in labels:
        raise ValueError(f"unknown {name} {shown(label)}; expected one of {', '.join(labels)}")
    return label


def _strings(row: Row, name: str) -> tuple[str, ...]:
    values = row[name]
    if isinstance(values, str):
        values = values.split(" ")
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise ValueError(f"'{name}' is no list of texts but {shown(repr(values))}")
    if not values or "" in values:
        raise ValueError(f"'{name}' has an empty entry" if values else f"'{name}' is empty")
    return tuple(values)


def _csv_answer(row: Row) -> dict[str, Any]:
    start = text_of(row, "answer_start")
    if not (start.removeprefix("-").isdecimal() and start.isascii()):
        raise ValueError(f"'answer_start' is no whole number but {shown(start)}")
    return {"text": text_of(row, "answer"), "answer_start": int(start)}


def _json_answers(row: Row) -> list[dict[str, Any]]:
    answers = row["answers"]
    if not isinstance(answers, list) or not all(
        isinstance(answer, dict) and {"text", "start"} <= answer.keys() for answer in answers
    ):
        raise ValueError('\'answers\' is no list of {"text": ..., "start": ...}')
    return [{"text": answer["text"], "answer_start": answer["start"]} for answer in answers]


ROW_FORMATS: dict[str, RowFormat] = {
    "qa": question_rows(),
    "nli": pair_rows(LABELS["nli"]),
    "pa": pair_rows(LABELS["pa"]),
    "pos": tagged_rows(LABELS["pos"]),
    "ner": tagged_rows(LABELS["ner"]),
}
