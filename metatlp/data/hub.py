"""The source for `--data hub`: the same TLPs from the Hugging Face hub, without remote code.

Knows which data set and configuration hold a TLP; what the columns mean is in `hub_rows`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import datasets
import pyarrow as pa

from metatlp.data.hub_rows import pairs_of, questions_of, sentences_of
from metatlp.data.records import SCORED_SPLITS, SPLITS, ReadResult
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
_UD_WITHOUT = {"train": "th tl yo", "dev": "kk th tl yo", "test": ""}
_PANX = (
    "af ar bg bn de el en es et eu fa fi fr he hi hu id it ja jv ka kk ko ml mr ms my nl pt ru sw "
    "ta te th tl tr ur vi yo zh"
)
_XNLI = "ar bg de el en es fr hi ru sw th tr ur vi zh"
_USUAL = ("train", "dev", "test")
# Languages per task and split. QA train: SQuAD (en) and its translations by MLQA.
LANGUAGES: dict[str, dict[str, str]] = {
    "ner": dict.fromkeys(_USUAL, _PANX),
    "nli": dict.fromkeys(_USUAL, _XNLI),
    "pa": dict.fromkeys(_USUAL, "de en es fr ja ko zh"),
    "pos": {
        split: " ".join(lang for lang in UD_NAMES if lang not in _UD_WITHOUT[split].split())
        for split in _USUAL
    },
    "qa": dict.fromkeys(_USUAL, "ar de en es hi vi zh")
    | {"xquad": "ar de el en es hi ro ru th tr vi zh"},
}
_HUB_SPLITS = {"train": "train", "dev": "validation", "test": "test"}


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
        found = [
            TLP(task, lang)
            for task, languages in LANGUAGES.items()
            for lang in languages.get(split, "").split()
        ]
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
        rows, scored = self._rows(table), split in SCORED_SPLITS
        if tlp.task == "qa":
            return questions_of(rows, str(table), scored)
        if tlp.task in ("pos", "ner"):
            return sentences_of(rows, f"{tlp.task}_tags", LABELS[tlp.task], str(table), scored)
        columns = ("premise", "hypothesis") if tlp.task == "nli" else ("sentence1", "sentence2")
        return pairs_of(rows, columns, LABELS[tlp.task], str(table), scored)

    def _rows(self, table: HubTable) -> datasets.Dataset:
        if table not in self._tables:
            self._tables[table] = _loaded(self._load, table)
        return self._tables[table]


def hub_table(tlp: TLP, split: str) -> HubTable:
    """Where the hub keeps a TLP. Raises InputError, with the languages there are, if nowhere."""
    languages = LANGUAGES.get(tlp.task, {}).get(split, "").split()
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
