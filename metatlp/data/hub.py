"""The source for `--data hub`: the same TLPs from the Hugging Face hub, without remote code.

Knows which data set, configuration and columns hold a TLP; the rules for what is kept, moved and
left out are those of the file readers.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import datasets
import pyarrow as pa

from metatlp.data.plaintext import shown
from metatlp.data.records import SPLITS, Example, ReadResult, TaggedSentence, TextPair
from metatlp.data.squad import SquadError, build_question
from metatlp.data.tsv import LABELS
from metatlp.errors import InputError
from metatlp.grid import TLP

# Configurations `udpos.<name>` of google/xtreme.
UD_NAMES = {
    **{"af": "Afrikaans", "ar": "Arabic", "bg": "Bulgarian", "de": "German", "el": "Greek"},
    **{"en": "English", "es": "Spanish", "et": "Estonian", "eu": "Basque", "fa": "Persian"},
    **{"fi": "Finnish", "fr": "French", "he": "Hebrew", "hi": "Hindi", "hu": "Hungarian"},
    **{"id": "Indonesian", "it": "Italian", "ja": "Japanese", "kk": "Kazakh", "ko": "Korean"},
    **{"mr": "Marathi", "nl": "Dutch", "pt": "Portuguese", "ru": "Russian", "ta": "Tamil"},
    **{"te": "Telugu", "th": "Thai", "tl": "Tagalog", "tr": "Turkish", "ur": "Urdu"},
    **{"vi": "Vietnamese", "yo": "Yoruba", "zh": "Chinese"},
}
_UD_WITHOUT = {"train": {"th", "tl", "yo"}, "dev": {"kk", "th", "tl", "yo"}, "test": set()}
_PANX = (
    "af ar bg bn de el en es et eu fa fi fr he hi hu id it ja jv ka kk ko ml mr ms my nl pt ru sw "
    "ta te th tl tr ur vi yo zh"
)
_MLQA = "ar de en es hi vi zh"
# Languages per task and split. QA train: SQuAD (en) and its translations by MLQA.
LANGUAGES = {
    "ner": dict.fromkeys(("train", "dev", "test"), _PANX.split()),
    "nli": dict.fromkeys(
        ("train", "dev", "test"),
        ["ar", "bg", "de", "el", "en", "es", "fr", "hi", "ru", "sw", "th", "tr", "ur", "vi", "zh"],
    ),
    "pa": dict.fromkeys(("train", "dev", "test"), ["de", "en", "es", "fr", "ja", "ko", "zh"]),
    "pos": {
        split: [lang for lang in UD_NAMES if lang not in without]
        for split, without in _UD_WITHOUT.items()
    },
    "qa": {
        **dict.fromkeys(("train", "dev", "test"), _MLQA.split()),
        "xquad": ["ar", "de", "el", "en", "es", "hi", "ro", "ru", "th", "tr", "vi", "zh"],
    },
}
_HUB_SPLITS = {"train": "train", "dev": "validation", "test": "test"}
_NO_PREDICTION = -1  # ClassLabel's number for a hidden label


@dataclass(frozen=True)
class HubTable:
    """One split of one configuration of a data set on the hub.

    `exported`: the repository holds a loading script, which is not run; the Parquet files that the
    hub makes of every data set, on its branch refs/convert/parquet, are read instead.
    """

    dataset: str
    config: str
    split: str
    exported: bool = False

    def __str__(self) -> str:
        return f"{self.dataset} {self.config} {self.split}"


class HubSource:
    """The TLPs of the paper and of XTREME, from the hub or its local cache.

    Args:
        load: `datasets.load_dataset`, or a stand-in with its arguments.
    """

    def __init__(self, load: Callable[..., Any] = datasets.load_dataset):
        self._load = load
        self._tables: dict[HubTable, datasets.Dataset] = {}

    def describe(self) -> str:
        """One phrase for the log."""
        return "Hugging Face hub (google/xtreme, facebook/xnli, paws-x, squad, mlqa, xquad)"

    def tlps(self, split: str) -> list[TLP]:
        """The TLPs for which the split exists, in grid order. Asks nothing of the network."""
        if split not in SPLITS:
            raise ValueError(f"unknown split '{split}'; one of {', '.join(SPLITS)}")
        found = [TLP(task, lang) for task in LANGUAGES for lang in LANGUAGES[task].get(split, ())]
        return sorted(found, key=lambda tlp: tlp.order)

    def fingerprint(self, tlp: TLP, split: str) -> str:
        """sha256 of the columns and their types. Loads the split.

        Raises:
            InputError: naming data set, configuration and split.
        """
        rows = self._rows(hub_table(tlp, split))
        digest = hashlib.sha256(repr(rows.features).encode())
        table = rows.with_format("arrow")[:].combine_chunks().replace_schema_metadata(None)
        with pa.ipc.new_stream(_HashSink(digest), table.schema) as writer:
            writer.write_table(table)
        return digest.hexdigest()

    def read(self, tlp: TLP, split: str) -> ReadResult:
        """All examples of the split. Raises InputError naming data set, configuration and row."""
        table = hub_table(tlp, split)
        rows = self._rows(table)
        if tlp.task == "qa":
            return questions_of(rows, str(table))
        if tlp.task in ("pos", "ner"):
            return sentences_of(rows, f"{tlp.task}_tags", LABELS[tlp.task], str(table))
        columns = ("premise", "hypothesis") if tlp.task == "nli" else ("sentence1", "sentence2")
        return pairs_of(rows, columns, LABELS[tlp.task], str(table))

    def _rows(self, table: HubTable) -> datasets.Dataset:
        if table not in self._tables:
            self._tables[table] = _loaded(self._load, table)
        return self._tables[table]


def hub_table(tlp: TLP, split: str) -> HubTable:
    """Where the hub keeps a TLP. Raises InputError, with the languages there are, if nowhere."""
    languages = LANGUAGES[tlp.task].get(split, [])
    if tlp.lang not in languages:
        raise InputError(
            f"--data hub: no {split} data for {tlp}; {tlp.task} has {split} data in: "
            f"{', '.join(languages) or 'no language'}"
        )
    name = _HUB_SPLITS.get(split, "validation")  # xquad has this one split
    if tlp.task == "pos":
        return HubTable("google/xtreme", f"udpos.{UD_NAMES[tlp.lang]}", name)
    if tlp.task == "ner":
        return HubTable("google/xtreme", f"PAN-X.{tlp.lang}", name)
    if tlp.task == "nli":
        return HubTable("facebook/xnli", tlp.lang, name)
    if tlp.task == "pa":
        return HubTable("google-research-datasets/paws-x", tlp.lang, name)
    if split == "xquad":
        return HubTable("google/xquad", f"xquad.{tlp.lang}", name)
    if split == "train" and tlp.lang == "en":
        return HubTable("rajpurkar/squad", "plain_text", name)
    kind = f"mlqa-translate-train.{tlp.lang}" if split == "train" else f"mlqa.{tlp.lang}.{tlp.lang}"
    return HubTable("facebook/mlqa", kind, name, exported=True)


def sentences_of(
    rows: datasets.Dataset, tag_column: str, labels: tuple[str, ...], where: str
) -> ReadResult:
    """Rows of google/xtreme (`tokens`, `pos_tags` or `ner_tags`) as tagged sentences.

    Returns:
        The sentences. Counts: `words_empty` and `words_with_space`, which files do not have
        (kept: their tags count), `sentences_empty` (left out).

    Raises:
        InputError: naming `where` and the row.
    """
    _require(rows, ("tokens", tag_column), where)
    name_of = _label_names(rows.features[tag_column].feature, labels, f"{where}: {tag_column}")
    counts: Counter[str] = Counter()
    examples: list[Example] = []
    for number, row in _numbered(rows, ("tokens", tag_column)):
        words, tags = row["tokens"], row[tag_column]
        if not words and not tags:
            counts["sentences_empty"] += 1
            continue
        if words is None or tags is None or len(words) != len(tags) or None in words:
            raise InputError(f"{where} row {number}: not one tag for each word")
        names = tuple(name_of.get(tag, "") for tag in tags)
        if "" in names:
            raise InputError(_label_fault(where, number, tags[names.index("")], labels))
        counts["words_empty"] += words.count("")
        counts["words_with_space"] += sum(" " in word for word in words)
        examples.append(TaggedSentence(tuple(words), names))
    return _result(examples, counts, where)


def pairs_of(
    rows: datasets.Dataset, columns: tuple[str, str], labels: tuple[str, ...], where: str
) -> ReadResult:
    """Rows of facebook/xnli or paws-x as text pairs.

    Returns:
        The pairs. Counts: `ns_rows` and `texts_empty`, as in files.

    Raises:
        InputError: naming `where` and the row.
    """
    _require(rows, (*columns, "label"), where)
    name_of = _label_names(rows.features["label"], labels, f"{where}: label")
    counts: Counter[str] = Counter()
    examples: list[Example] = []
    for number, row in _numbered(rows, (*columns, "label")):
        first, second = row[columns[0]], row[columns[1]]
        if not isinstance(first, str) or not isinstance(second, str) or not (first or second):
            raise InputError(f"{where} row {number}: not two texts")
        if row["label"] not in name_of:
            raise InputError(_label_fault(where, number, row["label"], labels))
        counts["texts_empty"] += not first or not second
        counts["ns_rows"] += first == "NS" or second == "NS"
        examples.append(TextPair(first, second, name_of[row["label"]]))
    return _result(examples, counts, where)


def questions_of(rows: datasets.Dataset, where: str) -> ReadResult:
    """Rows of squad, mlqa or xquad as questions, by the rules of `squad.build_question`.

    Raises:
        InputError: naming `where` and the row.
    """
    columns = ("id", "question", "context", "answers")
    _require(rows, columns, where)
    counts: Counter[str] = Counter()
    examples: list[Example] = []
    names = set()
    for number, row in _numbered(rows, columns):
        try:
            question = build_question(
                {**row, "answers": _listed(row)}, row["context"] or "", counts
            )
        except SquadError as fault:
            raise InputError(f"{where} row {number}: {fault.message}") from None
        if question is not None:
            counts["duplicate_ids"] += question.id in names
            names.add(question.id)
            examples.append(question)
    return _result(examples, counts, where)


def _loaded(load: Callable[..., Any], table: HubTable) -> datasets.Dataset:
    try:
        if not table.exported:
            return load(table.dataset, table.config, split=table.split)
        files = (
            f"hf://datasets/{table.dataset}@refs%2Fconvert%2Fparquet/{table.config}/{table.split}"
            "/*.parquet"
        )
        return load("parquet", data_files={table.split: files}, split=table.split)
    # The libraries below raise some twenty unrelated types when offline, for an unknown name, ...
    except Exception as error:
        reason = " ".join(str(error).split()) or "no reason given"
        raise InputError(
            f"--data hub: cannot load {table}: {type(error).__name__}: {reason[:300]}"
        ) from error


def _require(rows: datasets.Dataset, columns: tuple[str, ...], where: str) -> None:
    for column in columns:
        if column not in rows.column_names:
            raise InputError(
                f"{where}: column '{column}' is missing; there are {', '.join(rows.column_names)}"
            )


def _label_names(feature: Any, labels: tuple[str, ...], where: str) -> dict[Any, str]:
    """What a cell's value means: the number of a ClassLabel, or the label itself."""
    if not isinstance(feature, datasets.ClassLabel):
        return {label: label for label in labels}
    strange = [name for name in feature.names if name not in labels]
    if strange:
        raise InputError(
            f"{where}: unknown label {shown(strange[0])}; expected one of {', '.join(labels)}"
        )
    return dict(enumerate(feature.names))


def _label_fault(where: str, number: int, value: Any, labels: tuple[str, ...]) -> str:
    if value in (None, _NO_PREDICTION):
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
    texts, starts = answers["text"] or [], answers["answer_start"] or []
    if len(texts) != len(starts):
        raise SquadError(f"{len(texts)} answer texts, but {len(starts)} starts")
    return [{"text": t, "answer_start": s} for t, s in zip(texts, starts, strict=True)]


def _result(examples: list[Example], counts: Counter[str], where: str) -> ReadResult:
    if not examples:
        raise InputError(f"{where}: no labelled example")
    counts["read"] = len(examples)
    return ReadResult(examples, +counts)


class _HashSink:
    """A file to write to, of which only the hash is kept."""

    closed = False

    def __init__(self, digest: Any):
        self._digest = digest

    def write(self, data: Any) -> int:
        self._digest.update(data)
        return len(data)

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass
