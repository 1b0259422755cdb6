"""The encoding cache: what it holds, when it is built again, and several processes at once."""

import hashlib
import multiprocessing
import os
import signal
import string
import time
from collections import Counter
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from metatlp.data.cache import ENCODING_VERSION, encode_split
from metatlp.data.records import Answer, Question, ReadResult, TaggedSentence, TextPair
from metatlp.errors import InputError
from metatlp.grid import TLP
from metatlp.tasks import TASKS, Limits

POS, NLI, QA = TLP("pos", "en"), TLP("nli", "en"), TLP("qa", "en")
EXAMPLES = {
    POS: [TaggedSentence(("ab", "c"), ("NOUN", "VERB"))] * 3,
    NLI: [TextPair("a b", "c", "neutral"), TextPair("", "d", "contradiction")],
    QA: [Question("1", "a", "b c d", (Answer("c", 2),))],
}


@dataclass
class Memory:
    """A source whose examples are given; it counts how often it is read."""

    examples: dict
    content: str = "one"
    reads: list = field(default_factory=list)

    def describe(self):
        return "memory"

    def tlps(self, split):
        return list(self.examples)

    def fingerprint(self, tlp, split):
        return self.content

    def read(self, tlp, split):
        self.reads.append(tlp)
        examples = list(self.examples[tlp])
        return ReadResult(examples, Counter(read=len(examples)))


def make_tokenizer(letters=string.ascii_lowercase):
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *letters, *(f"##{c}" for c in letters)]
    vocabulary = {name: i for i, name in enumerate(names)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


@pytest.fixture(scope="module")
def tokenizer():
    return make_tokenizer()


def same(one, other):
    assert one.names == other.names and one.counts == other.counts
    for name in one.names:
        a, b = one.column(name), other.column(name)
        if isinstance(a, np.ndarray):
            assert a.dtype == b.dtype and (a == b).all()
        else:
            assert a.values.dtype == b.values.dtype
            assert (a.values == b.values).all() and (a.offsets == b.offsets).all()


# A few of everything that decides rows: words of several pieces, unknown and empty ones, texts and
# sentences over the limit, and a context of several windows with the answer in some of them.
LONG = ("abc", "de", "f", "ghij", "k", "lm")
GOLDEN_EXAMPLES = {
    "qa": [
        Question("1", "who is it", "a bc def g " * 6, (Answer("bc", 13), Answer("a", 0))),
        Question("2", "w" * 12, "a  b\u00e9 c", (Answer("c", 6),)),
    ],
    "nli": [TextPair("a bc", "d", "neutral"), TextPair("a " * 9, "bc " * 9, "contradiction")],
    "pa": [TextPair("", "d \u00e9", "0"), TextPair("a " * 20, "bc", "1")],
    "pos": [
        TaggedSentence(LONG, ("NOUN", "VERB", "X", "ADJ", "PUNCT", "DET")),
        TaggedSentence(("\u00e9", "\u200d", "a"), ("PROPN", "SYM", "NUM")),
    ],
    "ner": [
        TaggedSentence(LONG, ("O", "B-PER", "I-PER", "O", "I-LOC", "B-ORG")),
        TaggedSentence(("a", "b" * 12, "c"), ("O", "I-ORG", "B-LOC")),
    ],
}
GOLDEN_LIMITS = {"max_length": 12, "qa_max_length": 24, "qa_stride": 8, "qa_query_length": 6}
# The version, and a digest of the rows that it stands for.
GOLDEN_VERSION = 2
GOLDEN = {
    "qa": "b998c9e40ad622df94541a888bd7ab8ed6a4d1962045e87d120c1278e90ef571",
    "nli": "8803d7c34429f916c42133e3cd71b9aca55fb930fa89a4eafdc7f6bd2d9abf61",
    "pa": "a360950980e45bab49a09ec93c82b386370b0dcaaa3242edef9a328e9ed23463",
    "pos": "eb637567ada3af48baee2717d40e84e9d71bb04c70e03274ecd6363056cc3c63",
    "ner": "49f767ccda0bb8c860e199462924d43366636b13ed2f3650d31af5a1df7c4be2",
}


def rows_digest(code, tokenizer):
    """sha256 over the names, types and values of all columns, under `keep` and under `cut`."""
    digest = hashlib.sha256()
    for long_inputs in ("keep", "cut"):
        limits = Limits(**GOLDEN_LIMITS, long_inputs=long_inputs)
        columns = TASKS[code].encode(GOLDEN_EXAMPLES[code], tokenizer, limits).columns
        for name, column in sorted(columns.items()):
            flat = isinstance(column, np.ndarray)
            for array in (column,) if flat else (column.values, column.offsets):
                digest.update(f"{name} {array.dtype} {array.shape} ".encode() + array.tobytes())
    return digest.hexdigest()


@pytest.mark.parametrize("code", TASKS)
def test_rows_are_those_of_the_encoding_version(code, tokenizer):
    found = rows_digest(code, tokenizer)
    assert (ENCODING_VERSION, found) == (GOLDEN_VERSION, GOLDEN[code]), (
        f"`encode` of {code} gives other rows than under version {GOLDEN_VERSION}, or the version "
        "changed: raise ENCODING_VERSION in metatlp/data/cache.py, or caches of the old rows are "
        f"read; then update GOLDEN_VERSION and the digest here, now {found}"
    )


@pytest.mark.parametrize("tlp", EXAMPLES)
def test_second_call_reads_nothing_and_gives_the_same(tlp, tokenizer, tmp_path):
    source, lines = Memory(EXAMPLES), []
    first = encode_split(source, tlp, "train", tokenizer, Limits(), tmp_path, log=lines.append)
    second = encode_split(source, tlp, "train", tokenizer, Limits(), tmp_path, log=lines.append)
    assert source.reads == [tlp] and not lines
    same(first, second)
    assert first.counts["read"] == first.num_examples == len(EXAMPLES[tlp])
    assert first.fingerprint == second.fingerprint
    encoded = TASKS[tlp.task].encode(EXAMPLES[tlp], tokenizer, Limits())
    ids = encoded.columns["input_ids"]
    assert (first.ragged("input_ids").values == ids.values).all()


def test_columns_are_views_of_the_mapped_file(tokenizer, tmp_path):
    split = encode_split(Memory(EXAMPLES), POS, "train", tokenizer, Limits(), tmp_path)
    for array in (split.ragged("input_ids").values, split.flat("example")):
        assert not array.flags.owndata and not array.flags.writeable


def test_key_follows_everything_the_rows_depend_on(tokenizer, tmp_path):
    source = Memory(EXAMPLES)

    def fingerprint(source=source, tlp=POS, split="train", tokenizer=tokenizer, limits=Limits(),  # noqa: B008
                    most=None):  # fmt: skip
        return encode_split(source, tlp, split, tokenizer, limits, tmp_path, most).fingerprint

    other_names = make_tokenizer()
    other_names.model_input_names = ["input_ids", "attention_mask"]
    keys = [
        fingerprint(),
        fingerprint(source=replace(source, content="two")),
        fingerprint(split="dev"),
        fingerprint(tlp=NLI),
        fingerprint(tokenizer=make_tokenizer("abcde")),
        fingerprint(tokenizer=other_names),
        fingerprint(limits=Limits(max_length=64)),
        fingerprint(limits=Limits(long_inputs="cut")),
        fingerprint(most=2),
    ]
    assert len(set(keys)) == len(keys)
    # What a tagging row does not depend on: QA's limits, and earlier calls of the tokenizer.
    assert fingerprint(limits=Limits(qa_stride=64)) == keys[0]
    tokenizer(["a b c", "d"], padding="max_length", truncation=True, max_length=5)
    assert fingerprint() == keys[0]


def test_max_examples_is_counted(tokenizer, tmp_path):
    split = encode_split(Memory(EXAMPLES), POS, "train", tokenizer, Limits(), tmp_path, 2)
    assert split.num_rows == 2 and split.counts == {"read": 3, "examples_over_max": 1}


def flip_last_byte(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


DAMAGES = {
    "one bit": ("*.arrow", flip_last_byte),
    "cut file": ("*.arrow", lambda path: os.truncate(path, path.stat().st_size // 2)),
    "empty file": ("*.arrow", lambda path: os.truncate(path, 0)),
    "cut note": ("*.json", lambda path: os.truncate(path, 20)),
    "binary note": ("*.json", lambda path: path.write_bytes(b"\xff\xfe\x00")),
    "note of another shape": ("*.json", lambda path: path.write_text("[1, 2]")),
    "note without counts": ("*.json", lambda path: path.write_text('{"key": "", "sha256": ""}')),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_reported_and_repaired(damage, tokenizer, tmp_path):
    source, lines = Memory(EXAMPLES), []
    before = encode_split(source, POS, "train", tokenizer, Limits(), tmp_path)
    pattern, spoil = DAMAGES[damage]
    (path,) = tmp_path.glob(pattern)
    # A new file: the old one stays whole for those who have it mapped.
    old = path.rename(path.with_suffix(".old"))
    path.write_bytes(old.read_bytes())
    spoil(path)
    after = encode_split(source, POS, "train", tokenizer, Limits(), tmp_path, log=lines.append)
    assert len(source.reads) == 2 and len(lines) == 1
    assert "is damaged and is made anew" in lines[0] and str(tmp_path) in lines[0]
    same(before, after)
    encode_split(source, POS, "train", tokenizer, Limits(), tmp_path)
    assert len(source.reads) == 2


def test_what_a_crash_leaves_behind_does_no_harm(tokenizer, tmp_path):
    source = Memory(EXAMPLES)
    encode_split(source, POS, "train", tokenizer, Limits(), tmp_path)
    (note,) = tmp_path.glob("*.json")
    note.unlink()  # died between the two renames
    note.with_suffix(".tmp").write_bytes(b"half a file")  # died while writing
    split = encode_split(source, POS, "train", tokenizer, Limits(), tmp_path)
    assert len(source.reads) == 2 and split.num_rows == 3
    assert not list(tmp_path.glob("*.tmp"))


def test_unusable_folder_is_an_input_error(tokenizer, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"--cache-dir \S*file/cache: cannot be used: .*directory"):
        encode_split(
            Memory(EXAMPLES), POS, "train", tokenizer, Limits(), tmp_path / "file" / "cache"
        )


def test_errors_of_the_source_are_not_blamed_on_the_cache(tokenizer, tmp_path):
    class Broken(Memory):
        def read(self, tlp, split):
            raise OSError("gone")

    with pytest.raises(OSError, match="^gone$"):
        encode_split(Broken(EXAMPLES), POS, "train", tokenizer, Limits(), tmp_path)


def test_nothing_left_is_an_input_error(tokenizer, tmp_path):
    source = Memory({NLI: [TextPair("a " * 200, "b", "neutral")]})
    with pytest.raises(InputError, match="nli_en dev: nothing is left of 1 example"):
        encode_split(source, NLI, "dev", tokenizer, Limits(long_inputs="cut"), tmp_path)
    with pytest.raises(InputError, match="nli_en dev: nothing is left of 0 examples"):
        encode_split(Memory({NLI: []}), NLI, "dev", tokenizer, Limits(), tmp_path)


class Slow(Memory):
    """Says that it is read, and takes its time."""

    def __init__(self, folder, dies):
        super().__init__(EXAMPLES)
        self.folder, self.dies = folder, dies

    def read(self, tlp, split):
        (self.folder / f"read-{os.getpid()}").touch()
        if self.dies:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(1)
        return super().read(tlp, split)


def build(folder, tokenizer, dies, together):
    """In a process of its own, once `together` of them are there."""
    (folder / f"ready-{os.getpid()}").touch()
    limit = time.monotonic() + 60
    while len(list(folder.glob("ready-*"))) < together:
        assert time.monotonic() < limit
        time.sleep(0.01)
    source = Slow(folder, dies)
    split = encode_split(source, POS, "train", tokenizer, Limits(), folder / "cache")
    (folder / f"built-{os.getpid()}").write_text(f"{split.fingerprint} {split.num_rows}")


def start(*arguments):
    process = multiprocessing.get_context("fork").Process(target=build, args=arguments)
    process.start()
    return process


def test_two_processes_build_once(tokenizer, tmp_path):
    workers = [start(tmp_path, tokenizer, False, 2) for _ in range(2)]
    for worker in workers:
        worker.join(120)
    assert [worker.exitcode for worker in workers] == [0, 0]
    one, other = (path.read_text() for path in tmp_path.glob("built-*"))
    assert one == other and one.endswith(" 3")
    assert len(list(tmp_path.glob("read-*"))) == 1


def test_a_killed_builder_holds_nobody_up(tokenizer, tmp_path):
    worker = start(tmp_path, tokenizer, True, 1)
    worker.join(120)
    assert worker.exitcode == -signal.SIGKILL
    source = Memory(EXAMPLES)
    split = encode_split(source, POS, "train", tokenizer, Limits(), tmp_path / "cache")
    assert source.reads == [POS] and split.num_rows == 3
