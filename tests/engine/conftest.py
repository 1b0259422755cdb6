"""A small world: a grid in XTREME's layout and an encoder, both made here, and a launcher.

Every sentence is drawn from small word lists; tags, labels and answers follow simple rules, so that
a small model can learn them.
"""

from __future__ import annotations

import importlib.util
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

# One thread everywhere: results are bitwise equal only for one number of threads.
torch.set_num_threads(1)
os.environ.update(OMP_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false", HF_HUB_OFFLINE="1")
if not torch.cuda.is_available():
    # Where DeepSpeed is installed, transformers imports it to save a model; it would then say on
    # standard output that it found no GPU.
    os.environ["DS_ACCELERATOR"] = "cpu"

ROOT = Path(__file__).resolve().parents[2]
# What DeepSpeed imports when an engine is made.
DEEPSPEED_MODULES = [
    f"deepspeed.runtime.{name}"
    for name in ("zero.stage3", "zero.stage_1_and_2", "zero.muon.muon_optimizer")
]

NOUNS = ["dog", "tree", "house", "river", "bird", "stone"]
VERBS = ["sees", "likes", "finds", "builds"]
ADJECTIVES = ["red", "old", "small"]
PEOPLE = ["anna", "boris", "clara"]
PLACES = ["paris", "quito", "rome"]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = [*NOUNS, *VERBS, *ADJECTIVES, *PEOPLE, *PLACES, "in", "who", "not", "lives", "where", "?"]
ENTITIES = {**dict.fromkeys(PEOPLE, "B-PER"), **dict.fromkeys(PLACES, "B-LOC")}
NLI = {"same": "entailment", "not": "contradiction", "other": "neutral"}
PA = {"same": "1", "other": "0"}


def clause(rng: random.Random) -> list[tuple[str, str]]:
    """Words with their UPOS tags."""
    words = [(rng.choice(ADJECTIVES), "ADJ")] if rng.random() < 0.5 else []
    words += [(rng.choice(NOUNS), "NOUN"), (rng.choice(VERBS), "VERB")]
    if rng.random() < 0.7:
        words += [(rng.choice(NOUNS), "NOUN")]
    if rng.random() < 0.4:
        words += [("in", "ADP"), (rng.choice(PLACES), "PROPN")]
    return words


def tagged_text(rng: random.Random, number: int, entities: bool) -> str:
    sentences = []
    for _ in range(number):
        words = clause(rng) + (clause(rng) if rng.random() < 0.3 else [])
        if entities:
            words = [(rng.choice(PEOPLE), "PROPN"), *words]
            words = [(word, ENTITIES.get(word, "O")) for word, _ in words]
        sentences.append("".join(f"{word}\t{tag}\n" for word, tag in words))
    return "\n".join(sentences) + "\n"


def pair_text(rng: random.Random, number: int, labels: dict[str, str]) -> str:
    lines = []
    for _ in range(number):
        first = [word for word, _ in clause(rng)]
        kind = rng.choice(list(labels))
        second = {"same": first, "not": ["not", *first], "other": [w for w, _ in clause(rng)]}
        lines.append(f"{' '.join(first)}\t{' '.join(second[kind])}\t{labels[kind]}\r\n")
    return "".join(lines)


def squad_json(rng: random.Random, number: int, name: str) -> str:
    paragraphs = []
    for i in range(number):
        place = rng.choice(PLACES)
        filler = " ".join(word for _ in range(rng.randint(1, 6)) for word, _ in clause(rng))
        context = f"{filler} {rng.choice(PEOPLE)} lives in {place}"
        answer = {"text": place, "answer_start": len(context) - len(place)}
        question = {"id": f"{name}-{i}", "question": "where lives who ?", "answers": [answer]}
        paragraphs.append({"context": context, "qas": [question]})
    return json.dumps({"version": "1.1", "data": [{"title": "t", "paragraphs": paragraphs}]})


def qa_file(split: str, lang: str) -> str:
    if split != "train":
        return f"mlqa/MLQA_V1/{split}/{split}-context-{lang}-question-{lang}.json"
    return f"squad/{'' if lang == 'en' else f'{lang}_squad-translate-train-'}train-v1.1.json"


def write_grid(root: Path, scale: int = 1) -> Path:
    """All five tasks in two languages each, of unequal sizes."""
    rng = random.Random(7)
    for split, n in {"train": 40 * scale, "dev": 12, "test": 6}.items():
        files = {}
        for one, other, folder in (("en", "hi", "udpos"), ("en", "zh", "panx")):
            for lang in (one, other):
                files[f"{folder}/{split}-{lang}.tsv"] = tagged_text(rng, n, folder == "panx")
        for lang in ("en", "fr"):
            files[f"xnli/{split}-{lang}.tsv"] = pair_text(rng, 2 * n, NLI)
        for lang in ("en", "de"):
            files[f"pawsx/{split}-{lang}.tsv"] = pair_text(rng, n, PA)
        for lang in ("en", "es"):
            files[qa_file(split, lang)] = squad_json(rng, n // 2, f"{lang}-{split}")
        for name, text in files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text.encode())
    return root


def write_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """A WordPiece tokenizer over the words above and single letters."""
    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)]
    vocabulary = [*SPECIAL, *WORDS, *letters, *(f"##{letter}" for letter in letters)]
    ids = {word: i for i, word in enumerate(vocabulary)}
    backend = Tokenizer(models.WordPiece(ids, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )
    tokenizer.save_pretrained(folder)
    return tokenizer


def deepspeed(stage: int) -> dict[str, str]:
    return {
        "ACCELERATE_USE_DEEPSPEED": "true",
        "ACCELERATE_DEEPSPEED_ZERO_STAGE": str(stage),
        "ACCELERATE_DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE": "none",
        "ACCELERATE_DEEPSPEED_OFFLOAD_PARAM_DEVICE": "none",
        "ACCELERATE_DEEPSPEED_ZERO3_INIT": "false",
    }


@pytest.fixture(scope="session")
def launcher_sets(deepspeed_imported) -> dict[str, dict[str, str]]:
    """Placement of the parameters -> what accelerate launch sets for its YAML."""
    fsdp = {"FSDP_VERSION": "2", "FSDP_RESHARD_AFTER_FORWARD": "true"}
    return {
        "replicated": {},
        **{f"zero{stage}": deepspeed(stage) for stage in (1, 2, 3)},
        "fsdp2": {"ACCELERATE_USE_FSDP": "true", **fsdp},
    }


@pytest.fixture(scope="session")
def grid_dir(tmp_path_factory) -> Path:
    """A folder in XTREME's layout: ten TLPs, five tasks."""
    return write_grid(tmp_path_factory.mktemp("grid"))


@pytest.fixture(scope="session")
def encoder_dir(tmp_path_factory) -> Path:
    """A saved two-layer BERT with its tokenizer."""
    folder = tmp_path_factory.mktemp("encoder")
    tokenizer = write_tokenizer(folder)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=128,
    )
    with torch.random.fork_rng():
        torch.manual_seed(11)
        BertModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def grid_flags(grid_dir, encoder_dir, tmp_path_factory) -> list[str]:
    """Flags of a small run that touches every task, with m not a multiple of 2, 3 or 4."""
    cache = str(tmp_path_factory.mktemp("cache"))
    return [
        *("--data-dir", str(grid_dir), "--model", str(encoder_dir), "--cache-dir", cache),
        *("--meta-batch-size", "5", "--inner-steps", "2"),
        *("--inner-lr", "1e-3", "--batch-size", "4", "--max-length", "32", "--qa-max-length", "48"),
        *("--qa-stride", "16", "--qa-query-length", "8"),
    ]


@pytest.fixture(scope="session")
def supervised_flags(grid_flags) -> list[str]:
    """What train_mtl.py and finetune.py take of them."""
    own = {"--meta-batch-size", "--inner-steps", "--inner-lr"}
    pairs = zip(grid_flags[::2], grid_flags[1::2], strict=True)
    return [word for pair in pairs if pair[0] not in own for word in pair]


@pytest.fixture(scope="session")
def meta_flags(grid_flags) -> list[str]:
    """The same with a sampler that does not learn."""
    return ["--sampler", "temp", "--tau", "5", *grid_flags]


@pytest.fixture(scope="session")
def start():
    """Start a script of the project in `world` processes over gloo, as torchrun does.

    more: of torchrun's flags.
    Returns the Popen; its processes form one group, and all are ended with the test session.
    """
    running = []

    def run(
        script: str | Path, arguments: list[str], world: int = 1, more: Sequence[str] = ()
    ) -> subprocess.Popen:
        command = [sys.executable]
        if world > 1:
            command += ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={world}"]
            command += more
        process = subprocess.Popen(
            [*command, str(ROOT / script), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            start_new_session=True,
        )
        running.append(process)
        return process

    yield run
    for process in running:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


@pytest.fixture(scope="session")
def launch(start):
    """Run a script to its end."""

    def run(script, arguments, world=1, timeout=240) -> subprocess.CompletedProcess:
        process = start(script, arguments, world)
        out, err = process.communicate(timeout=timeout)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    return run


class Fork:
    """A run of a script in a process of its own, whose signals are real."""

    def __init__(self, server: subprocess.Popen, folder: Path, **order):
        self._server, self._out, self._err = server, folder / "out", folder / "err"
        self._code: int | None = None
        self._out.touch()
        self._err.touch()
        self.pid = self._ask(order | {"out": str(self._out), "err": str(self._err)})["pid"]

    def _ask(self, order: dict) -> dict:
        self._server.stdin.write(json.dumps(order) + "\n")
        self._server.stdin.flush()
        return json.loads(self._server.stdout.readline())

    @property
    def out(self) -> str:
        return self._out.read_text()

    @property
    def err(self) -> str:
        return self._err.read_text()

    def kill(self, number: int) -> None:
        assert self._code is None
        os.kill(self.pid, number)  # still ours, even if it has ended: nobody has waited for it

    def ended(self) -> bool:
        return Path(f"/proc/{self.pid}/stat").read_text().rsplit(")")[-1].split()[0] == "Z"

    def wait(self, seconds: float = 600.0) -> int:
        """The exit code, or minus the number of the signal that killed it."""
        end = time.monotonic() + seconds
        while not self.ended():
            assert time.monotonic() < end, f"still running: {self.err[-3000:]}"
            time.sleep(0.005)
        self._code = self._ask({"wait": self.pid})["code"]
        return self._code


@pytest.fixture(scope="session")
def fork_server(start):
    """A process that has imported everything, for forks of it to begin with."""
    return start("tests/engine/workers/forks.py", [])


@pytest.fixture(scope="session")
def deepspeed_imported(fork_server):
    """Of a run under DeepSpeed, four seconds are imports: forks from now on have them."""
    pytest.importorskip("deepspeed")
    fork_server.stdin.write(json.dumps({"import": DEEPSPEED_MODULES}) + "\n")
    fork_server.stdin.flush()
    assert fork_server.stdout.readline() == "{}\n"


@pytest.fixture(scope="session")
def fork(fork_server, tmp_path_factory):
    """Start a script in one process, seconds sooner than by a launch; returns a Fork."""
    server, running = fork_server, []

    def run(arguments: list[str], script: str | Path = "train_meta.py", **environment) -> Fork:
        order = {"script": str(ROOT / script), "arguments": arguments, "environment": environment}
        running.append(Fork(server, tmp_path_factory.mktemp("fork"), **order))
        return running[-1]

    yield run
    for process in running:
        if process._code is None:
            process.kill(signal.SIGKILL)
            process.wait()


@pytest.fixture(scope="session")
def fork_ranks(fork):
    """Start a script in `world` forks over gloo; returns them, in rank order.

    They find in their environment what torchrun puts there, and meet at a store that is held here.
    """
    stores = []

    def run(arguments: list[str], world: int, script="train_meta.py") -> list[Fork]:
        store = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        stores.append(store)
        shared = {
            "WORLD_SIZE": str(world),
            "LOCAL_WORLD_SIZE": str(world),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(store.port),
            "TORCHELASTIC_USE_AGENT_STORE": "True",
        }
        return [
            fork(arguments, script, RANK=str(rank), LOCAL_RANK=str(rank), **shared)
            for rank in range(world)
        ]

    return run


@pytest.fixture(scope="session")
def fork_world(fork_ranks):
    """The same, to its end."""

    def run(
        arguments: list[str], world: int, script="train_meta.py", codes=(0,), seconds=600.0
    ) -> list[Fork]:
        ranks = fork_ranks(arguments, world, script)
        for rank in ranks:
            assert rank.wait(seconds) in codes, [each.err[-3000:] for each in ranks]
        return ranks

    return run


@pytest.fixture(scope="session")
def train_meta():
    """train_meta.py as a module of this process."""
    before = list(sys.path)
    spec = importlib.util.spec_from_file_location("train_meta", ROOT / "train_meta.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["train_meta"] = module
    spec.loader.exec_module(module)
    yield module
    sys.path[:] = before
    del sys.modules["train_meta"]
