"""Reader of SQuAD v1.1 JSON: SQuAD, its translations, MLQA, XQuAD.

Holds the rules for answers that do not stand where they should, which the hub source shares.
Knows no folder layout and no tokenizer.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from metatlp.data.json_place import line_of
from metatlp.data.plaintext import read_text, shown
from metatlp.data.records import HIDDEN, Answer, Question, ReadResult
from metatlp.errors import InputError

T = TypeVar("T")
Place = tuple[str | int, ...]  # ("data", 3, "paragraphs", 2, "qas", 0)
_NO_ALIGNMENT = -1  # what translated files state as the start of an answer that was not found
_KINDS = {list: "a list", dict: "an object", str: "a string", int: "an integer"}


class SquadError(Exception):
    """Something wrong at a place; the caller that knows the file or row turns it into InputError.

    Args:
        message: what is wrong.
        place: where, relative to the object at hand.
    """

    def __init__(self, message: str, place: Place = ()):
        super().__init__(message)
        self.message = message
        self.place = place


def read_squad(path: Path, scored: bool = False, unlabelled: bool = False) -> ReadResult:
    """Read a SQuAD v1.1 JSON file.

    Args:
        path: the file.
        scored: every question has to become an example; one without an answer is refused.
        unlabelled: no question may have an answer, nor needs the key.

    Returns:
        The questions in file order. Counts: those of `build_question`, `duplicate_ids` (kept),
        `byte_order_mark`, `unlabelled`.

    Raises:
        InputError: naming the file, the line and the place, e.g. `data[3].paragraphs[2].qas[0]`.
    """
    text, counts = read_text(path)
    document = _parse(path, text)
    try:
        examples = _unanswered(document, counts) if unlabelled else []
        examples = examples or _questions(document, counts, scored)
    except SquadError as fault:
        line = line_of(text, fault.place)
        raise InputError(f"{path}:{line}: {_written(fault.place)}{fault.message}") from None
    if not examples:
        raise InputError(f"{path}:1: no question has an answer ({HIDDEN})")
    counts["duplicate_ids"] += len(examples) - len({question.id for question in examples})
    counts["read"] = len(examples)
    return ReadResult(list(examples), +counts)


def build_question(
    entry: dict[str, Any], context: str, counts: Counter[str], unlabelled: bool = False
) -> Question | None:
    """Check one `qas` entry and settle its answers.

    Args:
        entry: `id`, `question`, `answers` and maybe `is_impossible`.
        context: the text the question is about.
        counts: added to: `answers_empty`, `answers_repaired`, `answers_not_in_context`,
            `questions_dropped` (no answer, or only empty ones), `questions_impossible` (SQuAD v2,
            dropped), `questions_blank` (only white space, kept).
        unlabelled: a question without an answer is kept.

    Returns:
        The question, or None if it is dropped.

    Raises:
        SquadError: a wrong type, an empty question or context, or answers of which none is in
            the context.
    """
    name = field(entry, "id", str)
    asked = field(entry, "question", str)
    if not asked:
        raise SquadError(f"the question of id {shown(name)} is empty", ("question",))
    if not context:
        raise SquadError(f"the context of id {shown(name)} is empty")
    impossible = entry.get("is_impossible", False)
    if not isinstance(impossible, bool):
        raise SquadError("is_impossible is neither true nor false", ("is_impossible",))
    stated = [] if unlabelled and "answers" not in entry else list(_stated_answers(entry))
    if impossible:
        counts["questions_impossible"] += 1
        return None
    answers = settle_answers(context, stated, counts)
    if not answers and any(text.strip() for text, _ in stated):
        text, start = next(answer for answer in stated if answer[0].strip())
        raise SquadError(
            f"id {shown(name)}: the answer {shown(text)} stands neither at its start {start} nor "
            "anywhere in the context, and the question has no other",
            ("answers",),
        )
    if not answers and not unlabelled:
        counts["questions_dropped"] += 1
        return None
    counts["questions_blank"] += not asked.strip()
    return Question(name, asked, context, answers)


def answered(question: Question | None, entry: dict[str, Any]) -> Question:
    """A question that is to be scored. Raises SquadError if `build_question` dropped it."""
    if question is None:
        name = shown(field(entry, "id", str))
        raise SquadError(f"the question of id {name} has no answer to score ({HIDDEN})")
    return question


def settle_answers(
    context: str, stated: Iterable[tuple[str, int]], counts: Counter[str]
) -> tuple[Answer, ...]:
    """Keep the answers that stand at their start, move those that stand elsewhere.

    Args:
        context: the text.
        stated: pairs of answer text and start in characters.
        counts: added to: `answers_empty` (no text, left out), `answers_repaired` (moved to the
            occurrence nearest to the stated start), `answers_not_in_context` (left out).

    Returns:
        Answers with `context[start : start + len(text)] == text`.
    """
    kept = []
    for text, start in stated:
        if not text.strip():
            counts["answers_empty"] += 1
        elif start >= 0 and context.startswith(text, start):
            kept.append(Answer(text, start))
        elif (found := _nearest(context, text, start)) >= 0:
            counts["answers_repaired"] += 1
            kept.append(Answer(text, found))
        else:
            counts["answers_not_in_context"] += 1
    return tuple(kept)


def field(entry: Any, key: str, kind: type[T]) -> T:
    """`entry[key]`, of the given JSON type. Raises SquadError for a missing key or another type."""
    if not isinstance(entry, dict):
        raise SquadError(f"expected an object, found {_kind(entry)}")
    if key not in entry:
        raise SquadError(f"'{key}' is missing")
    value = entry[key]
    # bool is a subclass of int, and true is no start.
    if not isinstance(value, kind) or isinstance(value, bool):
        raise SquadError(f"expected {_KINDS[kind]}, found {_kind(value)}", (key,))
    if isinstance(value, str) and not value.isascii():
        _refuse_surrogates(value, key)
    return value


def _nearest(context: str, text: str, start: int) -> int:
    """The occurrence of `text` nearest to `start` (the earlier of two), or -1."""
    at = min(max(start, 0), len(context))
    before = context.rfind(text, 0, at + len(text))
    after = context.find(text, at)
    if before < 0 or after < 0:
        return max(before, after)
    return before if at - before <= after - at else after


def _unanswered(document: Any, counts: Counter[str]) -> list[Question]:
    """The questions of a file in which none has an answer; of any other none."""
    own: Counter[str] = Counter()
    questions = _questions(document, own, scored=True, unlabelled=True)
    if any(question.answers for question in questions):
        return []
    counts.update(own, unlabelled=len(questions))
    return questions


def _questions(
    document: Any, counts: Counter[str], scored: bool, unlabelled: bool = False
) -> list[Question]:
    questions = []
    for i, article in enumerate(field(document, "data", list)):
        with _at("data", i):
            for j, paragraph in enumerate(field(article, "paragraphs", list)):
                with _at("paragraphs", j):
                    context = field(paragraph, "context", str)
                    for k, entry in enumerate(field(paragraph, "qas", list)):
                        with _at("qas", k):
                            question = build_question(entry, context, counts, unlabelled)
                            questions.append(answered(question, entry) if scored else question)
    return [question for question in questions if question is not None]


@contextmanager
def _at(*parts: str | int) -> Iterator[None]:
    """Put `parts` before the place of a SquadError."""
    try:
        yield
    except SquadError as fault:
        raise SquadError(fault.message, parts + fault.place) from None


def _stated_answers(entry: dict[str, Any]) -> Iterator[tuple[str, int]]:
    for index, answer in enumerate(field(entry, "answers", list)):
        with _at("answers", index):
            text = field(answer, "text", str)
            start = field(answer, "answer_start", int)
            if start < _NO_ALIGNMENT:
                message = f"the start {start} is negative (only -1, for 'not found', may be)"
                raise SquadError(message, ("answer_start",))
        yield text, start


def _refuse_surrogates(value: str, key: str) -> None:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        code = f"\\u{ord(value[error.start]):04x}"
        raise SquadError(
            f"half of a surrogate pair ({code}), which is no character", (key,)
        ) from None


def _parse(path: Path, text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(
            f"{path}:{error.lineno}: not JSON: {error.msg} (column {error.colno})"
        ) from None
    except (RecursionError, ValueError) as error:
        # Nested too deeply, or an integer of thousands of digits.
        raise InputError(f"{path}:1: not SQuAD's JSON: {str(error).splitlines()[0]}") from None


def _kind(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    return _KINDS.get(type(value), f"the number {value}")


def _written(place: Place) -> str:
    """`data[3].paragraphs[2]: ` for an error message, empty for the document itself."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place)
    return f"{text[1:]}: " if text else ""
