"""What the file readers read: small files worked out by hand, then a round trip."""

import csv
import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metatlp.data.json_place import line_of
from metatlp.data.records import Answer, Question, TaggedSentence, TextPair
from metatlp.data.squad import read_squad
from metatlp.data.tsv import NER_TAGS, NLI_LABELS, PA_LABELS, POS_TAGS, read_pairs, read_tagged

ZERO_WIDTH = "\u200d\u200c"


@pytest.fixture
def written(tmp_path):
    def write(content: str | bytes):
        path = tmp_path / "file"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


def sentence(*pairs: str) -> TaggedSentence:
    words, tags = zip(*(pair.rsplit("/", 1) for pair in pairs), strict=True)
    return TaggedSentence(words, tags)


def test_tagged_sentences(written):
    result = read_tagged(written("The\tDET\ncat\tNOUN\n\nSleep\tVERB\n!\tPUNCT\n\n"), POS_TAGS)
    assert result.examples == [sentence("The/DET", "cat/NOUN"), sentence("Sleep/VERB", "!/PUNCT")]
    assert result.counts == {"read": 2}


def test_tagged_words_are_not_quoted_and_may_be_anything_but_spaces(written):
    words = ['"', "'", "#", "a:b", "\u00a0", "\u3000", ZERO_WIDTH, "\u00ad", "_", '"x', "\u2028"]
    text = "".join(f"{word}\tO\n" for word in words)
    assert read_tagged(written(text), NER_TAGS).examples == [
        TaggedSentence(tuple(words), ("O",) * len(words))
    ]


@pytest.mark.parametrize("ending", ["", "\n", "\n\n", "\n\n\n\n"])
def test_tagged_last_sentence_needs_no_blank_line(written, ending):
    result = read_tagged(written("a\tO\n\nb\tO" + ending), NER_TAGS)
    assert result.examples == [sentence("a/O"), sentence("b/O")]
    assert result.counts == {"read": 2}


def test_tagged_blank_lines_beyond_one_are_counted(written):
    result = read_tagged(written("\na\tO\n\n\n\nb\tO\n"), NER_TAGS)
    assert result.counts == {"read": 2, "blank_lines": 3}


def test_tagged_crlf(written):
    assert read_tagged(written("a\tO\r\n\r\nb\tO\r\n"), NER_TAGS).counts == {"read": 2}


def test_tagged_unspecified_is_x_and_counted(written):
    result = read_tagged(written("_\tNOUN\ndu\t_\n\nx\t_"), POS_TAGS)
    assert result.examples == [sentence("_/NOUN", "du/X"), sentence("x/X")]
    assert result.counts == {"read": 2, "tags_unspecified": 2}


def test_byte_order_mark_is_taken_out_and_counted(written):
    result = read_tagged(written("\ufeffa\tO\n\ufeffb\tO\n"), NER_TAGS)
    assert result.examples == [sentence("a/O", "\ufeffb/O")]
    assert result.counts == {"read": 1, "byte_order_mark": 1}


def test_a_first_word_that_is_a_byte_order_mark_stays(written):
    result = read_tagged(written("\ufeff\tO\nb\tO\n"), NER_TAGS)
    assert result.examples == [sentence("\ufeff/O", "b/O")]
    assert result.counts == {"read": 1}


def test_pairs_with_csv_quoting(written):
    text = 'a b\tc\tneutral\r\n"He said ""no"""\t"""x"""\tentailment\r\n'
    assert read_pairs(written(text), NLI_LABELS).examples == [
        TextPair("a b", "c", "neutral"),
        TextPair('He said "no"', '"x"', "entailment"),
    ]


@pytest.mark.parametrize("text", ["a\tb\t1", "a\tb\t1\n", "a\tb\t1\r\n", "a\tb\t1\r\n\r\n"])
def test_pairs_line_ends(written, text):
    assert read_pairs(written(text), PA_LABELS).examples == [TextPair("a", "b", "1")]


def test_pairs_quote_inside_a_bare_field_and_tab_inside_quotes(written):
    text = '5" pipe\t"a\tb"\t0\n'
    assert read_pairs(written(text), PA_LABELS).examples == [TextPair('5" pipe', "a\tb", "0")]


def test_pairs_line_separators_of_unicode_end_no_row(written):
    text = "a\u2028b\u0085c\tx\x0by\t0\n"
    assert read_pairs(written(text), PA_LABELS).examples == [
        TextPair("a\u2028b\u0085c", "x\x0by", "0")
    ]


def test_pairs_without_translation_are_kept_and_counted(written):
    result = read_pairs(written("NS\tx\t0\nx\tNS\t0\nNSA\tx\t1\n"), PA_LABELS)
    assert len(result.examples) == 3
    assert result.counts == {"read": 3, "ns_rows": 2}


@pytest.mark.parametrize(
    "text",
    [
        "a\tb\t1\n\t\t0\nc\td\t0\n",
        'a\tb\t1\r\n""\t""\t0\r\nc\td\t0\r\n',
        "x\ty\ta\tb\t1\nx\ty\t\t\t0\nx\ty\tc\td\t0\n",
        '"x\ty\ta\tb\t1\nx\ty\t\t\t0\nx\ty\tc\td\t0\n',
    ],
    ids=["three columns", "quoted", "five columns", "five columns without quoting"],
)
def test_pawsx_pairs_without_both_texts_are_left_out_and_counted(written, text):
    result = read_pairs(written(text), PA_LABELS)
    assert result.examples == [TextPair("a", "b", "1"), TextPair("c", "d", "0")]
    verbatim = {"rows_verbatim": 1} if text.startswith('"') else {}
    assert result.counts == {"read": 2, "pairs_empty": 1} | verbatim


def test_pairs_multinli_spellings(written):
    text = "a\tb\tcontradictory\nc\td\t-\ne\tf\tcontradiction\n\tg\tneutral\n"
    result = read_pairs(written(text), NLI_LABELS)
    assert [pair.label for pair in result.examples] == ["contradiction", "contradiction", "neutral"]
    assert result.counts == {
        "read": 3,
        "labels_respelled": 1,
        "rows_without_label": 1,
        "texts_empty": 1,
    }


def test_five_columns_take_the_translation(written):
    text = 'en1\ten2\tde1\t"de ""2"""\t1\nen3\ten4\tde3\tde4\t0\n'
    assert read_pairs(written(text), PA_LABELS).examples == [
        TextPair("de1", 'de "2"', "1"),
        TextPair("de3", "de4", "0"),
    ]


@pytest.mark.parametrize("stray", ['"open', '"a" b', '"""'])
def test_five_columns_without_quoting_are_read_as_they_stand(written, stray):
    text = f'en1\ten2\t{stray}\tde2\t1\nen3\ten4\t"x"\tde4\t0\n'
    result = read_pairs(written(text), PA_LABELS)
    assert result.examples == [TextPair(stray, "de2", "1"), TextPair('"x"', "de4", "0")]
    assert result.counts == {"read": 2, "rows_verbatim": 2}


TEXTS = st.text(
    st.one_of(
        st.sampled_from('"\t\', \u200d\u2028\x0b"'), st.characters(exclude_categories=["Cs", "Cc"])
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=200, deadline=None)
@given(rows=st.lists(st.tuples(TEXTS, TEXTS, st.sampled_from(PA_LABELS)), min_size=1, max_size=6))
def test_pairs_written_by_a_csv_writer_come_back(tmp_path_factory, rows):
    rows = [("." + rows[0][0], *rows[0][1:]), *rows[1:]]  # a mark at the start would be taken out
    path = tmp_path_factory.mktemp("pairs") / "file.tsv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter="\t").writerows(rows)
    assert read_pairs(path, PA_LABELS).examples == [TextPair(*row) for row in rows]


WORDS = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zs"]), min_size=1, max_size=6)


@settings(max_examples=100, deadline=None)
@given(
    sentences=st.lists(
        st.lists(st.tuples(WORDS, st.sampled_from(NER_TAGS)), min_size=1, max_size=5),
        min_size=1,
        max_size=4,
    )
)
def test_tagged_sentences_come_back(tmp_path_factory, sentences):
    sentences = [[("start", "O")], *sentences]
    path = tmp_path_factory.mktemp("tagged") / "file.tsv"
    blocks = ("".join(f"{word}\t{tag}\n" for word, tag in block) for block in sentences)
    path.write_bytes("\n".join(blocks).encode())
    expected = [TaggedSentence(*zip(*block, strict=True)) for block in sentences]
    assert read_tagged(path, NER_TAGS).examples == expected


def test_a_file_of_multinli_size_reads_in_seconds(written):

    path = written('Well, that was it.\t"He said ""no"" twice, and left."\tneutral\r\n' * 400_000)
    start = time.perf_counter()
    assert read_pairs(path, NLI_LABELS).counts["read"] == 400_000
    assert time.perf_counter() - start < 20


CONTEXT = "the cat saw the dog and the bird"  # "the" at 0, 12, 24


def squad(*entries: dict, context: str = CONTEXT) -> str:
    return json.dumps({"data": [{"paragraphs": [{"context": context, "qas": list(entries)}]}]})


def asked(*answers: tuple[str, int], name: str = "q1", **more) -> dict:
    listed = [{"text": text, "answer_start": start} for text, start in answers]
    return {"id": name, "question": "who?", "answers": listed, **more}


def test_question(written):
    result = read_squad(written(squad(asked(("cat", 4), ("the cat", 0)))))
    assert result.examples == [
        Question("q1", "who?", CONTEXT, (Answer("cat", 4), Answer("the cat", 0)))
    ]
    assert result.counts == {"read": 1}


@pytest.mark.parametrize(
    ("stated", "settled"),
    [(1, 0), (6, 0), (7, 12), (11, 12), (12, 12), (13, 12), (23, 24), (10**9, 24), (-1, 0)],
)
def test_an_answer_elsewhere_moves_to_the_nearest_place(written, stated, settled):
    result = read_squad(written(squad(asked(("the", stated)))))
    assert result.examples[0].answers == (Answer("the", settled),)
    assert result.counts["answers_repaired"] == (stated != settled)


def test_overlapping_occurrences_are_found(written):
    result = read_squad(written(squad(asked(("aa", 0)), context="baaaa")))
    assert result.examples[0].answers == (Answer("aa", 1),)


def test_answers_left_out_are_counted(written):
    entry = asked(("", -1), ("cow", -1), ("cow", 3), (" ", 3), ("dog", 16))
    result = read_squad(written(squad(entry)))
    assert result.examples[0].answers == (Answer("dog", 16),)
    assert result.counts == {"read": 1, "answers_empty": 2, "answers_not_in_context": 2}


def test_questions_without_answer_are_left_out_and_counted(written):
    entries = [
        asked(name="none"),
        asked(("", -1), name="empty"),
        asked(("cat", 4), name="no", is_impossible=True),
        asked(("cat", 4), name="yes", is_impossible=False),
    ]
    result = read_squad(written(squad(*entries)))
    assert [question.id for question in result.examples] == ["yes"]
    assert result.counts == {
        "read": 1,
        "questions_dropped": 2,
        "questions_impossible": 1,
        "answers_empty": 1,
    }


def test_ids_may_repeat(written):
    result = read_squad(written(squad(*[asked(("cat", 4))] * 3)))
    assert result.counts == {"read": 3, "duplicate_ids": 2}


def test_blank_questions_are_counted_and_spaces_in_answers_stay(written):
    result = read_squad(written(squad(asked((" cat", 3)) | {"question": " "})))
    assert result.examples[0].answers == (Answer(" cat", 3),)
    assert result.counts == {"read": 1, "questions_blank": 1}


def test_starts_count_characters_not_bytes_or_utf16_units(written):
    result = read_squad(written(squad(asked(("x", 3)), context="\U0001f600é x")))
    assert result.counts == {"read": 1}


def test_json_with_byte_order_mark_and_without_escapes(written):
    text = "\ufeff" + squad(asked(("cät", 0)), context="cät").replace("\\u00e4", "ä")
    assert read_squad(written(text)).counts == {"read": 1, "byte_order_mark": 1}


def test_line_of_a_place_in_json():
    text = '{\n "a": [1,\n  {"x\\"]": "}",\n  "b": [\n   10,\n   20]}],\n "c": 3}'
    document = json.loads(text)
    assert document["a"][1]["b"][1] == 20
    assert line_of(text, ()) == 1
    assert line_of(text, ("a",)) == 2
    assert line_of(text, ("a", 1)) == 3
    assert line_of(text, ("a", 1, "b", 1)) == 6
    assert line_of(text, ("a", 1, "gone")) == 3
    assert line_of(text, ("a", 7)) == 2
    assert line_of(text, ("c", "gone", 4)) == 7
