"""The hub source, offline: in-memory tables with the columns that the hub's data sets have."""

import socket

import datasets
import pytest
from datasets import ClassLabel, Dataset, Features, Sequence, Value

from metatlp.data.hub import HubSource, HubTable, hub_table
from metatlp.data.hub_rows import pairs_of, questions_of, sentences_of
from metatlp.data.records import SPLITS, Answer, TaggedSentence, TextPair
from metatlp.data.tsv import LABELS, NER_TAGS, NLI_LABELS, PA_LABELS, POS_TAGS
from metatlp.errors import InputError
from metatlp.grid import PAPER_SIZES, TLP

TEXT = Value("string")
UDPOS = Features({"tokens": Sequence(TEXT), "pos_tags": Sequence(ClassLabel(names=list(POS_TAGS)))})
PANX = Features(
    {
        "tokens": Sequence(TEXT),
        "ner_tags": Sequence(ClassLabel(names=list(NER_TAGS))),
        "langs": Sequence(TEXT),
    }
)
XNLI = Features({"premise": TEXT, "hypothesis": TEXT, "label": ClassLabel(names=list(NLI_LABELS))})
PAWSX = Features(
    {
        "id": Value("int32"),
        "sentence1": TEXT,
        "sentence2": TEXT,
        "label": ClassLabel(names=["0", "1"]),
    }
)
SQUAD = Features(
    {
        "id": TEXT,
        "title": TEXT,
        "context": TEXT,
        "question": TEXT,
        "answers": Sequence({"text": TEXT, "answer_start": Value("int32")}),
    }
)


def table(features: Features, *rows: dict) -> Dataset:
    columns = {name: [row[name] for row in rows] for name in features}
    return Dataset.from_dict(columns, features=features)


def udpos(*rows) -> Dataset:
    return table(UDPOS, *({"tokens": words, "pos_tags": tags} for words, tags in rows))


def xnli(*rows) -> Dataset:
    return table(
        XNLI, *({"premise": one, "hypothesis": two, "label": label} for one, two, label in rows)
    )


def squad(*answers: tuple[list, list], context: str = "the cat saw the dog") -> Dataset:
    rows = (
        {
            "id": f"q{number}",
            "title": "t",
            "context": context,
            "question": "who?",
            "answers": {"text": texts, "answer_start": starts},
        }
        for number, (texts, starts) in enumerate(answers)
    )
    return table(SQUAD, *rows)


def refusal(action) -> str:
    with pytest.raises(InputError) as caught:
        action()
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def test_every_tlp_of_the_paper_trains_and_is_scored():
    source = HubSource()
    assert set(PAPER_SIZES) <= set(source.tlps("train"))
    assert set(PAPER_SIZES) <= set(source.tlps("dev"))
    assert set(PAPER_SIZES) <= set(source.tlps("test"))
    assert [str(tlp) for tlp in source.tlps("xquad")][:3] == ["qa_en", "qa_hi", "qa_es"]
    for split in SPLITS:
        tlps = source.tlps(split)
        assert tlps == sorted(tlps, key=lambda tlp: tlp.order)
        assert len({hub_table(tlp, split) for tlp in tlps}) == len(tlps)


@pytest.mark.parametrize(
    ("name", "split", "expected"),
    [
        ("pos_hi", "train", HubTable("google/xtreme", "udpos.Hindi", "train")),
        ("pos_zh", "dev", HubTable("google/xtreme", "udpos.Chinese", "validation")),
        ("ner_bn", "test", HubTable("google/xtreme", "PAN-X.bn", "test")),
        ("nli_fr", "dev", HubTable("facebook/xnli", "fr", "validation")),
        ("pa_ko", "test", HubTable("google-research-datasets/paws-x", "ko", "test")),
        ("qa_en", "train", HubTable("rajpurkar/squad", "plain_text", "train")),
        (
            "qa_hi",
            "train",
            HubTable("facebook/mlqa", "mlqa-translate-train.hi", "train", exported=True),
        ),
        ("qa_de", "dev", HubTable("facebook/mlqa", "mlqa.de.de", "validation", exported=True)),
        ("qa_en", "test", HubTable("facebook/mlqa", "mlqa.en.en", "test", exported=True)),
        ("qa_ru", "xquad", HubTable("google/xquad", "xquad.ru", "validation")),
    ],
)
def test_where_a_tlp_is(name, split, expected):
    assert hub_table(TLP.parse(name), split) == expected


@pytest.mark.parametrize(
    ("name", "split", "languages"),
    [
        ("qa_fr", "train", "ar, de, en, es, hi, vi, zh"),
        ("pa_hi", "test", "de, en, es, fr, ja, ko, zh"),
        ("nli_en", "xquad", "no language"),
    ],
)
def test_what_the_hub_lacks(name, split, languages):
    message = refusal(lambda: hub_table(TLP.parse(name), split))
    assert message.startswith(f"--data hub: no {split} data for {name}")
    assert message.endswith(f"data in: {languages}")


def test_languages_without_a_udpos_split():
    assert "no train data for pos_th" in refusal(lambda: hub_table(TLP("pos", "th"), "train"))
    assert hub_table(TLP("pos", "th"), "test").config == "udpos.Thai"
    assert "no test data for pos_bn" in refusal(lambda: hub_table(TLP("pos", "bn"), "test"))


def test_sentences():
    rows = udpos((["Sleep", "!"], [15, 12]), ([], []), (["a b", "", "x"], [7, 12, 16]))
    result = sentences_of(rows, "pos_tags", POS_TAGS, "x")
    assert result.examples == [
        TaggedSentence(("Sleep", "!"), ("VERB", "PUNCT")),
        TaggedSentence(("a b", "", "x"), ("NOUN", "PUNCT", "X")),
    ]
    assert result.counts == {
        "read": 2,
        "sentences_empty": 1,
        "words_empty": 1,
        "words_with_space": 1,
    }


def test_sentences_of_panx():
    rows = table(PANX, {"tokens": ["Bonn", "\u200d"], "ner_tags": [5, 0], "langs": ["de", "de"]})
    assert sentences_of(rows, "ner_tags", NER_TAGS, "x").examples == [
        TaggedSentence(("Bonn", "\u200d"), ("B-LOC", "O"))
    ]


def test_label_names_are_read_from_the_data_set_not_assumed():
    names = ["contradiction", "entailment", "neutral"]
    features = Features({**XNLI, "label": ClassLabel(names=names)})
    rows = table(features, {"premise": "a", "hypothesis": "b", "label": 0})
    expected = [TextPair("a", "b", "contradiction")]
    assert pairs_of(rows, ("premise", "hypothesis"), NLI_LABELS, "x").examples == expected


def test_labels_may_be_text():
    features = Features({**XNLI, "label": TEXT})
    rows = table(features, {"premise": "a", "hypothesis": "b", "label": "neutral"})
    assert pairs_of(rows, ("premise", "hypothesis"), NLI_LABELS, "x").examples == [
        TextPair("a", "b", "neutral")
    ]


def test_pairs_of_pawsx():
    columns = ("id", "sentence1", "sentence2", "label")
    rows = [(1, "a", "b", 0), (2, "NS", "c", 0), (3, "", "d", 1)]
    result = pairs_of(
        table(PAWSX, *(dict(zip(columns, row, strict=True)) for row in rows)),
        ("sentence1", "sentence2"),
        PA_LABELS,
        "x",
    )
    assert [pair.label for pair in result.examples] == ["0", "0", "1"]
    assert result.counts == {"read": 3, "ns_rows": 1, "texts_empty": 1}


def pawsx(*rows) -> Dataset:
    columns = ("sentence1", "sentence2", "label")
    return table(PAWSX, *({"id": 1, **dict(zip(columns, row, strict=True))} for row in rows))


def test_rows_of_pawsx_without_texts_or_label_are_left_out():
    rows = pawsx(("a", "b", 0), ("", "", 0), ("c", "d", -1), ("", "", -1), ("e", "f", None))
    result = pairs_of(rows, ("sentence1", "sentence2"), PA_LABELS, "x")
    assert result.examples == [TextPair("a", "b", "0")]
    assert result.counts == {"read": 1, "pairs_empty": 2, "rows_without_label": 2}


def test_questions_follow_the_rules_of_the_files():
    rows = squad((["cat"], [4]), (["the", "", "cow"], [11, -1, 3]), ([""], [-1]), ([], []))
    result = questions_of(rows, "x")
    assert [question.id for question in result.examples] == ["q0", "q1"]
    assert result.examples[1].answers == (Answer("the", 12),)
    assert result.counts == {
        "read": 2,
        "answers_repaired": 1,
        "answers_empty": 2,
        "answers_not_in_context": 1,
        "questions_dropped": 2,
    }


def test_rows_beyond_one_batch_keep_order_and_number():
    rows = xnli(*((str(number), "b", 1) for number in range(2500)), ("c", "d", -1))
    message = refusal(lambda: pairs_of(rows, ("premise", "hypothesis"), NLI_LABELS, "x"))
    assert message.startswith("x row 2500: the label is hidden (-1)")
    result = pairs_of(rows.select(range(2500)), ("premise", "hypothesis"), NLI_LABELS, "x")
    assert [pair.first for pair in result.examples] == [str(number) for number in range(2500)]


def nli(rows: Dataset):
    return lambda: pairs_of(rows, ("premise", "hypothesis"), NLI_LABELS, "hub x y")


def pa(rows: Dataset):
    return lambda: pairs_of(rows, ("sentence1", "sentence2"), PA_LABELS, "hub x y")


def pos(rows: Dataset):
    return lambda: sentences_of(rows, "pos_tags", POS_TAGS, "hub x y")


def qa(rows: Dataset):
    return lambda: questions_of(rows, "hub x y")


GOOD = xnli(("a", "b", 0))


@pytest.mark.parametrize(
    ("action", "message"),
    [
        pytest.param(
            nli(xnli(("a", "b", 0), ("a", "b", -1))), "row 1: the label is hidden", id="-1"
        ),
        pytest.param(nli(xnli(("a", "b", None))), "row 0: the label is hidden", id="no label"),
        pytest.param(nli(xnli((None, "b", 0))), "row 0: not two texts", id="no text"),
        pytest.param(nli(xnli(("", "", 0))), "row 0: both texts are empty", id="empty texts"),
        pytest.param(pa(pawsx(("", "", 0))), "no labelled example", id="only empty pairs"),
        pytest.param(
            pa(pawsx(("a", "b", -1), ("", "", 1))), "every label is hidden", id="only hidden labels"
        ),
        pytest.param(pa(pawsx((None, "b", 0))), "row 0: not two texts", id="no text in PA"),
        pytest.param(nli(xnli()), "no labelled example", id="no rows"),
        pytest.param(
            nli(GOOD.remove_columns("label")), "column 'label' is missing", id="no label column"
        ),
        pytest.param(
            nli(GOOD.rename_column("premise", "text")), "column 'premise' is missing", id="renamed"
        ),
        pytest.param(
            nli(GOOD.cast_column("label", ClassLabel(names=["yes", "no", "maybe"]))),
            "label: unknown label 'yes'",
            id="other labels",
        ),
        pytest.param(
            nli(table(Features({**XNLI, "label": TEXT}), {**GOOD[0], "label": "yes"})),
            "row 0: unknown label 'yes'",
            id="other text labels",
        ),
        pytest.param(
            nli(table(Features({**XNLI, "premise": Value("int8")}), {**GOOD[0], "premise": 1})),
            "column 'premise' holds no text",
            id="numbers for texts",
        ),
        pytest.param(pos(udpos((["a", "b"], [1]))), "row 0: not one tag", id="tag missing"),
        pytest.param(pos(udpos(([None], [1]))), "row 0: not one tag", id="word missing"),
        pytest.param(pos(udpos((None, [1]))), "row 0: not one tag", id="words missing"),
        pytest.param(pos(udpos((["a"], [-1]))), "row 0: the label is hidden", id="hidden tag"),
        pytest.param(qa(squad((["cow"], [4]))), "row 0: id 'q0': the answer 'cow'", id="not there"),
        pytest.param(qa(squad((["cat"], [-2]))), "row 0: the start -2", id="negative start"),
        pytest.param(qa(squad((["cat"], [4]), context="")), "context of id 'q0'", id="no context"),
        pytest.param(qa(squad(([None], [4]))), "expected a string, found null", id="text null"),
        pytest.param(qa(squad(([], []))), "no labelled example", id="only hidden answers"),
        pytest.param(qa(GOOD), "column 'id' is missing", id="another data set"),
    ],
)
def test_refused_rows(action, message):
    text = refusal(action)
    assert text.startswith("hub x y")
    assert message in text


class Shelf:
    """Stands in for `datasets.load_dataset`: one table, and what was asked for."""

    def __init__(self, rows: Dataset):
        self.rows = rows
        self.asked: list = []

    def __call__(self, *names, **more):
        self.asked.append((names, more))
        return self.rows


def test_source_reads_what_it_loads_once():
    shelf = Shelf(xnli(("a", "b", 2)))
    source = HubSource(shelf)
    assert source.read(TLP("nli", "de"), "dev").examples == [TextPair("a", "b", "contradiction")]
    assert source.read(TLP("nli", "de"), "dev").counts == {"read": 1}
    assert len(source.fingerprint(TLP("nli", "de"), "dev")) == 64
    assert shelf.asked == [(("facebook/xnli", "de"), {"split": "validation"})]


def test_source_reads_the_parquet_branch_of_repositories_with_a_script():
    shelf = Shelf(squad((["cat"], [4])))
    assert HubSource(shelf).read(TLP("qa", "hi"), "train").counts == {"read": 1}
    branch = "hf://datasets/facebook/mlqa@refs%2Fconvert%2Fparquet"
    files = {"train": f"{branch}/mlqa-translate-train.hi/train/*.parquet"}
    assert shelf.asked == [(("parquet",), {"data_files": files, "split": "train"})]


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("pos_hi", udpos((["a"], [0]))),
        ("ner_bn", table(PANX, {"tokens": ["a"], "ner_tags": [0], "langs": ["bn"]})),
        ("pa_en", table(PAWSX, {"id": 1, "sentence1": "a", "sentence2": "b", "label": 1})),
        ("qa_en", squad((["cat"], [4]))),
    ],
)
def test_source_knows_the_columns_of_each_task(name, rows):
    assert HubSource(Shelf(rows)).read(TLP.parse(name), "test").counts == {"read": 1}


def test_fingerprint_follows_content_and_label_names():
    def fingerprint(rows: Dataset) -> str:
        return HubSource(Shelf(rows)).fingerprint(TLP("nli", "en"), "train")

    rows = xnli(("a", "b", 0), ("c", "d", 1))
    first = fingerprint(rows)
    assert fingerprint(xnli(("a", "b", 0), ("c", "d", 1))) == first
    assert fingerprint(datasets.concatenate_datasets([rows.select([0]), rows.select([1])])) == first
    changed = [
        xnli(("a", "b", 0), ("c", "d", 2)),
        xnli(("a", "b", 0), ("c", "e", 1)),
        xnli(("c", "d", 1), ("a", "b", 0)),
        rows.select([0]),
        rows.cast_column("label", ClassLabel(names=list(reversed(NLI_LABELS)))),
    ]
    assert len({fingerprint(other) for other in changed} | {first}) == 6


def test_data_written_to_parquet_reads_the_same(tmp_path):
    def load(*names, **more):
        return datasets.load_dataset(
            "parquet",
            data_files={"test": str(tmp_path / "rows.parquet")},
            split="test",
            cache_dir=str(tmp_path / "cache"),
        )

    rows = squad((["cat"], [4]), (["the", "dog"], [0, 16]))
    rows.to_parquet(tmp_path / "rows.parquet")
    read = HubSource(load).read(TLP("qa", "en"), "test")
    assert read == HubSource(Shelf(rows)).read(TLP("qa", "en"), "test")


@pytest.mark.parametrize("name", ["nli_en", "qa_en"])
def test_without_network_one_line_names_the_data_set(name, tmp_path, monkeypatch):
    def refuse(*args, **more):
        raise OSError("no network in tests")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)

    def load(*names, **more):
        return datasets.load_dataset(*names, **more, cache_dir=str(tmp_path))

    tlp = TLP.parse(name)
    message = refusal(lambda: HubSource(load).read(tlp, "dev"))
    assert message.startswith(f"--data hub: cannot load {hub_table(tlp, 'dev')}: ")


@pytest.mark.parametrize(
    "error",
    [ValueError("BuilderConfig 'x' not found.\nAvailable: a, b"), KeyError("train"), OSError()],
)
def test_whatever_the_library_raises_is_one_line(error):
    def load(*names, **more):
        raise error

    message = refusal(lambda: HubSource(load).fingerprint(TLP("pos", "hi"), "train"))
    assert message.startswith("--data hub: cannot load google/xtreme udpos.Hindi train: ")
    assert type(error).__name__ in message


def test_labels_of_the_files_and_the_hub_agree():
    assert len(LABELS["pos"]) == 17
    assert len(LABELS["ner"]) == 7
    assert LABELS["pos"] == tuple(sorted(LABELS["pos"]))  # the order of google/xtreme
