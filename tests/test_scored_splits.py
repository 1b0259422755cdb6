"""Of splits that are scored every example of the file comes out, or the reading stops."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from datasets import ClassLabel, Dataset, Features, List, Value

from metatlp.data.hub_rows import pairs_of, questions_of, sentences_of
from metatlp.data.records import SCORED_SPLITS, TaggedSentence, TextPair
from metatlp.data.tsv import POS_TAGS
from metatlp.data.xtreme import XtremeFolder
from metatlp.errors import InputError
from metatlp.grid import TLP

REAL = Path(__file__).parents[2] / "shared" / "data" / "xtreme"
TEXT = Value("string")


@pytest.fixture
def folder(tmp_path):
    """Write files of XTREME's layout, and open the folder."""

    def write(**files) -> XtremeFolder:
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        return XtremeFolder(tmp_path)

    return write


def refusal(action) -> str:
    with pytest.raises(InputError) as caught:
        action()
    return str(caught.value)


def test_empty_pairs_are_dropped_in_training_only(folder):
    text = "a\tb\t1\n\t\t0\nc\t\t0\n"
    source = folder(**{f"pawsx/{split}-de.tsv": text for split in ("train", "dev", "test")})
    dropped = source.read(TLP("pa", "de"), "train")
    assert dropped.examples == [TextPair("a", "b", "1"), TextPair("c", "", "0")]
    for split in ("dev", "test"):
        kept = source.read(TLP("pa", "de"), split)
        assert kept.examples == [*dropped.examples[:1], TextPair("", "", "0"), dropped.examples[1]]
        assert kept.counts == {"read": 3, "pairs_empty": 1, "texts_empty": 1}


def test_a_row_without_label_stops_where_it_is_scored(folder):
    text = "a\tb\tneutral\nc\td\t-\n"
    source = folder(**{"xnli/train-en.tsv": text, "xnli/dev-en.tsv": text})
    assert source.read(TLP("nli", "en"), "train").counts == {"read": 1, "rows_without_label": 1}
    assert "dev-en.tsv:2: the label is '-'" in refusal(lambda: source.read(TLP("nli", "en"), "dev"))


NO_ANSWER = {
    "none": {"answers": []},
    "an empty one": {"answers": [{"text": "", "answer_start": -1}]},
    "SQuAD 2's": {"answers": [], "is_impossible": True},
}


@pytest.mark.parametrize("entry", NO_ANSWER.values(), ids=NO_ANSWER)
def test_a_question_without_answer_stops_where_it_is_scored(folder, entry):
    good = {"id": "1", "question": "q", "answers": [{"text": "c", "answer_start": 0}]}
    asked = [good, {"id": "2", "question": "q", **entry}]
    text = json.dumps({"data": [{"paragraphs": [{"context": "c", "qas": asked}]}]}, indent=0)
    source = folder(**{"squad/train-v1.1.json": text, "xquad/xquad.en.json": text})
    read = source.read(TLP("qa", "en"), "train")
    assert [question.id for question in read.examples] == ["1"]
    said = refusal(lambda: source.read(TLP("qa", "en"), "xquad"))
    line = text[: text.index('"id": "2"')].count("\n")  # of the brace before it
    assert f"xquad.en.json:{line}: data[0].paragraphs[0].qas[1]: the question of id '2'" in said


def test_sentences_are_parted_by_blank_lines_however_many(folder):
    source = folder(**{"udpos/test-en.tsv": "\na\tX\n\n\n\nb\tX\n\n\n"})
    read = source.read(TLP("pos", "en"), "test")
    assert [sentence.words for sentence in read.examples] == [("a",), ("b",)]


def rows(features: dict, *found: dict) -> Dataset:
    return Dataset.from_list(list(found), features=Features(features))


def test_sentences_of_the_hub():
    features = {"tokens": List(TEXT), "pos_tags": List(ClassLabel(names=list(POS_TAGS)))}
    table = rows(features, {"tokens": [], "pos_tags": []}, {"tokens": ["a"], "pos_tags": [16]})
    read = sentences_of(table, "pos_tags", POS_TAGS, "x", scored=True)
    assert read.examples == [TaggedSentence((), ()), TaggedSentence(("a",), ("X",))]
    assert read.counts == {"read": 2, "sentences_empty": 1}


def test_pairs_of_the_hub():
    features = {"sentence1": TEXT, "sentence2": TEXT, "label": ClassLabel(names=["0", "1"])}
    empty = {"sentence1": "", "sentence2": "", "label": 1}
    shown = {"sentence1": "a", "sentence2": "b", "label": 0}
    read = pairs_of(
        rows(features, empty, shown), ("sentence1", "sentence2"), ("0", "1"), "x", scored=True
    )
    assert read.examples == [TextPair("", "", "1"), TextPair("a", "b", "0")]
    assert read.counts == {"read": 2, "pairs_empty": 1}
    for hidden in (shown | {"label": -1}, empty | {"label": -1}, shown | {"label": None}):
        table = rows(features, shown, hidden)
        arguments = (table, ("sentence1", "sentence2"), ("0", "1"), "x")
        assert len(pairs_of(*arguments).examples) == 1
        assert "x row 1: the label is hidden" in refusal(lambda a=arguments: pairs_of(*a, True))


def test_questions_of_the_hub():
    answers = {"text": List(TEXT), "answer_start": List(Value("int32"))}
    features = {"id": TEXT, "question": TEXT, "context": TEXT, "answers": answers}
    good = {"id": "1", "question": "q", "context": "c"}
    table = rows(
        features,
        good | {"answers": {"text": ["c"], "answer_start": [0]}},
        good | {"id": "2", "answers": {"text": [], "answer_start": []}},
    )
    assert len(questions_of(table, "x").examples) == 1
    said = refusal(lambda: questions_of(table, "x", scored=True))
    assert said.startswith("x row 1: the question of id '2' has no answer to score")


def counted(path: Path, task: str) -> int:
    """Examples of a file, told from its form alone."""
    text = path.read_text(encoding="utf-8")
    if task == "qa":
        articles = json.loads(text)["data"]
        return sum(len(p["qas"]) for article in articles for p in article["paragraphs"])
    if task in ("pos", "ner"):
        return sum(bool(block.strip("\n")) for block in text.split("\n\n"))
    return len(list(csv.reader(text.split("\n")[:-1], delimiter="\t")))


def test_real_files_come_out_whole():
    if not REAL.is_dir():
        pytest.skip("no real data: ../shared/data/xtreme is not there")
    source, checked = XtremeFolder(REAL), 0
    for split in SCORED_SPLITS:
        for tlp in source.tlps(split):
            path = source.path(tlp, split)
            assert len(source.read(tlp, split).examples) == counted(path, tlp.task), path
            checked += 1
    assert checked > 100
