"""Test files as XTREME strips them: no label at all is read where it is asked for, some is not."""

from __future__ import annotations

import json

import pytest

from metatlp.data.records import NO_LABEL, Question, TaggedSentence, TextPair
from metatlp.data.squad import read_squad
from metatlp.data.tsv import NER_TAGS, NLI_LABELS, PA_LABELS, POS_TAGS, read_pairs, read_tagged
from metatlp.data.xtreme import XtremeFolder
from metatlp.errors import InputError
from metatlp.grid import TLP

EMPTY = {"answer_start": 0, "text": ""}  # what XTREME's remove_qa_test_annotations leaves
GOLD = {"answer_start": 4, "text": "cat"}


@pytest.fixture
def written(tmp_path):
    def write(content: str):
        path = tmp_path / "test-en.tsv"
        path.write_bytes(content.encode())
        return path

    return write


def squad(*answers) -> str:
    """A question per argument: its list of answers, or None for no such key."""
    asked = [
        {"id": f"q{i}", "question": "who?"} | ({} if given is None else {"answers": given})
        for i, given in enumerate(answers)
    ]
    document = {"data": [{"paragraphs": [{"context": "the cat", "qas": [one]}]} for one in asked]}
    return json.dumps(document, indent=0)


def refusal(action) -> str:
    with pytest.raises(InputError) as caught:
        action()
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


@pytest.mark.parametrize("text", ["a\n#\n\nc\n", "a\t\n#\t\n\nc\t\n", "a\r\n#\t\r\n\r\nc"])
def test_words_without_tags(written, text):
    read = read_tagged(written(text), POS_TAGS, unlabelled=True)
    none = NO_LABEL
    assert read.examples == [
        TaggedSentence(("a", "#"), (none, none)),
        TaggedSentence(("c",), ("",)),
    ]
    assert read.counts == {"read": 2, "unlabelled": 2}


@pytest.mark.parametrize("text", ['"x ""y"""\tb\r\nNS\tc\r\n', '"x ""y"""\tb\t\nNS\tc\t\n'])
@pytest.mark.parametrize("labels", [NLI_LABELS, PA_LABELS])
def test_pairs_without_labels(written, text, labels):
    read = read_pairs(written(text), labels, scored=True, unlabelled=True)
    assert read.examples == [TextPair('x "y"', "b", NO_LABEL), TextPair("NS", "c", NO_LABEL)]
    assert read.counts == {"read": 2, "unlabelled": 2, "ns_rows": 1}


@pytest.mark.parametrize("given", [[EMPTY], [], None, [EMPTY, {"answer_start": -1, "text": " "}]])
def test_questions_without_answers(written, given):
    read = read_squad(written(squad(given, [EMPTY])), scored=True, unlabelled=True)
    assert read.examples == [Question(f"q{i}", "who?", "the cat", ()) for i in range(2)]
    assert read.counts.pop("answers_empty") > 0
    assert read.counts == {"read": 2, "unlabelled": 2}


def test_labelled_files_are_read_as_ever(written):
    for read, content in (
        (lambda path, **more: read_tagged(path, NER_TAGS, **more), "a\tO\n\nb\tB-PER\n"),
        (lambda path, **more: read_pairs(path, PA_LABELS, True, **more), "a\tb\t0\n\t\t1\n"),
        (lambda path, **more: read_squad(path, True, **more), squad([EMPTY, GOLD], [GOLD])),
    ):
        path = written(content)
        assert read(path, unlabelled=True) == read(path)
        assert "unlabelled" not in read(path).counts


# Content of a file of which some is labelled, the line that the error names, a part of it.
HALVES = {
    "tagged": ("pos", "a\tDET\nb\n", 2, "'b' has no tag"),
    "tagged from the third word on": ("pos", "a\n\nb\nc\tDET\n", 1, "'a' has no tag"),
    "tagged with a tab": ("ner", "a\tO\n\nb\t\n", 3, "unknown tag ''"),
    "pairs": ("nli", "a\tb\tneutral\nc\td\n", 2, "2 columns, expected 3"),
    "pairs from the second on": ("pa", "a\tb\nc\td\t1\n", 2, "3 columns, but the rows before it"),
    "pairs with a tab": ("pa", "a\tb\t1\nc\td\t\n", 2, "unknown label ''"),
    "questions": ("qa", squad([GOLD], [EMPTY]), 27, "the question of id 'q1' has no answer"),
    "the first question": ("qa", squad([], [GOLD]), 8, "the question of id 'q0' has no answer"),
    "a question without the key": ("qa", squad([GOLD], None), 27, "'answers' is missing"),
}
# Content that is no example, with labels or without.
BROKEN = {
    "a space in a word": ("pos", "a\nb c\n", 2, "a space in the word 'b c'"),
    "an empty word": ("ner", "a\n\t\n", 2, "the word before the tab is empty"),
    "three columns of tags": ("ner", "a\t\t\n", 1, "3 columns, expected 2"),
    "one column of texts": ("pa", "a\nb\n", 1, "1 columns, expected 3"),
    "no texts": ("nli", "a\tb\n\t\n", 2, "both texts are empty"),
    "answer elsewhere": ("qa", squad([{"answer_start": 0, "text": "cow"}]), 11, "the answer 'cow"),
    "SQuAD 2": ("qa", squad([]).replace('"id"', '"is_impossible": true,\n"id"'), 8, "no answer"),
}
PLACES = {
    "pos": "udpos/{}-en.tsv",
    "ner": "panx/{}-en.tsv",
    "nli": "xnli/{}-en.tsv",
    "pa": "pawsx/{}-en.tsv",
    "qa": "mlqa/MLQA_V1/{0}/{0}-context-en-question-en.json",
}


def file_of(root, task: str, split: str, content: str):
    path = root / PLACES[task].format(split)
    if (task, split) == ("qa", "train"):
        path = root / "squad" / "train-v1.1.json"
    path.parent.mkdir(parents=True)
    path.write_text(content)
    return path


@pytest.mark.parametrize("case", [*HALVES.values(), *BROKEN.values()], ids=[*HALVES, *BROKEN])
def test_all_labels_or_none(tmp_path, case):
    task, content, line, message = case
    path = file_of(tmp_path, task, "test", content)
    source = XtremeFolder(tmp_path, unlabelled=True)
    said = refusal(lambda: source.read(TLP(task, "en"), "test"))
    assert said.startswith(f"{path}:{line}: ") and message in said


STRIPPED = {"pos": "a\n", "ner": "a\t\n", "nli": "a\tb\n", "pa": "a\tb\n", "qa": squad([EMPTY])}


@pytest.mark.parametrize("split", ["train", "dev", "test"])
@pytest.mark.parametrize("task", STRIPPED)
def test_only_test_files_and_only_where_asked_for(tmp_path, task, split):
    path = file_of(tmp_path, task, split, STRIPPED[task])
    source, asked = XtremeFolder(tmp_path), XtremeFolder(tmp_path, unlabelled=True)
    tlp = TLP(task, "en")
    if split == "test":
        assert asked.read(tlp, split).counts["unlabelled"] == 1
        # What was encoded for a submission must not be found by who needs labels.
        assert asked.fingerprint(tlp, split) != source.fingerprint(tlp, split)
    else:
        assert refusal(lambda: asked.read(tlp, split)).startswith(f"{path}:")
        assert asked.fingerprint(tlp, split) == source.fingerprint(tlp, split)
    said = refusal(lambda: source.read(tlp, split))
    assert said.startswith(f"{path}:") and "evaluate_zeroshot.py --submission" in said


def test_xquad_is_a_test_file(tmp_path):
    (tmp_path / "xquad").mkdir()
    (tmp_path / "xquad" / "xquad.en.json").write_text(squad([EMPTY], [EMPTY]))
    read = XtremeFolder(tmp_path, unlabelled=True).read(TLP("qa", "en"), "xquad")
    assert read.counts["unlabelled"] == 2
