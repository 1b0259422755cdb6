"""Broken files: each is refused with one line that names the file and the line, never a traceback.

A case is the content of the file, the line the error must name, and a part of its message.
"""

import gzip
import json

import pytest

from metatlp.data.squad import read_squad
from metatlp.data.tsv import NER_TAGS, NLI_LABELS, PA_LABELS, POS_TAGS, read_pairs, read_tagged
from metatlp.errors import InputError

ANY_FORMAT = {
    "empty file": (b"", 1, "empty"),
    "only newlines": (b"\n\n\n", 1, "empty"),
    "only CRLF": (b"\r\n\r\n", 1, "empty"),
    "only spaces": (b"  \n\t\n", 1, "empty"),
    "only a byte order mark": (b"\xef\xbb\xbf", 1, "empty"),
    "gzip": (gzip.compress(b"a\tO\n"), 1, "gzip"),
    "zip": (b"PK\x03\x04rest", 1, "zip"),
    "UTF-16": ("a\tO\n".encode("utf-16"), 1, "not UTF-8"),
    "Latin-1 on line 2": (b"a\tO\nb\xe4r\tO\n", 2, "not UTF-8 (byte 0xe4)"),
    "surrogate in UTF-8": (b"a\tO\n\xed\xa0\x80\tO\n", 2, "not UTF-8"),
    "cut inside a character": (b"a\tO\nb\xc3", 2, "not UTF-8"),
    "NUL on line 2": (b"a\tO\nb\x00\tO\n", 2, "NUL"),
    "CR only": (b"a\tO\rb\tO\r", 1, "CR without LF"),
    "CR inside line 2": (b"a\tO\r\nb\r\tO\r\n", 2, "CR without LF"),
}

TAGGED = {
    "word without tag": (b"a\tO\nb\n", 2, "has no tag"),
    "cut after the word": (b"a\tO\n\nb\tO\nInst", 4, "has no tag"),
    "cut inside the tag": (b"a\tO\nb\tB-P", 2, "unknown tag 'B-P'"),
    "cut after the tab": (b"a\tO\nb\t", 2, "unknown tag ''"),
    "spaces for the tab": (b"a\tO\nb O\n", 2, "has no tag"),
    "three columns": (b"a\tO\nb\tO\tO\n", 2, "3 columns, expected 2"),
    "line of CoNLL-U": (b"1\ta\ta\tNOUN\n", 1, "4 columns, expected 2"),
    "comment of CoNLL-U": (b"a\tO\n\n# sent_id = 2\nb\tO\n", 3, "has no tag"),
    "empty word": (b"a\tO\n\tO\n", 2, "empty"),
    "only a tab": (b"a\tO\n\t\nb\tO\n", 2, "empty"),
    "line of spaces between sentences": (b"a\tO\n \nb\tO\n", 2, "has no tag"),
    "space in the word": (b"a\tO\nNew York\tO\n", 2, "a space in the word"),
    "space before the word": (b"a\tO\n b\tO\n", 2, "a space in the word"),
    "space after the tag": (b"a\tO\nb\tO \n", 2, "unknown tag 'O '"),
    "tag of another task": (b"a\tO\nb\tNOUN\n", 2, "unknown tag 'NOUN'"),
    "tag in lower case": (b"a\to\n", 1, "unknown tag 'o'"),
    "tag of another scheme": (b"a\tS-PER\n", 1, "unknown tag 'S-PER'"),
    "unspecified tag in NER": (b"a\tO\nb\t_\n", 2, "unknown tag '_'"),
    "header line": (b"word\ttag\na\tO\n", 1, "unknown tag 'tag'"),
    "quoted fields": (b'"a"\t"O"\n', 1, "unknown tag"),
    "raw WikiAnn": (b"en:a\tO\nen:b\tO\n\nen:c\tO\n", 1, "raw WikiAnn"),
    "JSON": (b'{"data": []}', 1, "has no tag"),
    "hidden labels of XTREME": (b"a\nb\n\nc\n", 1, "XTREME hides its test labels"),
}

PAIRS = {
    "two columns": (b"a\tb\t0\na\tb\n", 2, "2 columns, expected 3"),
    "hidden labels of XTREME": (b"a\tb\r\nc\td\r\n", 1, "XTREME hides its test labels"),
    "four columns": (b"a\tb\tc\t0\n", 1, "4 columns, expected 3"),
    "six columns": (b"a\tb\tc\td\te\t0\n", 1, "6 columns, expected 3"),
    "fourth column in row 2": (b"a\tb\t0\na\tb\tc\t0\n", 2, "4 columns, expected 3"),
    "row of three among five": (b"a\tb\tc\td\t0\nc\td\t1\n", 2, "3 columns, expected 5"),
    "cut row": (b"a\tb\t0\r\nAnd th", 2, "1 columns, expected 3"),
    "cut before the label": (b"a\tb\t0\r\na\tb\t", 2, "unknown label ''"),
    "commas for tabs": (b"a,b,0\n", 1, "1 columns, expected 3"),
    "blank line between rows": (b"a\tb\t0\n\nc\td\t1\n", 2, "an empty line"),
    "blank line at the start": (b"\na\tb\t0\n", 1, "an empty line"),
    "unclosed quote": (b'a\t"b\t0\nc\td\t1\n', 1, "quotes are not as CSV has them"),
    "unclosed quote in the last row": (b'a\tb\t0\n"c\td\t1', 2, "quotes are not as CSV has them"),
    "quote closed on the next line": (b'a\t"b\nc"\t0\n', 1, "quotes are not as CSV has them"),
    "text after the closing quote": (b'"a" b\tc\t0\n', 1, "quotes are not as CSV has them"),
    "quotes not doubled": (b'"a "b" c"\td\t0\n', 1, "quotes are not as CSV has them"),
    "field over the limit of CSV": (b'"' + b"a" * 200_000 + b'"\tb\t0\n', 1, "field limit"),
    "header line": (b"sentence1\tsentence2\tlabel\na\tb\t0\n", 1, "a header line?"),
    "label 2": (b"a\tb\t0\na\tb\t2\n", 2, "unknown label '2'; expected one of 0, 1"),
    "label with a space": (b"a\tb\t0\na\tb\t1 \n", 2, "unknown label '1 '"),
    "label of NLI": (b"a\tb\tneutral\n", 1, "unknown label 'neutral'"),
    "no label, as in MultiNLI": (b"a\tb\t-\n", 1, "unknown label '-'"),
    "only rows without texts": (b"\t\t0\n\t\t1\n", 2, "no row of the file has texts"),
    "row without texts and label": (b"a\tb\t0\n\t\t\n", 2, "unknown label ''"),
    "row of spaces without a label": (b"a\tb\t0\n \t \t\n", 2, "unknown label ''"),
    "tagged file": (b"a\tO\n", 1, "2 columns, expected 3"),
}


def document(**entry) -> dict:
    """A SQuAD document of one good question, with the entry's keys replaced (`...`: removed)."""
    good = {"id": "q7", "question": "who?", "answers": [{"text": "cat", "answer_start": 4}]}
    entry = {key: value for key, value in (good | entry).items() if value is not ...}
    return {"data": [{"title": "t", "paragraphs": [{"context": "the cat", "qas": [entry]}]}]}


def answer(**changed) -> dict:
    good = {"text": "cat", "answer_start": 4}
    kept = {key: value for key, value in (good | changed).items() if value is not ...}
    return document(answers=[kept])


def paragraph(**changed) -> dict:
    broken = document()
    first = broken["data"][0]["paragraphs"][0]
    broken["data"][0]["paragraphs"][0] = {k: v for k, v in (first | changed).items() if v != ...}
    return broken


def start_of(written: str) -> bytes:
    return json.dumps(answer(answer_start=12345)).replace("12345", written).encode()


QA = "data[0].paragraphs[0].qas[0]"
LINES = b'{"data": [\n{"paragraphs": [\n{"context": "the cat", "qas": [\n%s]}]}]}'
DEEP = b'{"data": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"

# The line is 1 unless given: json.dumps writes one line.
JSON = {
    "not JSON": (b"data", "not JSON"),
    "cut": (json.dumps(document()).encode()[:-9], "not JSON"),
    "cut inside a string": (json.dumps(document()).encode()[:60], "not JSON"),
    "two documents": (b'{"data": []}\n{"data": []}', 2, "not JSON: Extra data"),
    "trailing comma": (b'{"data":\n[1,]}', 2, "not JSON"),
    "raw line end in a string": (b'{"data": [\n"a\nb"]}', 2, "not JSON"),
    "tagged file": (b"a\tO\n", "not JSON"),
    "nested too deeply": (DEEP, "recursion"),
    "integer of 5000 digits": (start_of("1" * 5000), "digits"),
    "null": (b"null", "expected an object, found null"),
    "list at the root": (b"[]", "expected an object, found a list"),
    "no data": (b'{"version": "1.1"}', "'data' is missing"),
    "data is an object": (b'{"data": {}}', "data: expected a list, found an object"),
    "no article": (b'{"data": []}', "no question has an answer"),
    "no paragraph": (b'{"data": [{"paragraphs": []}]}', "no question has an answer"),
    "article is a string": (b'{"data": ["x"]}', "data[0]: expected an object, found a string"),
    "article without paragraphs": (b'{"data": [{}]}', "data[0]: 'paragraphs' is missing"),
    "paragraphs is null": (b'{"data": [{"paragraphs": null}]}', "data[0].paragraphs: expected"),
    "paragraph is a list": (b'{"data": [{"paragraphs": [[]]}]}', "data[0].paragraphs[0]: expected"),
    "context missing": (paragraph(context=...), "data[0].paragraphs[0]: 'context' is missing"),
    "context is a number": (paragraph(context=3), ".context: expected a string, found an integer"),
    "context empty": (paragraph(context=""), "the context of id 'q7' is empty"),
    "qas missing": (paragraph(qas=...), "data[0].paragraphs[0]: 'qas' is missing"),
    "qas is a string": (paragraph(qas="x"), ".qas: expected a list, found a string"),
    "qas holds a number": (paragraph(qas=[1]), f"{QA}: expected an object"),
    "id missing": (document(id=...), f"{QA}: 'id' is missing"),
    "id is a number": (document(id=7), f"{QA}.id: expected a string"),
    "question missing": (document(question=...), "'question' is missing"),
    "question is null": (document(question=None), "expected a string, found null"),
    "question empty": (document(question=""), "the question of id 'q7' is empty"),
    "answers missing": (document(answers=...), "'answers' is missing"),
    "answers is an object": (document(answers={}), "expected a list, found an object"),
    "answer is a string": (document(answers=["cat"]), f"{QA}.answers[0]: expected an object"),
    "answer text missing": (answer(text=...), f"{QA}.answers[0]: 'text' is missing"),
    "answer text is a number": (answer(text=4), "answers[0].text: expected a string"),
    "start missing": (answer(answer_start=...), "'answer_start' is missing"),
    "start is a string": (answer(answer_start="4"), "expected an integer, found a string"),
    "start is null": (answer(answer_start=None), "expected an integer, found null"),
    "start is 4.0": (start_of("4.0"), "expected an integer, found the number 4.0"),
    "start is true": (start_of("true"), "expected an integer, found true"),
    "start is NaN": (start_of("NaN"), "expected an integer, found the number nan"),
    "start is 1e3": (start_of("1e3"), "expected an integer"),
    "start is -2": (start_of("-2"), "the start -2 is negative"),
    "is_impossible is a string": (document(is_impossible="no"), "neither true nor false"),
    "answer not in the context": (answer(text="cow"), "id 'q7': the answer 'cow' stands neither"),
    "answer not found, start -1": (answer(text="cow", answer_start=-1), "its start -1"),
    "answer of another case": (answer(text="Cat"), "id 'q7': the answer 'Cat'"),
    "answer past a huge start": (answer(text="dog", answer_start=10**15), "id 'q7'"),
    "answer longer than the context": (answer(text="cat and more"), "id 'q7'"),
    "only hidden answers": (answer(text="", answer_start=0), "XTREME hides its test labels"),
    "only an impossible question": (document(is_impossible=True), "no question has an answer"),
    "half a surrogate pair": (paragraph(context="the cat \ud83d"), "surrogate pair (\\ud83d)"),
    "half a pair in the question": (document(question="\udc00?"), "surrogate pair (\\udc00)"),
    "line end in an unknown answer": (answer(text="c\na\u2028t"), "'c\\na\\u2028t'"),
    "third line of four": (
        LINES % b'{"id": "x", "question": "?", "answers": 3}',
        4,
        f"{QA}.answers: expected a list",
    ),
}


def filled(case: tuple) -> tuple[bytes, int, str]:
    content, *line, message = case
    if isinstance(content, dict):
        content = json.dumps(content).encode()
    return content, *(line or [1]), message


def cases(table: dict) -> list:
    return [pytest.param(*filled(case), id=name) for name, case in table.items()]


def check(read, labels: tuple, path, content: bytes, line: int, message: str) -> None:
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read(path, *labels)
    text = str(caught.value)
    assert text.startswith(f"{path}:{line}: ")
    assert message in text
    assert len(text.splitlines()) == 1 and text.isprintable()
    assert len(text) < 600


@pytest.mark.parametrize(("content", "line", "message"), cases(ANY_FORMAT))
@pytest.mark.parametrize(
    ("read", "labels"),
    [
        pytest.param(read_tagged, (NER_TAGS,), id="tagged"),
        pytest.param(read_pairs, (PA_LABELS,), id="pairs"),
        pytest.param(read_squad, (), id="squad"),
    ],
)
def test_any_format(tmp_path, read, labels, content, line, message):
    check(read, labels, tmp_path / "train-en.tsv", content, line, message)


@pytest.mark.parametrize(("content", "line", "message"), cases(TAGGED))
def test_tagged(tmp_path, content, line, message):
    check(read_tagged, (NER_TAGS,), tmp_path / "train-en.tsv", content, line, message)


@pytest.mark.parametrize(("content", "line", "message"), cases(PAIRS))
def test_pairs(tmp_path, content, line, message):
    check(read_pairs, (PA_LABELS,), tmp_path / "train-en.tsv", content, line, message)


@pytest.mark.parametrize(("content", "line", "message"), cases(JSON))
def test_squad(tmp_path, content, line, message):
    check(read_squad, (), tmp_path / "train-v1.1.json", content, line, message)


def test_pos_refuses_tags_of_another_tag_set(tmp_path):
    content = b"a\tNOUN\nb\tCONJ\n"
    check(read_tagged, (POS_TAGS,), tmp_path / "x.tsv", content, 2, "unknown tag 'CONJ'")


def test_nli_without_any_label(tmp_path):
    content = b"a\tb\t-\nc\td\t-\n"
    check(read_pairs, (NLI_LABELS,), tmp_path / "x.tsv", content, 2, "no row of the file")


@pytest.mark.parametrize("row", ["\t\tneutral", '""\t""\tneutral', "\t\t-", "a\tb\t\t\tneutral"])
def test_nli_without_both_texts(tmp_path, row):
    good = "\t".join(["c", "d"] * (row.count("\t") // 2))
    content = f"{good}\tneutral\n{row}\n".encode()
    check(read_pairs, (NLI_LABELS,), tmp_path / "x.tsv", content, 2, "both texts are empty")


@pytest.mark.parametrize("read", [read_squad, lambda path: read_tagged(path, NER_TAGS)])
@pytest.mark.parametrize("kind", ["missing", "directory"])
def test_files_that_cannot_be_read(tmp_path, read, kind):
    path = tmp_path / "train-en.tsv"
    if kind == "directory":
        path.mkdir()
    with pytest.raises(InputError) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}: cannot be read (")


def test_every_cut_of_a_good_file_is_read_or_refused(tmp_path):
    """A cut is refused, or what was read is a beginning of the whole."""
    whole = {
        read_tagged: 'the\tDET\n"\tPUNCT\n\ncät\tNOUN\n\nx\tX\n'.encode(),
        read_pairs: 'a "b"\tc\tneutral\r\n"x ""é"""\ty\tentailment\r\n'.encode(),
        read_squad: json.dumps(document(), indent=1, ensure_ascii=False).encode(),
    }
    labels = {read_tagged: (POS_TAGS,), read_pairs: (NLI_LABELS,), read_squad: ()}
    path = tmp_path / "file"
    for read, content in whole.items():
        path.write_bytes(content)
        full = read(path, *labels[read]).examples
        for size in range(len(content)):
            path.write_bytes(content[:size])
            try:
                cut = read(path, *labels[read]).examples
            except InputError as error:
                assert str(error).startswith(f"{path}:")
            else:
                words = [getattr(example, "words", (example,)) for example in cut]
                whole_words = [getattr(example, "words", (example,)) for example in full]
                assert words[:-1] == whole_words[: len(words) - 1]
                assert words[-1] == whole_words[len(words) - 1][: len(words[-1])]
