"""The folder source: what it finds, what it says when something is missing, the real files."""

import json
import os
from pathlib import Path

import pytest

from metatlp.data.records import SPLITS, Question, TaggedSentence, TextPair
from metatlp.data.tsv import LABELS
from metatlp.data.xtreme import XtremeFolder
from metatlp.errors import InputError
from metatlp.grid import TASK_CODES, TLP

REAL = Path(__file__).parents[2] / "shared" / "data"

PAIR = "a\tb\t0\r\n"
ENTAILED = "a\tb\tneutral\r\n"
NOUN = "a\tNOUN\n"
OUTSIDE = "a\tO\n"


def squad(name: str) -> str:
    entry = {"id": name, "question": "?", "answers": [{"text": "cat", "answer_start": 0}]}
    return json.dumps({"data": [{"paragraphs": [{"context": "cat", "qas": [entry]}]}]})


FILES = {
    "udpos/train-en.tsv": NOUN,
    "udpos/dev-hi.tsv": NOUN,
    "panx/train-bn.tsv": OUTSIDE,
    "panx/test-zh-Hant.tsv": OUTSIDE,
    "xnli/train-en.tsv": ENTAILED,
    "xnli/translate-train/en-de-translated.tsv": "x\ty\tc\td\tcontradictory\n",
    "xnli/XNLI-Translated/en-fr-translated.tsv": ENTAILED,
    "pawsx/train-de.tsv": PAIR,
    "pawsx/translate-train/en-de-translated.tsv": "x\ty\tc\td\t1\n",
    "pawsx/translated/en-ko-translated.tsv": "x\ty\tc\td\t1\n",
    "squad/train-v1.1.json": squad("train-en"),
    "squad/dev-v1.1.json": squad("squad-dev"),
    "squad/es_squad-translate-train-train-v1.1.json": squad("train-es"),
    "squad/translate-train/squad.translate.train.en-th.json": squad("train-th"),
    "mlqa/mlqa-translate-train/hi_squad-translate-train-train-v1.1.json": squad("train-hi"),
    "mlqa/MLQA_V1/dev/dev-context-en-question-en.json": squad("mlqa-dev"),
    "mlqa/MLQA_V1/dev/dev-context-en-question-de.json": squad("crossed"),
    "mlqa/MLQA_V1/test/test-context-vi-question-vi.json": squad("test-vi"),
    "xquad/xquad.ar.json": squad("xquad-ar"),
    # None of these is a file of the layout.
    "udpos/train-en.tsv.gz": "x",
    "udpos/train-en.mt.tsv": "x",
    "udpos/README.md": "x",
    "panx/processed_maxlen128/train-en.tsv": "x",
    "tydiqa/dev-en.json": "x",
}


@pytest.fixture
def folder(tmp_path):
    for name, content in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode())
    return XtremeFolder(tmp_path)


@pytest.fixture(scope="module")
def real():
    root = REAL / "xtreme"
    if not root.is_dir():
        pytest.skip("no real data: ../shared/data/xtreme is not there")
    return XtremeFolder(root)


def named(tlps) -> str:
    return " ".join(str(tlp) for tlp in tlps)


def test_what_is_found(folder):
    assert named(folder.tlps("train")) == (
        "qa_en qa_hi qa_es qa_th nli_en nli_de nli_fr pa_de pa_ko pos_en ner_bn"
    )
    assert named(folder.tlps("dev")) == "qa_en pos_hi"
    assert named(folder.tlps("test")) == "qa_vi ner_zh-Hant"
    assert named(folder.tlps("xquad")) == "qa_ar"


def test_every_found_file_reads(folder):
    for split in SPLITS:
        for tlp in folder.tlps(split):
            assert folder.read(tlp, split).counts["read"] == 1


def test_translations_and_first_choices(folder):
    assert folder.read(TLP("nli", "de"), "train").examples == [TextPair("c", "d", "contradiction")]
    assert folder.read(TLP("pa", "de"), "train").examples == [TextPair("a", "b", "0")]
    assert folder.read(TLP("qa", "en"), "dev").examples[0].id == "mlqa-dev"
    assert folder.read(TLP("pos", "en"), "train").examples == [TaggedSentence(("a",), ("NOUN",))]


def test_squad_dev_stands_in_for_mlqa(folder, tmp_path):
    (tmp_path / "mlqa/MLQA_V1/dev/dev-context-en-question-en.json").unlink()
    assert XtremeFolder(tmp_path).read(TLP("qa", "en"), "dev").examples[0].id == "squad-dev"


def test_describe_names_the_folder(folder, tmp_path):
    assert folder.describe() == f"XTREME folder {tmp_path}"


def refusal(action) -> str:
    with pytest.raises(InputError) as caught:
        action()
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "split", "place", "languages"),
    [
        ("pos_fr", "train", "udpos/train-fr.tsv", "en"),
        ("ner_en", "test", "panx/test-en.tsv", "zh-Hant"),
        ("nli_en", "dev", "xnli/dev-en.tsv", "no language"),
        ("pa_en", "train", "pawsx/train-en.tsv", "de, ko"),
        ("qa_de", "train", "squad/de_squad-translate-train-train-v1.1.json", "en, hi, es, th"),
        ("qa_de", "dev", "mlqa/MLQA_V1/dev/dev-context-de-question-de.json", "en"),
        ("qa_de", "xquad", "xquad/xquad.de.json", "ar"),
        ("ner_en", "xquad", "panx/xquad-en.tsv", "no language"),
    ],
)
@pytest.mark.parametrize("action", ["read", "fingerprint"])
def test_missing_file_names_path_and_languages(
    folder, tmp_path, name, split, place, languages, action
):
    message = refusal(lambda: getattr(folder, action)(TLP.parse(name), split))
    assert message.startswith(f"{tmp_path / place}: no such file")
    assert message.endswith(f"data in: {languages}")


def test_missing_train_file_of_english_qa(tmp_path):
    (tmp_path / "udpos").mkdir()
    (tmp_path / "udpos" / "train-en.tsv").write_text(NOUN)
    message = refusal(lambda: XtremeFolder(tmp_path).read(TLP("qa", "en"), "train"))
    assert message.startswith(f"{tmp_path / 'squad/train-v1.1.json'}: no such file")


@pytest.mark.parametrize("kind", ["missing", "file", "empty", "unknown", "nested"])
def test_no_xtreme_folder(tmp_path, kind):
    root = tmp_path / "data"
    if kind == "file":
        root.write_text("x")
    elif kind != "missing":
        (root / "deeper" / "udpos").mkdir(parents=True)
        if kind == "unknown":
            (root / "notes.txt").write_text("x")
        if kind == "nested":
            (root / "deeper" / "udpos" / "train-en.tsv").write_text(NOUN)
    message = refusal(lambda: XtremeFolder(root))
    assert message.startswith(f"{root}: ")
    assert "udpos/" in message


@pytest.mark.parametrize("action", ["read", "fingerprint"])
def test_files_that_cannot_be_read(tmp_path, action):
    (tmp_path / "udpos" / "dev-en.tsv").mkdir(parents=True)
    (tmp_path / "udpos" / "dev-de.tsv").symlink_to(tmp_path / "gone")
    source = XtremeFolder(tmp_path)
    for lang in ("en", "de"):
        message = refusal(lambda lang=lang: getattr(source, action)(TLP("pos", lang), "dev"))
        assert message.startswith(f"{tmp_path}/udpos/dev-{lang}.tsv: cannot be read (")


def test_file_without_permission(folder, tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root may read every file")
    (tmp_path / "udpos/train-en.tsv").chmod(0)
    assert "Permission denied" in refusal(lambda: folder.read(TLP("pos", "en"), "train"))


def test_file_removed_after_the_start(folder, tmp_path):
    (tmp_path / "udpos/train-en.tsv").unlink()
    assert "cannot be read" in refusal(lambda: folder.read(TLP("pos", "en"), "train"))
    assert "cannot be read" in refusal(lambda: folder.fingerprint(TLP("pos", "en"), "train"))


def test_fingerprint_follows_the_content(folder, tmp_path):
    tlp = TLP("pos", "en")
    path = tmp_path / "udpos/train-en.tsv"
    first = folder.fingerprint(tlp, "train")
    # sha256 of b"a\tNOUN\n"
    assert first == "1d0e1d6425513619d62f76dd7abfa83f41ac82763a225d9544a58e9abdfa45e8"
    assert folder.fingerprint(tlp, "train") == first
    path.write_bytes(b"b\tVERB\n")
    os.utime(path, ns=(1, 1))
    assert folder.fingerprint(tlp, "train") != first
    path.write_bytes(NOUN.encode())
    os.utime(path, ns=(2, 2))
    assert folder.fingerprint(tlp, "train") == first
    assert folder.fingerprint(TLP("pos", "hi"), "dev") == first


def test_unknown_split_is_our_mistake(folder):
    with pytest.raises(ValueError, match="unknown split 'validation'"):
        folder.tlps("validation")


def published_counts() -> dict[tuple[str, TLP], int]:
    """The tables of the data's README: one row per language, one column per split."""
    headings = {"Part-of": "pos", "Named": "ner", "Natural": "nli", "Paraphrase": "pa"}
    headings["Question"] = "qa"
    counts = {}
    task = None
    for line in (REAL / "README.md").read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            task = next(
                (code for word, code in headings.items() if line[3:].startswith(word)), None
            )
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if task and line.startswith("| ") and len(cells[0]) == 2:
            splits = SPLITS if task == "qa" else SPLITS[:3]
            for split, cell in zip(splits, cells[1:], strict=False):
                if cell.isdecimal():
                    counts[split, TLP(task, cells[0])] = int(cell)
    return counts


def test_real_files_have_the_published_counts(real):
    expected = published_counts()
    assert {tlp.task for _, tlp in expected} == set(TASK_CODES)
    assert len(expected) == 147
    found = {(split, tlp): real.read(tlp, split) for split in SPLITS for tlp in real.tlps(split)}
    assert {key: result.counts["read"] for key, result in found.items()} == expected
    assert {key: len(result.examples) for key, result in found.items()} == expected


def test_real_files_keep_what_the_records_promise(real):
    for split in SPLITS:
        for tlp in real.tlps(split):
            for example in real.read(tlp, split).examples:
                if isinstance(example, Question):
                    assert example.answers and example.question and example.context
                    for answer in example.answers:
                        end = answer.start + len(answer.text)
                        assert answer.text
                        assert example.context[answer.start : end] == answer.text
                elif isinstance(example, TextPair):
                    assert example.first and example.second
                    assert example.label in LABELS[tlp.task]
                else:
                    assert len(example.words) == len(example.tags) > 0
                    assert all(example.words) and set(example.tags) <= set(LABELS[tlp.task])


def test_real_files_everything_unusual_is_counted(real):
    unusual = {}
    for split in SPLITS:
        for tlp in real.tlps(split):
            counts = real.read(tlp, split).counts
            del counts["read"]
            if counts and tlp.task != "pa":
                unusual[split, str(tlp)] = dict(counts)
            assert tlp.task != "pa" or set(counts) <= {"ns_rows"}
    assert unusual == {
        ("train", "qa_es"): {"answers_empty": 1816},
        ("train", "qa_zh"): {"answers_not_in_context": 171, "answers_repaired": 7},
    }
    rows = {
        lang: sum(real.read(TLP("pa", lang), s).counts["ns_rows"] for s in ("train", "dev", "test"))
        for lang in ("en", "de", "fr")
    }
    assert rows["en"] == 0
    assert rows["de"] > rows["fr"]


def test_real_quotes_are_undone(real):
    """A text with n quotes was written with 2n + 2 of them."""
    tlp = TLP("nli", "en")
    pairs = real.read(tlp, "train").examples
    texts = [text for pair in pairs for text in (pair.first, pair.second) if '"' in text]
    written = real.path(tlp, "train").read_text(encoding="utf-8").count('"')
    assert written == sum(2 * text.count('"') + 2 for text in texts) > 0


def test_real_sentences_are_not_cut(real):
    lengths = {len(sentence.words) for sentence in real.read(TLP("ner", "zh"), "train").examples}
    assert max(lengths) > 128
