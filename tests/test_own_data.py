"""--own-data: CSV and JSONL files of one's own, alone and beside another source."""

from __future__ import annotations

import csv
import json
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metatlp.data.own import OwnFolder, WithOwn, own_tlps, read_own
from metatlp.data.own_rows import ROW_FORMATS, pair_rows
from metatlp.data.records import Answer, Question, TaggedSentence, TextPair
from metatlp.data.xtreme import XtremeFolder
from metatlp.engine.arguments.data import DataArguments
from metatlp.engine.grid_data import open_source, source_grid
from metatlp.errors import InputError
from metatlp.grid import TLP, select, training_grid
from metatlp.tasks import TASKS

PAIRS = 'first,second,label\na,b,neutral\n"c, ""d""",,entailment\n'
TAGGED = "tags,words,source\nDET NOUN,the cat,me\nX,\u00a0,you\n"
ANSWERS = (
    'id,question,context,answer,answer_start\n1,who?,"a cat,\nthe dog",dog,11\n2,who?,a cat,cat,0\n'
)


def write(folder, **files):
    """`nli_sw__train__csv="..."` as nli_sw.train.csv."""
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_bytes(text.encode())
    return folder


def lines(*rows) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def refusal(action) -> str:
    with pytest.raises(InputError) as caught:
        action()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_pairs(tmp_path):
    expected = [TextPair("a", "b", "neutral"), TextPair('c, "d"', "", "entailment")]
    rows = [vars_of(pair) | {"source": 1} for pair in expected]
    own = OwnFolder(write(tmp_path, nli_sw__train__csv=PAIRS, nli_sw__dev__jsonl=lines(*rows)))
    for split in ("train", "dev"):
        read = own.read(TLP("nli", "sw"), split)
        assert read.examples == expected
        assert read.counts == {"read": 2, "texts_empty": 1}


def vars_of(pair):
    return {name: getattr(pair, name) for name in ("first", "second", "label")}


def test_tagged_sentences(tmp_path):
    expected = [
        TaggedSentence(("the", "cat"), ("DET", "NOUN")),
        TaggedSentence(("\u00a0",), ("X",)),
    ]
    rows = [
        {"words": ["the", "cat"], "tags": ["DET", "NOUN"]},
        {"words": ["Hà Nội"], "tags": ["X"]},
    ]
    own = OwnFolder(write(tmp_path, pos_xx__dev__csv=TAGGED, pos_xx__test__jsonl=lines(*rows)))
    assert own.read(TLP("pos", "xx"), "dev").examples == expected
    read = own.read(TLP("pos", "xx"), "test")
    assert read.examples == [expected[0], TaggedSentence(("Hà Nội",), ("X",))]
    assert read.counts == {"read": 2, "words_with_space": 1}


def test_questions_are_settled_as_in_squad(tmp_path):
    answers = [{"text": "cat", "start": 2}, {"text": "dog", "start": 0}, {"text": "", "start": -1}]
    row = {"id": "1", "question": "who?", "context": "a cat, the dog", "answers": answers}
    own = OwnFolder(write(tmp_path, qa_sw__test__csv=ANSWERS, qa_sw__xquad__jsonl=lines(row)))
    read = own.read(TLP("qa", "sw"), "test")
    assert read.examples == [
        Question("1", "who?", "a cat,\nthe dog", (Answer("dog", 11),)),
        Question("2", "who?", "a cat", (Answer("cat", 2),)),
    ]
    assert read.counts == {"read": 2, "answers_repaired": 1}
    read = own.read(TLP("qa", "sw"), "xquad")
    assert read.examples[0].answers == (Answer("cat", 2), Answer("dog", 11))
    assert read.counts == {"read": 1, "answers_repaired": 1, "answers_empty": 1}


TEXTS = st.text(
    st.one_of(st.sampled_from('",\n\t\u2028'), st.characters(exclude_categories=["Cs", "Cc"])),
    min_size=1,
    max_size=9,
)


@settings(max_examples=100, deadline=None)
@given(rows=st.lists(st.tuples(TEXTS, TEXTS, st.sampled_from("01")), min_size=1, max_size=5))
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_what_a_writer_wrote_comes_back(tmp_path_factory, kind, rows):
    path = tmp_path_factory.mktemp("own") / f"pa_xx.train.{kind}"
    names = ("first", "second", "label")
    if kind == "csv":
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([names, *rows])
    else:
        path.write_text(lines(*(dict(zip(names, row, strict=True)) for row in rows)), "utf-8")
    assert read_own(path, ROW_FORMATS["pa"]).examples == [TextPair(*row) for row in rows]


PAIR = {"first": "a", "second": "b", "label": "0"}
ASKED = {"id": "1", "question": "q", "context": "c", "answers": [{"text": "c", "start": 0}]}
HEAD = "first,second,label\n"
QA_HEAD = "id,question,context,answer,answer_start\n"
# Name, content, line, what the message says.
FAULTS = [
    ("pa_x.dev.csv", "", 1, "the file is empty"),
    ("pa_x.dev.csv", HEAD, 1, "no row below the header"),
    ("pa_x.dev.csv", "a,b,0\n", 1, "no column 'first'; the first line names the columns first,sec"),
    ("pa_x.dev.csv", "first;second;label\n", 1, "no column 'first'"),
    ("pa_x.dev.csv", "first,second,label,first\n", 1, "two columns have the same name"),
    ("pa_x.dev.csv", HEAD + "a,b,0\na,b\n", 3, "2 fields, but the header has 3"),
    ("pa_x.dev.csv", HEAD + "a,b,0\n\na,b,0\n", 3, "an empty line between rows"),
    ("pa_x.dev.csv", HEAD + 'a,"b\nc",0\na,"b,0\nc,d,1\n', 4, "quotes are not as CSV has them"),
    ("pa_x.dev.csv", HEAD + 'a,"b"c,0\n', 2, "quotes are not as CSV has them"),
    ("pa_x.dev.csv", HEAD + 'a,"b\n\nc",0\na,b,2\n', 5, "unknown label '2'; expected one of 0, 1"),
    ("pa_x.dev.csv", HEAD + ",,0\n", 2, "both texts are empty"),
    ("pa_x.dev.jsonl", lines(PAIR) + "{\n", 2, "not JSON: Expecting property name"),
    ("pa_x.dev.jsonl", lines(PAIR) + "\n" + lines(PAIR), 2, "an empty line between rows"),
    ("pa_x.dev.jsonl", lines([PAIR]), 1, "no object but"),
    ("pa_x.dev.jsonl", '{"first": "\\ud800", "second": "", "label": "0"}', 1, "not JSON: 'utf-8'"),
    ("pa_x.dev.jsonl", lines({"first": "a", "label": "0"}), 1, "no key 'second'; expected first"),
    ("pa_x.dev.jsonl", lines(PAIR | {"label": 0}), 1, "'label' is no text but '0'"),
    ("pos_x.dev.csv", "words,tags\na b,X\n", 2, "2 words, but 1 tags"),
    ("pos_x.dev.csv", "words,tags\na  b,X X X\n", 2, "'words' has an empty entry"),
    ("pos_x.dev.csv", "words,tags\na,_\n", 2, "unknown tag '_'; expected one of ADJ"),
    ("ner_x.dev.jsonl", lines({"words": [], "tags": []}), 1, "'words' is empty"),
    ("ner_x.dev.jsonl", lines({"words": [1], "tags": ["O"]}), 1, "'words' is no list of texts"),
    ("qa_x.dev.jsonl", lines(ASKED, ASKED), 2, "the id '1' stands in line 1 too"),
    ("qa_x.dev.jsonl", lines(ASKED | {"id": 1}), 1, "'id' is no text but '1'"),
    ("qa_x.dev.jsonl", lines(ASKED | {"answers": []}), 1, "the question of id '1' has no answer"),
    ("qa_x.dev.jsonl", lines(ASKED | {"answers": ["c"]}), 1, "'answers' is no list of"),
    (
        *("qa_x.dev.jsonl", lines(ASKED | {"answers": [{"text": "c", "start": "0"}]}), 1),
        "expected an integer",
    ),
    ("qa_x.dev.csv", QA_HEAD + "1,q,c,d,0\n", 2, "the answer 'd' stands neither at its start 0"),
    ("qa_x.dev.csv", QA_HEAD + "1,q,c,c,x\n", 2, "'answer_start' is no whole number but 'x'"),
    ("qa_x.dev.csv", QA_HEAD + "1,q,c,,-1\n", 2, "the question of id '1' has no answer"),
    ("qa_x.dev.csv", QA_HEAD + "1,,c,c,0\n", 2, "the question of id '1' is empty"),
]


@pytest.mark.parametrize(("name", "content", "line", "message"), FAULTS)
def test_a_fault_is_one_line_with_file_and_line(tmp_path, name, content, line, message):
    own = OwnFolder(write(tmp_path, **{name: content}))
    (tlp,) = own.tlps("dev")
    said = refusal(lambda: own.read(tlp, "dev"))
    assert said.startswith(f"{tmp_path / name}:{line}: ") and message in said


NAMED = "files are named TASK_LANG.SPLIT.csv or .jsonl, e.g. nli_sw.train.csv"


@pytest.mark.parametrize(
    "name",
    [
        *("nli.train.csv", "nli_sw.csv", "nli_sw.train.tsv", "nli_sw.train.CSV", "sent_en.dev.csv"),
        *("nli_sw.validation.csv", "nli_sw.xquad.csv", "nli_s_w.dev.csv", "nli_sw.dev.csv.gz"),
    ],
)
def test_another_file_name_is_refused_with_the_pattern(tmp_path, name):
    folder = write(tmp_path, nli_sw__train__csv=PAIRS, **{name: "x"})
    said = refusal(lambda: OwnFolder(folder))
    assert said.startswith(f"{tmp_path / name}: ") and NAMED in said


def test_what_a_folder_may_hold_besides_and_what_not(tmp_path):
    assert "cannot be listed" in refusal(lambda: OwnFolder(tmp_path / "none"))
    write(tmp_path, README__md="x", sentiment__py="x", **{".hidden": "x"})
    (tmp_path / "runs").mkdir()
    assert NAMED in refusal(lambda: OwnFolder(tmp_path))
    write(tmp_path, nli_sw__train__csv=PAIRS)
    own = OwnFolder(tmp_path)
    assert own.tlps("train") == [TLP("nli", "sw")] and own.tlps("dev") == []
    assert str(tmp_path / "nli_sw.dev.csv") in refusal(lambda: own.read(TLP("nli", "sw"), "dev"))
    write(tmp_path, nli_sw__train__jsonl=lines(PAIR))
    said = refusal(lambda: OwnFolder(tmp_path))
    assert "nli_sw.train.csv" in said and "nli_sw.train.jsonl" in said


def test_fingerprints_follow_the_content(tmp_path):
    tlp = TLP("nli", "sw")
    own = OwnFolder(write(tmp_path, nli_sw__train__csv=PAIRS, nli_sw__dev__csv=PAIRS))
    first = own.fingerprint(tlp, "train")
    assert first == own.fingerprint(tlp, "dev")
    write(tmp_path, nli_sw__train__csv=PAIRS.replace("a,b", "a,c"))
    os.utime(tmp_path / "nli_sw.train.csv", ns=(1, 1))
    assert own.fingerprint(tlp, "train") != first
    assert own.read(tlp, "train").examples[0].second == "c"


@pytest.fixture
def joined(tmp_path):
    root = tmp_path / "xtreme"
    for name, text in {
        "udpos/train-en.tsv": "a\tX\n",
        "udpos/test-xx.tsv": "a\tX\n",
        "udpos/train-te.tsv": "a\tX\n",
        "xnli/train-en.tsv": "a\tb\tneutral\n",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    own = write(tmp_path / "own", nli_sw__train__csv=PAIRS, pos_xx__dev__csv=TAGGED)
    return XtremeFolder(root), OwnFolder(own)


def names(tlps) -> str:
    return " ".join(map(str, tlps))


def test_joined_with_another_source(joined):
    base, own = joined
    both = WithOwn(base, own)
    assert names(both.tlps("train")) == "nli_en nli_sw pos_en pos_te"
    assert names(both.tlps("dev")) == names(both.tlps("test")) == "pos_xx"
    assert len(both.read(TLP("nli", "sw"), "train").examples) == 2
    assert len(both.read(TLP("nli", "en"), "train").examples) == 1
    xx = TLP("pos", "xx")
    assert both.fingerprint(xx, "dev") == own.fingerprint(xx, "dev")
    assert both.fingerprint(xx, "test") == base.fingerprint(xx, "test")
    assert both.describe() == f"XTREME folder {base.root}, and own data in {own.root}"
    assert "no xquad data for pos_xx in XTREME" in refusal(lambda: both.read(xx, "xquad"))


def test_both_with_the_same_split_are_an_error_naming_both(joined):
    base, own = joined
    write(own.root, pos_xx__test__csv=TAGGED)
    said = refusal(lambda: WithOwn(base, OwnFolder(own.root)))
    assert str(own.root / "pos_xx.test.csv") in said and str(base.root) in said and "pos_xx" in said


def test_own_tlps_train_whatever_the_languages(joined):
    base, own = joined
    both = WithOwn(base, own)
    assert own_tlps(both, "train") == [TLP("nli", "sw")] and own_tlps(base, "train") == []
    assert names(source_grid(both, "paper").tlps) == "nli_en nli_sw pos_en"
    assert names(source_grid(both, "te").tlps) == "nli_sw pos_te"
    assert names(source_grid(both, "all").tlps) == "nli_en nli_sw pos_en pos_te"
    assert names(source_grid(WithOwn(None, own), "paper").tlps) == "nli_sw"
    assert names(select(source_grid(both, "paper"), "lang:sw").tlps) == "nli_sw"
    assert names(select(source_grid(both, "paper"), "task:nli").tlps) == "nli_en nli_sw"
    assert "no TLP left" in refusal(lambda: training_grid([TLP("pos", "te")]))


def test_the_flags_say_which_source(joined, tmp_path):
    base, own = joined

    def opened(**flags):
        return open_source(DataArguments(cache_dir=str(tmp_path / "cache"), **flags), print)

    alone = opened(own_data=str(own.root))
    assert alone.describe() == f"own data in {own.root}"
    assert opened(own_data=str(own.root), data="own").describe() == alone.describe()
    both = opened(own_data=str(own.root), data_dir=str(base.root))
    assert names(both.tlps("train")) == "nli_en nli_sw pos_en pos_te"
    assert opened(data_dir=str(base.root)).describe() == base.describe()
    assert "--data own needs --own-data" in refusal(lambda: DataArguments(data="own"))


def test_row_formats_are_those_of_the_tasks():
    assert list(ROW_FORMATS) == list(TASKS)
    rows = pair_rows(("yes", "no"))
    assert rows.json_keys == rows.columns == ("first", "second", "label")
