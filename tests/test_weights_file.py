"""`--weights-file`: both forms, and every way of getting them wrong."""

import pytest

from metatlp.engine.arguments.weights import read_weights
from metatlp.errors import InputError

NAMES = ("pos_hi", "ner_en", "qa_de")


def written(folder, name, content):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("w.json", '{"qa_de": 0, "pos_hi": 2.0, "ner_en": 1e-3}'),
        ("w.txt", '\n {"qa_de": 0, "pos_hi": 2.0, "ner_en": 1e-3}'),
        ("w.tsv", "qa_de\t0\npos_hi\t2\nner_en\t0.001\n"),
        ("w.weights", "\n\nqa_de\t0\r\npos_hi\t 2.0 \r\n\r\nner_en\t1e-3"),
        ("w.tsv", b"\xef\xbb\xbfqa_de\t0\npos_hi\t2\nner_en\t0.001"),
    ],
)
def test_both_forms_in_the_order_of_the_names(tmp_path, name, content):
    assert read_weights(written(tmp_path, name, content), NAMES) == [2.0, 0.001, 0.0]


GOOD = "pos_hi\t1\nner_en\t1\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", ":1: the file is empty"),
        (" \n\n", ":1: the file is empty"),
        (b"pos_hi\t1\nner_en\t\xff\n", ":2: not UTF-8"),
        (GOOD, ": no weight for qa_de"),
        ("qa_de\t1", ": no weight for pos_hi, ner_en"),
        (GOOD + "qa_de 1", ":3: 1 columns, expected 2, name<TAB>weight: 'qa_de 1'"),
        (GOOD + "qa_de\t1\t1", ":3: 3 columns, expected 2"),
        (GOOD + "\nqa_de\tone", ":4: the weight must be a finite number >= 0, not 'one'"),
        (GOOD + "qa_de\t", ":3: the weight must be a finite number >= 0, not ''"),
        (GOOD + "qa_de\t-1", ":3: the weight must be a finite number >= 0, not '-1'"),
        (GOOD + "qa_de\tnan", ":3: the weight must be a finite number"),
        (GOOD + "qa_de\tinf", ":3: the weight must be a finite number"),
        (GOOD + "pos_hi\t1", ":3: 'pos_hi' has a weight already"),
        (GOOD + "qa_fr\t1", ":3: 'qa_fr' is not among the selected TLPs (pos_hi, ner_en, qa_de)"),
        ("name\tweight\n" + GOOD, ":1: 'name' is not among the selected TLPs"),
        ("pos_hi\t0\nner_en\t0\nqa_de\t-0.0", ": all weights are 0"),
    ],
)
def test_malformed_tsv(tmp_path, content, message):
    path = written(tmp_path, "w.tsv", content)
    with pytest.raises(InputError) as caught:
        read_weights(path, NAMES)
    assert str(caught.value).startswith(f"{path}{message}")
    assert "\n" not in str(caught.value)


START = '{"pos_hi": 1,\n "ner_en": 1'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (START, ":2: not JSON (Expecting ',' delimiter)"),
        (START + ",}", ":2: not JSON"),
        ("pos_hi\t1", ":1: not JSON"),
        ("[1, 2, 3]", ":1: not a JSON object like"),
        ("3", ":1: not a JSON object like"),
        ("[" * 200_000, ":1: not readable as JSON"),
        (START + ', "qa_de": ' + "9" * 5000 + "}", ":1: not readable as JSON"),
        (START + "}", ": no weight for qa_de"),
        (START + ', "qa_de": "one"}', ": key 'qa_de': the weight must be a finite number >= 0"),
        (START + ', "qa_de": -1}', ": key 'qa_de': the weight must be a finite number >= 0"),
        (START + ', "qa_de": NaN}', ": key 'qa_de': the weight must be a finite number"),
        (START + ', "qa_de": Infinity}', ": key 'qa_de': the weight must be a finite number"),
        (START + ', "qa_de": 1' + "0" * 400 + "}", ": key 'qa_de': the weight must be a finite"),
        (START + ', "qa_de": true}', ": key 'qa_de': the weight must be a finite number"),
        (START + ', "qa_de": null}', ": key 'qa_de': the weight must be a finite number"),
        (START + ', "qa_de": {"a": 1}}', ": key 'qa_de': the weight must be a finite number"),
        (START + ', "ner_en": 2}', ": key 'ner_en': 'ner_en' has a weight already"),
        (START + ', "QA_de": 2}', ": key 'QA_de': 'QA_de' is not among the selected TLPs"),
        ('{"pos_hi": 0, "ner_en": 0, "qa_de": 0.0}', ": all weights are 0"),
    ],
)
def test_malformed_json(tmp_path, content, message):
    path = written(tmp_path, "w.json", content)
    with pytest.raises(InputError) as caught:
        read_weights(path, NAMES)
    assert str(caught.value).startswith(f"{path}{message}")
    assert "\n" not in str(caught.value)


def test_what_is_no_file(tmp_path):
    for path in (tmp_path / "none.tsv", tmp_path):
        with pytest.raises(InputError, match="cannot be read"):
            read_weights(path, NAMES)
