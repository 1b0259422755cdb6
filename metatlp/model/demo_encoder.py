"""The embedded encoder: a small BERT with its tokenizer, made from text of the demo's languages.

    python -m metatlp.model.demo_encoder --output-dir DIR [--seed S] [--pretrain-steps N]
        [--initialization mimetic|bert]

What it makes is an ordinary folder that `AutoModel.from_pretrained` loads. Knows no task and no
cache.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    # The project's folder, which `python -m` has put on the path, holds kernels/, which would
    # shadow the Hugging Face package that transformers imports.
    sys.path[:] = [p for p in sys.path if Path(p or ".").resolve() != Path.cwd()]

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import BertConfig, BertForMaskedLM
from transformers.utils import logging as transformers_logging

from metatlp.data.whole_folder import whole_folder
from metatlp.errors import InputError
from metatlp.model.demo_corpus import build_corpus
from metatlp.model.demo_pretraining import Pretraining, Progress, pretrain, silent
from metatlp.model.demo_tokenizer import train_tokenizer
from metatlp.script import ScriptParser, exit_code
from metatlp.seeds import derive_seed

transformers_logging.disable_progress_bar()

PROGRAM = "python -m metatlp.model.demo_encoder"


@dataclass(frozen=True)
class Recipe:
    """Everything that makes the embedded encoder what it is, besides the seed. Tune it here.

    Attributes:
        vocabulary: word pieces, special ones included; at least twice the number of characters.
        mimetic: 0: BERT's own initialisation. Above 0: queries and keys of a layer start as this
            multiple of the same random rotation, values and outputs as a rotation and its
            inverse, so that equal pieces attend to and copy each other from the first step
            (after Trockman and Kolter 2023, "Mimetic Initialization of Self-Attention Layers").
        mimetic_value: factor on values and outputs of that.
        position_scale: factor on the initial position and segment embeddings.
        training_share: of the stories, those in the six training languages.
        num_threads: of pretraining; fixed, so that the bits do not depend on how many processes a
            run has. 2 are faster on an idle machine and many times slower on a busy one.
    """

    vocabulary: int = 4000
    hidden_size: int = 64
    num_layers: int = 2
    num_heads: int = 4
    intermediate_size: int = 128
    max_positions: int = 256
    initializer_range: float = 0.05
    mimetic: float = 1.0
    mimetic_value: float = 0.7
    position_scale: float = 0.3
    num_stories: int = 12_000
    training_share: float = 0.5
    pretrain_steps: int = 0
    pretraining: Pretraining = Pretraining()
    num_threads: int = 1


RECIPE = Recipe()
# What the weights start from; "bert" as transformers' BertConfig has it.
INITIALIZATIONS = {
    "mimetic": RECIPE,
    "bert": replace(RECIPE, initializer_range=0.02, mimetic=0.0, position_scale=1.0),
}


def build_encoder(
    folder: Path,
    seed: int = 0,
    pretrain_steps: int | None = None,
    recipe: Recipe = RECIPE,
    progress: Progress = silent,
) -> list[float]:
    """Write tokenizer, configuration and weights into an existing folder.

    Args:
        seed: of the languages, their text, and the weights.
        pretrain_steps: masked-LM steps; 0: random weights; None: the recipe's number.
        progress: takes the step and its loss.

    Returns:
        The loss of every pretraining step, in nats.

    Raises:
        OSError: the folder cannot be written.
    """
    steps = recipe.pretrain_steps if pretrain_steps is None else pretrain_steps
    corpus = build_corpus(seed, recipe.num_stories, recipe.training_share)
    texts = [*corpus.sentences, *(telling for story in corpus.stories for telling in story)]
    tokenizer = train_tokenizer(texts, recipe.vocabulary)
    with _seeded(derive_seed(seed, "encoder"), recipe.num_threads):
        model = new_model(len(tokenizer), recipe)
        losses = pretrain(
            model, tokenizer, corpus.stories, steps, recipe.pretraining, seed, progress
        )
    with failed_writes_as_os_errors():
        tokenizer.save_pretrained(folder)
        model.bert.save_pretrained(folder)
    return losses


def new_model(num_pieces: int, recipe: Recipe) -> BertForMaskedLM:
    """Random weights, drawn from torch's generator."""
    config = BertConfig(
        vocab_size=num_pieces,
        hidden_size=recipe.hidden_size,
        num_hidden_layers=recipe.num_layers,
        num_attention_heads=recipe.num_heads,
        intermediate_size=recipe.intermediate_size,
        max_position_embeddings=recipe.max_positions,
        initializer_range=recipe.initializer_range,
        pad_token_id=0,
    )
    model = BertForMaskedLM(config)
    embeddings = model.bert.embeddings
    with torch.no_grad():
        embeddings.position_embeddings.weight.mul_(recipe.position_scale)
        embeddings.token_type_embeddings.weight.mul_(recipe.position_scale)
        if recipe.mimetic:
            layers: Any = model.bert.encoder.layer
            for layer in layers:
                _make_mimetic(layer.attention, recipe)
    return model


def _make_mimetic(attention: Any, recipe: Recipe) -> None:
    hidden, size = recipe.hidden_size, recipe.hidden_size // recipe.num_heads
    projections = attention.self
    for head in range(recipe.num_heads):
        rows = slice(head * size, (head + 1) * size)
        shared = recipe.mimetic * _rotation(hidden)[:size]
        for projection in (projections.query, projections.key):
            noise = recipe.initializer_range * torch.randn(size, hidden)
            projection.weight[rows] = shared + noise
    turned = recipe.mimetic_value * _rotation(hidden)
    projections.value.weight.copy_(turned)
    attention.output.dense.weight.copy_(turned.T)


def _rotation(size: int) -> torch.Tensor:
    return torch.linalg.qr(torch.randn(size, size))[0]


@contextmanager
def _seeded(seed: int, num_threads: int) -> Iterator[None]:
    """torch's generator and threads as said inside, and as they were afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def failed_writes_as_os_errors() -> Iterator[None]:
    """An OSError for a write that failed inside a library written in Rust; others as they are.

    There a full disk is safetensors' own error, and of tokenizers a bare Exception; both texts end
    in the number, as in "No space left on device (os error 28)".
    """
    try:
        yield
    except Exception as error:
        number = re.search(r"\(os error (\d+)\)", str(error))
        if number is None or type(error) not in (Exception, SafetensorError):
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1]))) from error


def main(argv: Sequence[str]) -> int:
    """Write the folder of the flags; the exit code: 0, or 2 for something the user gave."""
    return exit_code(PROGRAM, _run, argv)


def _run(argv: Sequence[str]) -> None:
    given = _parser().parse_args(argv)
    recipe = INITIALIZATIONS[given.initialization]
    losses = _write(Path(given.output_dir), given.seed, given.pretrain_steps, recipe)
    trained = f"; masked-LM loss {losses[0]:.2f} -> {losses[-1]:.2f} nats" if losses else ""
    print(f"{given.output_dir}: an encoder with its tokenizer{trained}")


def _parser() -> ScriptParser:
    parser = ScriptParser(PROGRAM, "Make the demo's encoder.")
    add = parser.add_argument
    add("--output-dir", required=True, help="a new or empty folder")
    add("--seed", type=int, default=0, help="of languages, text and weights (%(default)s)")
    steps_help = "masked-LM steps; 0: random weights (%(default)s)"
    add("--pretrain-steps", type=int, default=RECIPE.pretrain_steps, help=steps_help)
    weights_help = "first weights: attention that finds equal pieces, or BERT's (%(default)s)"
    add("--initialization", choices=INITIALIZATIONS, default="mimetic", help=weights_help)
    return parser


def _write(folder: Path, seed: int, steps: int, recipe: Recipe) -> list[float]:
    """A folder of this name appears as a whole encoder."""
    if steps < 0:
        raise InputError(f"--pretrain-steps {steps}: must be 0 or more")
    try:
        if folder.exists() and os.listdir(folder):
            raise InputError(f"--output-dir {folder}: is not empty")
        with whole_folder(folder) as unfinished:
            return build_encoder(unfinished, seed, steps, recipe, _printed)
    except OSError as error:
        raise InputError(f"--output-dir {folder}: {error.strerror or error}") from error


def _printed(step: int, of: int, loss: float) -> None:
    if step % 100 == 0 or step == of:
        print(f"pretraining: step {step} of {of}, masked-LM loss {loss:.3f} nats", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
