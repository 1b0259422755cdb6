"""Models, tokenizers and data that cannot work: one line each, whatever raised it."""

from __future__ import annotations

import json
import shutil
import types
from contextlib import nullcontext

import pytest

from metatlp.engine.arguments.meta import MetaArguments, RunArguments
from metatlp.engine.compatibility import lay_out
from metatlp.errors import InputError

BART = {"model_type": "bart", "vocab_size": 100, "d_model": 16, "encoder_layers": 1}
XLNET = {"model_type": "xlnet", "vocab_size": 100, "d_model": 16, "n_layer": 1, "n_head": 2}


@pytest.fixture
def fails(train_meta, meta_flags, tmp_path):
    """Run with the fixture's flags and more; the message, checked to be of one line."""

    def run(*flags):
        with pytest.raises(InputError) as caught:
            train_meta.main([*meta_flags, "--output-dir", str(tmp_path / "run"), *map(str, flags)])
        assert not (tmp_path / "run" / "metrics.jsonl").exists()
        message = str(caught.value)
        assert "\n" not in message
        return message

    return run


@pytest.fixture
def encoder(encoder_dir, tmp_path):
    """A copy of the encoder with another config.json and without some of its files."""

    def build(config=None, without=(), **files):
        folder = tmp_path / "encoder"
        shutil.copytree(encoder_dir, folder)
        for name in without:
            (folder / name).unlink()
        if config is not None:
            old = {} if "model_type" in config else json.loads((folder / "config.json").read_text())
            (folder / "config.json").write_text(json.dumps(old | config))
        for name, value in files.items():
            (folder / f"{name}.json").write_text(json.dumps(value))
        return folder

    return build


def test_no_such_model(fails, tmp_path):
    message = fails("--model", "/no/such/folder")
    assert message == "--model /no/such/folder: no such folder"
    assert not (tmp_path / "run").exists()


def test_a_model_that_the_hub_cannot_give(fails, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert fails("--model", "no-such-name/at-all").startswith("--model no-such-name/at-all: ")
    assert fails("--model", "no such name").startswith("--model no such name: ")


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"model_type": "foo"}, "does not recognize this architecture"),
        ({"hidden_size": "wide"}, "hidden_size"),
        ({"num_attention_heads": 5}, "is not a multiple of the number of attention heads"),
        (BART, "AutoModelForTokenClassification"),
        ({"max_position_embeddings": 16}, "word pieces, but --model"),
        ({"vocab_size": 50}, "--tokenizer: has 82 word pieces, but --model"),
    ],
)
def test_configurations_that_cannot_work(fails, encoder, config, expected):
    message = fails("--model", encoder(config), "--dry-run")
    assert message.startswith("--") and expected in message


def test_an_encoder_with_parameters_of_its_own(fails, encoder):
    folder = encoder(XLNET)
    message = fails("--model", folder, "--attention", "eager", "--dry-run")
    assert message.startswith("--model: XLNetModel has parameters of its own (mask_emb)")


def test_a_broken_configuration(fails, encoder):
    folder = encoder()
    (folder / "config.json").write_text("{oops")
    assert "is not a valid JSON file" in fails("--model", folder)


def test_tokenizers_that_cannot_work(fails, encoder, tmp_path):
    def message(**files):
        shutil.rmtree(tmp_path / "encoder", ignore_errors=True)
        return fails("--model", encoder(**files))

    assert "added_tokens" in message(tokenizer={})
    slow = {"tokenizer_class": "CanineTokenizer"}
    found = message(without=["tokenizer.json"], tokenizer_config=slow)
    assert found.endswith("a fast tokenizer is needed (a tokenizer.json)")
    found = message(without=["tokenizer.json", "tokenizer_config.json"])
    assert found.endswith("encoder: no vocabulary found")
    found = message(tokenizer_config={"tokenizer_class": "TokenizersBackend"})
    assert found == "--model: its tokenizer has no padding token"
    assert not (tmp_path / "run").exists()


def test_weights_that_cannot_work(fails, encoder, tmp_path):
    folder = encoder()
    (folder / "model.safetensors").write_text("junk")
    assert fails("--model", folder).startswith(f"--model {folder}: SafetensorError: ")
    (folder / "model.safetensors").unlink()
    assert "no file named model.safetensors" in fails("--model", folder)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--data-dir", "/no/such"], "/no/such: no such folder; expected one that holds udpos/"),
        (["--selection", "qa_xx"], "--selection: no training data for 'qa_xx'; choose from qa_en"),
        (["--selection", "task:"], "--selection task:: an empty name in ''"),
        (["--selection", "lang:,"], "--selection lang:: an empty name in ','"),
        (["--selection=-x"], "--selection: cannot read '-x'; write all, task:pos,ner"),
        (["--selection", "lang:sw"], "--selection: unknown lang 'sw'; choose from en"),
        (["--train-languages", "xx"], "--train-languages: no training data in 'xx'"),
        (["--cache-dir", "/proc/none"], "--cache-dir /proc/none: cannot be used"),
        (["--output-dir", "/proc/none"], "--output-dir /proc/none: "),
    ],
)
def test_data_that_cannot_work(fails, flags, expected):
    assert fails(*flags).startswith(expected)


def test_weights_file_that_is_not_there(train_meta, meta_flags, tmp_path):
    flags = [flag for flag in meta_flags if flag not in ("--sampler", "temp", "--tau")]
    flags.remove("5")  # of --tau; that of --meta-batch-size comes later
    more = ["--sampler", "fixed", "--weights-file", "/no", "--output-dir", str(tmp_path / "run")]
    with pytest.raises(InputError, match="^/no: cannot be read"):
        train_meta.main([*flags, *more])


def test_an_empty_folder(fails, tmp_path):
    message = fails("--data-dir", tmp_path)
    assert message.startswith(f"{tmp_path}: no file of XTREME's layout found")


def test_the_world_must_be_what_was_announced(fails, monkeypatch):
    # As eight tasks of srun that find no process group.
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "8")
    assert fails().startswith("8 processes were announced, but this one sees 1;")


def test_debug_needs_one_process(train_meta):
    run = RunArguments(debug=True)
    two = types.SimpleNamespace(world=2, usual_ranks_per_tlp=1, together=nullcontext)
    two.gather = lambda items: items
    with pytest.raises(InputError, match=r"^--debug runs in one process, not 2$"):
        lay_out(MetaArguments(model="ENCODER"), run, two)
