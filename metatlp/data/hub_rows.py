"""What the columns of the hub's data sets mean: rows in, examples out.

The rules for what is kept, moved and left out are those of the file readers; of a split that is
`scored` nothing is left out. Knows no data set by name and no network; `where` is the name of the
data set for error messages.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import datasets

from metatlp.data.plaintext import shown
from metatlp.data.records import Example, ReadResult, TaggedSentence, TextPair
from metatlp.data.squad import SquadError, answered, build_question
from metatlp.data.tsv import may_be_empty
from metatlp.errors import InputError

# A label that is not given: a missing cell, or ClassLabel's number for it.
_NOT_GIVEN = (None, -1)


def sentences_of(
    rows: datasets.Dataset,
    tag_column: str,
    labels: tuple[str, ...],
    where: str,
    scored: bool = False,
) -> ReadResult:
    """Rows of google/xtreme (`tokens`, `pos_tags` or `ner_tags`) as tagged sentences.

    Returns:
        The sentences. Counts: `words_empty` and `words_with_space`, which files do not have
        (kept: their tags count), `sentences_empty` (left out unless `scored`).

    Raises:
        InputError: naming `where` and the row.
    """
    _require(rows, ("tokens", tag_column), ("tokens",), where)
    name_of = _label_names(rows.features[tag_column], labels, f"{where}: {tag_column}")
    counts: Counter[str] = Counter()
    examples: list[Example] = []
    for number, row in _numbered(rows, ("tokens", tag_column)):
        words, tags = row["tokens"], row[tag_column]
        if not words and not tags:
            counts["sentences_empty"] += 1
            if scored:
                examples.append(TaggedSentence((), ()))
            continue
        if not _lists(words, tags) or len(words) != len(tags) or None in words:
            raise InputError(f"{where} row {number}: not one tag for each word")
        names = tuple(name_of.get(tag, "") for tag in tags)
        if "" in names:
            raise InputError(_label_fault(where, number, tags[names.index("")], labels))
        counts["words_empty"] += words.count("")
        counts["words_with_space"] += sum(" " in word for word in words)
        examples.append(TaggedSentence(tuple(words), names))
    return _result(examples, counts, where)


def pairs_of(
    rows: datasets.Dataset,
    columns: tuple[str, str],
    labels: tuple[str, ...],
    where: str,
    scored: bool = False,
) -> ReadResult:
    """Rows of facebook/xnli or paws-x as text pairs.

    Returns:
        The pairs. Counts: `ns_rows`, `texts_empty` and `pairs_empty`, as in files, and
        `rows_without_label` (PA only: a hidden label among labelled ones; left out, refused if
        `scored`).

    Raises:
        InputError: naming `where` and the row, or that every label is hidden.
    """
    _require(rows, (*columns, "label"), columns, where)
    name_of = _label_names(rows.features["label"], labels, f"{where}: label")
    counts: Counter[str] = Counter()
    examples: list[Example] = []
    for number, row in _numbered(rows, (*columns, "label")):
        first, second = row[columns[0]], row[columns[1]]
        if not isinstance(first, str) or not isinstance(second, str):
            raise InputError(f"{where} row {number}: not two texts")
        strange = _no_example(first, second, row["label"]) if may_be_empty(labels) else None
        if strange:
            counts[strange] += 1
            if not scored:
                continue
        elif not first and not second:
            raise InputError(f"{where} row {number}: both texts are empty")
        if row["label"] not in name_of:
            raise InputError(_label_fault(where, number, row["label"], labels))
        counts["texts_empty"] += (not first) != (not second)
        counts["ns_rows"] += first == "NS" or second == "NS"
        examples.append(TextPair(first, second, name_of[row["label"]]))
    if not examples and counts["rows_without_label"]:
        raise InputError(f"{where}: every label is hidden; labelled data is needed here")
    return _result(examples, counts, where)


def questions_of(rows: datasets.Dataset, where: str, scored: bool = False) -> ReadResult:
    """Rows of squad, mlqa or xquad as questions, by the rules of `squad.build_question`.

    Raises:
        InputError: naming `where` and the row.
    """
    columns = ("id", "question", "context", "answers")
    _require(rows, columns, ("question", "context"), where)
    counts: Counter[str] = Counter()
    examples: list[Example] = []
    names = set()
    for number, row in _numbered(rows, columns):
        try:
            entry = {**row, "answers": _listed(row)}
            question = build_question(entry, row["context"] or "", counts)
            if scored:
                question = answered(question, entry)
        except SquadError as fault:
            raise InputError(f"{where} row {number}: {fault.message}") from None
        if question is not None:
            counts["duplicate_ids"] += question.id in names
            names.add(question.id)
            examples.append(question)
    return _result(examples, counts, where)


def _require(
    rows: datasets.Dataset, columns: tuple[str, ...], texts: tuple[str, ...], where: str
) -> None:
    for column in columns:
        if column not in rows.column_names:
            raise InputError(
                f"{where}: column '{column}' is missing; there are {', '.join(rows.column_names)}"
            )
    for column in texts:
        feature = _inner(rows.features[column])
        if getattr(feature, "dtype", None) not in ("string", "large_string"):
            raise InputError(f"{where}: column '{column}' holds no text but {feature}")


def _no_example(first: str, second: str, label: Any) -> str | None:
    """What a row of PA that is no example of training counts as."""
    if not first and not second:
        return "pairs_empty"
    return "rows_without_label" if label in _NOT_GIVEN else None


def _lists(*cells: Any) -> bool:
    return all(isinstance(cell, list) for cell in cells)


def _inner(feature: Any) -> Any:
    """The type of the elements of a list, or the type itself."""
    return getattr(feature, "feature", feature)


def _label_names(feature: Any, labels: tuple[str, ...], where: str) -> dict[Any, str]:
    """What a cell's value means: the number of a ClassLabel, or the label itself."""
    feature = _inner(feature)
    if not isinstance(feature, datasets.ClassLabel):
        return {label: label for label in labels}
    strange = [name for name in feature.names if name not in labels]
    if strange:
        raise InputError(
            f"{where}: unknown label {shown(strange[0])}; expected one of {', '.join(labels)}"
        )
    return dict(enumerate(feature.names))


def _label_fault(where: str, number: int, value: Any, labels: tuple[str, ...]) -> str:
    if value in _NOT_GIVEN:
        return f"{where} row {number}: the label is hidden ({value}); labelled data is needed here"
    return f"{where} row {number}: unknown label {value!r}; expected one of {', '.join(labels)}"


def _numbered(
    rows: datasets.Dataset, columns: tuple[str, ...]
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Rows from 0, read in batches: single rows of a data set are slow."""
    number = 0
    for batch in rows.select_columns(list(columns)).with_format(None).iter(1000):
        for cells in zip(*(batch[column] for column in columns), strict=True):
            yield number, dict(zip(columns, cells, strict=True))
            number += 1


def _listed(row: dict[str, Any]) -> list[dict[str, Any]]:
    """The hub's two lists, `text` and `answer_start`, as SQuAD's list of answers."""
    answers = row["answers"]
    if not isinstance(answers, dict) or not {"text", "answer_start"} <= set(answers):
        raise SquadError("'answers' does not hold text and answer_start")
    texts, starts = answers["text"], answers["answer_start"]
    if not _lists(texts, starts):
        raise SquadError("'answers' does not hold two lists")
    if len(texts) != len(starts):
        raise SquadError(f"{len(texts)} answer texts, but {len(starts)} starts")
    return [{"text": t, "answer_start": s} for t, s in zip(texts, starts, strict=True)]


def _result(examples: list[Example], counts: Counter[str], where: str) -> ReadResult:
    if not examples:
        raise InputError(f"{where}: no labelled example")
    counts["read"] = len(examples)
    return ReadResult(examples, +counts)
