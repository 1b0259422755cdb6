"""The embedded encoder: its text, tokenizer and weights, made small."""

from __future__ import annotations

import hashlib
import math
import os
import resource
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from safetensors import SafetensorError
from transformers import AutoModel, BertConfig

from metatlp.data.demo.languages import LANGUAGES
from metatlp.model.demo_corpus import build_corpus
from metatlp.model.demo_encoder import (
    INITIALIZATIONS,
    RECIPE,
    Recipe,
    build_encoder,
    failed_writes_as_os_errors,
    main,
    new_model,
)
from metatlp.model.demo_pretraining import Pretraining
from metatlp.model.demo_tokenizer import train_tokenizer
from metatlp.model.multitask import HeadSpec, build_model, load_tokenizer
from metatlp.tasks import TASKS

SMALL = Recipe(
    vocabulary=2500,
    hidden_size=32,
    num_layers=1,
    num_heads=2,
    intermediate_size=64,
    num_stories=640,
    training_share=0.9,
    pretraining=Pretraining(batch_size=16, learning_rate=5e-3, warmup_steps=5),
)
STEPS = 40
DIGESTS = """\
import hashlib
from metatlp.model.demo_corpus import build_corpus
from metatlp.model.demo_tokenizer import train_tokenizer
corpus = build_corpus(3, 200, 0.5)
tokenizer = train_tokenizer([one for one, _ in corpus.stories] + corpus.sentences, 2500)
for text in (repr(corpus), tokenizer.backend_tokenizer.to_str()):
    print(hashlib.sha256(text.encode()).hexdigest())
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The folder of a small encoder, and its losses."""
    folder = tmp_path_factory.mktemp("encoder")
    return folder, build_encoder(folder, 0, STEPS, SMALL)


def test_pretraining_lowers_the_masked_lm_loss(made):
    folder, losses = made
    tokenizer = load_tokenizer(str(folder))
    assert len(losses) == STEPS
    # It begins at a uniform guess, and soon knows at least how often each piece occurs.
    assert losses[0] == pytest.approx(math.log(len(tokenizer)), abs=0.15)
    assert sum(losses[-5:]) / 5 < losses[0] - 1.0


def test_the_folder_loads_as_any_encoder(made):
    folder, _ = made
    tokenizer = load_tokenizer(str(folder))
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
    batch = tokenizer("one", "two", return_tensors="pt")
    assert batch["token_type_ids"][0, -1] == 1 and batch["input_ids"][0, 0] == 2
    hidden = AutoModel.from_pretrained(folder).eval()(**batch).last_hidden_state
    assert hidden.shape == (1, batch["input_ids"].shape[1], SMALL.hidden_size)
    heads = {code: HeadSpec(task.auto_class, task.labels) for code, task in TASKS.items()}
    model = build_model(str(folder), heads, seed=0)
    loaded = dict(AutoModel.from_pretrained(folder).named_parameters())
    uses = model.named_uses()
    word = "embeddings.word_embeddings.weight"
    assert torch.equal(uses[f"encoder.{word}"][0], loaded[word])


def test_the_same_bits_again_and_nothing_else_touched(made, tmp_path):
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    assert build_encoder(tmp_path, 0, STEPS, SMALL) == made[1]
    assert torch.equal(torch.get_rng_state(), state) and torch.get_num_threads() == threads
    for name in ("model.safetensors", "tokenizer.json", "config.json"):
        assert (tmp_path / name).read_bytes() == (made[0] / name).read_bytes(), name


def test_no_steps_are_random_weights(tmp_path):
    assert build_encoder(tmp_path, 0, 0, SMALL) == []
    weights = AutoModel.from_pretrained(tmp_path).embeddings.word_embeddings.weight
    assert weights[1:].std().item() == pytest.approx(SMALL.initializer_range, rel=0.05)


def test_text_and_tokenizer_do_not_depend_on_hashes(capfd):
    environment = {**os.environ, "PYTHONHASHSEED": "12345"}
    command = [sys.executable, "-c", DIGESTS]
    other = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    exec(DIGESTS, {})
    assert capfd.readouterr().out == other.stdout != ""


def test_every_language_has_pieces_of_its_own_text():
    corpus = build_corpus(1, 400, 0.5)
    texts = [telling for story in corpus.stories for telling in story] + corpus.sentences
    tokenizer = train_tokenizer(texts, 2500)
    assert len(tokenizer) == 2500 and len(corpus.sentences) == 80 * len(LANGUAGES)
    unknown = sum(tokenizer.unk_token_id in row for row in tokenizer(texts)["input_ids"])
    assert unknown == 0
    # Character pieces are ordinary ones: text between others is not cut out at them.
    assert sorted(tokenizer.all_special_ids) == [0, 1, 2, 3, 4]
    assert len(tokenizer.get_added_vocab()) == 5


def test_a_story_is_told_twice():
    corpus = build_corpus(0, 300, 1.0)
    lengths = [(len(one), len(other)) for one, other in corpus.stories]
    assert all(0.4 < one / other < 2.5 for one, other in lengths)
    assert sum(one != other for one, other in corpus.stories) > 200
    digest = hashlib.sha256(repr(corpus).encode()).hexdigest()
    assert digest != hashlib.sha256(repr(build_corpus(1, 300, 1.0)).encode()).hexdigest()


def test_mimetic_attention_looks_for_equal_pieces():
    torch.manual_seed(0)
    model = new_model(100, replace(SMALL, mimetic=1.0, mimetic_value=0.5, position_scale=0.0))
    layer = model.bert.encoder.layer[0].attention
    x = torch.nn.functional.normalize(torch.randn(8, SMALL.hidden_size), dim=1)
    scores = (x @ layer.self.query.weight.T) @ (x @ layer.self.key.weight.T).T
    assert (scores.argmax(1) == torch.arange(8)).all()
    # Values and outputs undo each other but for the factor, squared.
    there_and_back = layer.output.dense.weight @ layer.self.value.weight
    assert torch.allclose(there_and_back, 0.25 * torch.eye(SMALL.hidden_size), atol=1e-5)
    assert not model.bert.embeddings.position_embeddings.weight.any()


@contextmanager
def largest_file(num_bytes):
    """No file of this process grows beyond this."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(
    ("num_bytes", "written"),
    [
        (200, []),  # Python's own error, for a small file
        (20_000, ["tokenizer_config.json"]),  # an Exception of tokenizers
        (200_000, ["config.json", "tokenizer.json", "tokenizer_config.json"]),  # safetensors' own
    ],
)
def test_a_failed_write_is_an_os_error(tmp_path, num_bytes, written):
    with largest_file(num_bytes), pytest.raises(OSError, match="File too large"):
        build_encoder(tmp_path, 0, 0, SMALL)
    whole = [path.name for path in tmp_path.iterdir() if path.stat().st_size < num_bytes]
    assert sorted(set(whole) - {"model.safetensors"}) == written


@pytest.mark.parametrize(
    "mistake", [TypeError("x"), Exception("x"), SafetensorError("x"), KeyError("(os error 28)")]
)
def test_a_mistake_of_ours_is_none(mistake):
    with pytest.raises(type(mistake)) as raised, failed_writes_as_os_errors():
        raise mistake
    assert raised.value is mistake


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(INITIALIZATIONS, "bert", SMALL)
    flags = ["--output-dir", str(tmp_path / "encoder"), "--initialization", "bert"]
    with largest_file(200_000):
        assert main(flags) == 2
    said = capsys.readouterr().err
    assert said.endswith("/encoder: File too large\n") and said.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_the_flag_of_the_first_weights(tmp_path, monkeypatch):
    encoders = {}
    for name, recipe in list(INITIALIZATIONS.items()):
        # Less text is faster, and leaves the weights what they are.
        monkeypatch.setitem(
            INITIALIZATIONS, name, replace(recipe, num_stories=640, vocabulary=2500)
        )
        flags = ["--output-dir", str(tmp_path / name), "--initialization", name]
        assert main(flags) == 0
        encoders[name] = AutoModel.from_pretrained(tmp_path / name)
    mimetic, bert = encoders["mimetic"], encoders["bert"]
    assert bert.config.initializer_range == BertConfig().initializer_range
    # Every matrix is drawn with one width, positions too; the queries of mimetic attention are
    # rows of a rotation.
    for matrix in (
        bert.embeddings.word_embeddings.weight[1:],
        bert.embeddings.position_embeddings.weight,
        *(
            getattr(bert.encoder.layer[0].attention.self, part).weight
            for part in ("query", "value")
        ),
    ):
        assert matrix.std().item() == pytest.approx(0.02, rel=0.05)
    width = mimetic.embeddings.position_embeddings.weight.std().item()
    assert width == pytest.approx(RECIPE.initializer_range * RECIPE.position_scale, rel=0.05)
    query = mimetic.encoder.layer[0].attention.self.query.weight
    assert query.std().item() > 0.1


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--output-dir", "FULL"], "is not empty"),
        (["--output-dir", "NEW", "--pretrain-steps", "-1"], "--pretrain-steps -1: must be 0"),
        (["--output-dir", "NEW", "--pretrain", "3"], "unrecognized arguments: --pretrain"),
        (["--output-dir", "NEW", "--initialization", "zero"], "--initialization: invalid choice"),
        ([], "--output-dir"),
    ],
)
def test_mistakes_on_its_command_line(tmp_path, capsys, argv, message):
    (tmp_path / "FULL").mkdir()
    (tmp_path / "FULL" / "x").touch()
    code = main([str(tmp_path / word) if word.isupper() else word for word in argv])
    said = capsys.readouterr().err
    assert code == 2 and message in said and said.count("\n") == 1
    assert not (tmp_path / "NEW").exists()
