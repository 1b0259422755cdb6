"""Readers of XTREME's tab-separated files: tagged sentences (POS, NER) and text pairs (NLI, PA).

Knows the quoting and the quirks of the published files; knows no folder layout.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Callable, Collection
from pathlib import Path

from metatlp.data.plaintext import read_text, shown
from metatlp.data.records import (
    HIDDEN,
    NO_LABEL,
    Example,
    ReadResult,
    TaggedSentence,
    TextPair,
)
from metatlp.errors import InputError

# The 17 tags of Universal Dependencies v2, https://universaldependencies.org/u/pos/
# fmt: off
POS_TAGS = ("ADJ", "ADP", "ADV", "AUX", "CCONJ", "DET", "INTJ", "NOUN", "NUM", "PART", "PRON",
            "PROPN", "PUNCT", "SCONJ", "SYM", "VERB", "X")
# fmt: on
NER_TAGS = ("O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC")
NLI_LABELS = ("entailment", "neutral", "contradiction")
PA_LABELS = ("0", "1")
LABELS = {"pos": POS_TAGS, "ner": NER_TAGS, "nli": NLI_LABELS, "pa": PA_LABELS}

_UNSPECIFIED = "_"  # CoNLL-U's empty tag; UD's tag for "no category" is X


def read_tagged(path: Path, labels: Collection[str], unlabelled: bool = False) -> ReadResult:
    """Read `word<TAB>tag` lines with an empty line between sentences and no quoting.

    Args:
        path: a udpos or panx file.
        labels: the allowed tags.
        unlabelled: no line may have a tag, nor needs the tab.

    Returns:
        The sentences. Counts: `tags_unspecified` (tag `_`, read as X where X is a tag),
        `blank_lines` (more than the one between two sentences), `byte_order_mark`, `unlabelled`.

    Raises:
        InputError: naming the file and the line of the first thing that is wrong.
    """
    text, counts = read_text(path)
    tag_of = {label: label for label in labels}
    if "X" in tag_of:
        tag_of[_UNSPECIFIED] = "X"
    # The blank line added ends the last sentence.
    lines = (text.rstrip("\n") + "\n\n").split("\n")[:-1]
    hidden = unlabelled and not any(line.partition("\t")[2] for line in lines)
    if hidden:
        tag_of = {NO_LABEL: NO_LABEL}
        lines = [line and line.removesuffix("\t") + "\t" for line in lines]
    examples: list[Example] = []
    words: list[str] = []
    tags: list[str] = []
    for number, line in enumerate(lines, 1):
        if line:
            try:
                word, tag = line.split("\t")
                tags.append(tag_of[tag])
            except (ValueError, KeyError):
                raise InputError(f"{path}:{number}: {_tagged_fault(line, labels)}") from None
            if not word or " " in word:
                raise InputError(f"{path}:{number}: {_tagged_fault(line, labels)}")
            words.append(word)
        elif words:
            examples.append(TaggedSentence(tuple(words), tuple(tags)))
            words, tags = [], []
        else:
            counts["blank_lines"] += 1
    _refuse_language_prefix(path, text)
    counts["tags_unspecified"] += text.count("\t_\n") + text.endswith("\t_")
    return _result(examples, counts, hidden)


def read_pairs(
    path: Path, labels: Collection[str], scored: bool = False, unlabelled: bool = False
) -> ReadResult:
    """Read `first<TAB>second<TAB>label` rows, or XTREME's translations with five columns.

    Three columns are written by a CSV writer: a field with `"` stands in quotes and its `"` are
    doubled. Five columns (English first, English second, first, second, label) are read the same
    way if every row can be, else as XTREME's XNLI translations are: without any quoting. A row is
    always one line.

    Args:
        path: an xnli or pawsx file.
        labels: the allowed labels.
        scored: every row has to become an example.
        unlabelled: no row may have a label, nor needs the column.

    Returns:
        The pairs. Counts: `ns_rows` (a text is `NS`: PAWS-X has no translation), `texts_empty`
        (one of the two), `pairs_empty` (both, left out unless `scored`; see `may_be_empty`),
        `labels_respelled` (MultiNLI's `contradictory`), `rows_without_label` (MultiNLI's `-`, left
        out, refused if `scored`), `rows_verbatim` (rows with `"` of a file without quoting),
        `byte_order_mark`, `unlabelled`.

    Raises:
        InputError: naming the file and the line of the first thing that is wrong.
    """
    text, counts = read_text(path)
    lines = text.rstrip("\n").split("\n")
    widths = (2, 3, 5) if unlabelled else (3, 5)
    if all(line.count("\t") == 4 for line in lines) and not _all_quoted(lines):
        counts["rows_verbatim"] += sum('"' in line for line in lines)
        rows = _rows(path, lines, lambda line: line.split("\t"), widths)
    else:
        rows = _rows(path, lines, _split_quoted, widths)
    examples: list[Example] = []
    hidden = unlabelled and not any(label for _, _, label in rows)
    label_of = {NO_LABEL: NO_LABEL} if hidden else _label_spellings(labels)
    for number, (first, second, label) in enumerate(rows, 1):
        if label not in label_of:
            raise InputError(f"{path}:{number}: {_label_fault(label, labels, number)}")
        if not first and not second:
            if not may_be_empty(labels):
                raise InputError(f"{path}:{number}: both texts are empty")
            counts["pairs_empty"] += 1
            if not scored:
                continue
        meant = label_of[label]
        if meant is None:
            if scored:
                raise InputError(f"{path}:{number}: the label is '-', none, which scoring needs")
            counts["rows_without_label"] += 1
            continue
        counts["labels_respelled"] += meant != label
        counts["texts_empty"] += (not first) != (not second)
        counts["ns_rows"] += first == "NS" or second == "NS"
        examples.append(TextPair(first, second, meant))
    if not examples:
        raise InputError(f"{path}:{len(lines)}: no row of the file has texts and a label")
    return _result(examples, counts, hidden)


def may_be_empty(labels: Collection[str]) -> bool:
    """Whether pairs with these labels may lack both texts; training leaves them out.

    PAWS-X's translations have such rows (`TAB TAB 0`) where nothing was translated; XNLI has none.
    """
    return tuple(labels) == PA_LABELS


def _result(examples: list[Example], counts: Counter[str], hidden: bool) -> ReadResult:
    counts["read"] = len(examples)
    counts["unlabelled"] = hidden * len(examples)
    return ReadResult(examples, +counts)  # unary plus: without the zeros


def _tagged_fault(line: str, labels: Collection[str]) -> str:
    fields = line.split("\t")
    if len(fields) == 1:
        return f"{shown(line)} has no tag; expected word<TAB>tag ({HIDDEN})"
    if len(fields) > 2:
        return f"{len(fields)} columns, expected 2: word<TAB>tag"
    word, tag = fields
    if not word:
        return "the word before the tab is empty"
    if " " in word:
        return f"a space in the word {shown(word)}"
    hint = "" if tag else f" ({HIDDEN})"
    return f"unknown tag {shown(tag)}; expected one of {', '.join(labels)}{hint}"


def _refuse_language_prefix(path: Path, text: str) -> None:
    """Raw WikiAnn files have `en:` before every word; XTREME's preprocessing removes it."""
    found = re.match(r"([a-z]{2,3}(?:-[a-z-]+)?:)[^\t]+\t", text)
    if not found:
        return
    prefix = found.group(1)
    lines = [line for line in text.split("\n") if line]
    if len(lines) > 1 and all(line.startswith(prefix) for line in lines):
        raise InputError(
            f"{path}:1: every word starts with {shown(prefix)}: a raw WikiAnn file; "
            "run XTREME's preprocessing on it"
        )


def _split_quoted(line: str) -> list[str]:
    if '"' not in line:
        return line.split("\t")
    return next(csv.reader([line], delimiter="\t", strict=True))


def _all_quoted(lines: list[str]) -> bool:
    try:
        widths = {len(_split_quoted(line)) for line in lines}
    except csv.Error:
        return False
    return widths in ({3}, {5})


def _rows(
    path: Path,
    lines: list[str],
    split: Callable[[str], list[str]],
    widths: Collection[int],
) -> list[tuple[str, str, str]]:
    """The last three columns of every line, of two with NO_LABEL; all have as many as the first.

    Args:
        widths: how many columns there may be.
    """
    rows = []
    width = 0
    for number, line in enumerate(lines, 1):
        try:
            fields = split(line)
        except csv.Error as error:
            reason = str(error).replace("\t", "TAB")
            raise InputError(
                f"{path}:{number}: quotes are not as CSV has them ({reason}); a field with a quote "
                "stands in quotes, each quote in it doubled, and ends on its line"
            ) from None
        width = width or len(fields)
        if len(fields) != width or width not in widths:
            raise InputError(f"{path}:{number}: {_width_fault(line, len(fields), width)}")
        first, second, label = fields[-3:] if width > 2 else (*fields, NO_LABEL)
        rows.append((first, second, label))
    return rows


def _width_fault(line: str, found: int, width: int) -> str:
    if not line:
        return "an empty line between rows"
    if width == 2 and found != 2:
        return f"{found} columns, but the rows before it have 2, and so no label: {shown(line)}"
    expected = width if width in (3, 5) else 3
    hint = f" ({HIDDEN})" if found == 2 else ""
    return f"{found} columns, expected {expected}: first, second, label{hint}: {shown(line)}"


def _label_spellings(labels: Collection[str]) -> dict[str, str | None]:
    """What a label in a file means; None: the row has no label, and is left out."""
    spellings: dict[str, str | None] = {label: label for label in labels}
    if "contradiction" in spellings:
        spellings |= {"contradictory": "contradiction", "-": None}
    return spellings


def _label_fault(label: str, labels: Collection[str], number: int) -> str:
    hint = " (a header line? remove it)" if number == 1 else ""
    hint = hint if label else f" ({HIDDEN})"
    return f"unknown label {shown(label)}; expected one of {', '.join(labels)}{hint}"
