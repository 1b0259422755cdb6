"""The embedded encoder: a small BERT with its tokenizer, made from text of the demo's languages.

    python -m metatlp.model.demo_encoder --output-dir DIR [--seed S] [--pretrain-steps N]

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

import argparse
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import BertConfig, BertForMaskedLM, PreTrainedTokenizerFast
from transformers.utils import logging as transformers_logging

from metatlp.errors import InputError
from metatlp.model.demo_corpus import build_corpus
from metatlp.model.demo_pretraining import Pretraining, Progress, pretrain, silent
from metatlp.seeds import derive_seed

transformers_logging.disable_progress_bar()

PROGRAM = "python -m metatlp.model.demo_encoder"
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


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
    try:
        tokenizer.save_pretrained(folder)
        model.bert.save_pretrained(folder)
    except Exception as error:
        # A full disk is an error of safetensors' own, and a plain Exception of tokenizers.
        raise OSError(f"cannot write {folder}: {error}") from error
    return losses


def train_tokenizer(texts: Iterable[str], vocabulary: int) -> PreTrainedTokenizerFast:
    """A cased WordPiece tokenizer, the same for the same texts.

    The trainer numbers the pieces of single characters in the order of a hash table with random
    keys, and breaks ties by these numbers. So they are given to it in a fixed order, as special
    tokens; in the tokenizer that is returned they are ordinary pieces.
    """
    texts = list(texts)
    characters = sorted(set("".join(texts)) - {" "})
    single = [*characters, *(f"##{character}" for character in characters)]
    learner = _backend(models.WordPiece(unk_token="[UNK]"))
    learner.train_from_iterator(
        texts,
        trainers.WordPieceTrainer(
            vocab_size=vocabulary, special_tokens=[*SPECIAL, *single], show_progress=False
        ),
    )
    pieces = learner.get_vocab()
    backend = _backend(models.WordPiece(pieces, unk_token="[UNK]", max_input_chars_per_word=100))
    backend.post_processor = processors.BertProcessing(
        ("[SEP]", pieces["[SEP]"]), ("[CLS]", pieces["[CLS]"])
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


def _backend(model: models.Model) -> Tokenizer:
    backend = Tokenizer(model)
    # Accents stay: in some scripts they are vowels.
    backend.normalizer = normalizers.BertNormalizer(strip_accents=False, lowercase=False)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return backend


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


class _Parser(argparse.ArgumentParser):
    """Every fault is an InputError."""

    def error(self, message: str) -> NoReturn:
        raise InputError(message.removeprefix("argument "))


def main(argv: Sequence[str]) -> int:
    """Write the folder of the flags; the exit code: 0, or 2 for something the user gave."""
    try:
        given = _parser().parse_args(argv)
        losses = _write(Path(given.output_dir), given.seed, given.pretrain_steps)
    except InputError as error:
        print(f"{PROGRAM}: error: {error}", file=sys.stderr)
        return 2
    trained = f"; masked-LM loss {losses[0]:.2f} -> {losses[-1]:.2f} nats" if losses else ""
    print(f"{given.output_dir}: an encoder with its tokenizer{trained}")
    return 0


def _parser() -> _Parser:
    parser = _Parser(PROGRAM, description="Make the demo's encoder.", allow_abbrev=False)
    add = parser.add_argument
    add("--output-dir", required=True, help="a new or empty folder")
    add("--seed", type=int, default=0, help="of languages, text and weights (%(default)s)")
    steps_help = "masked-LM steps; 0: random weights (%(default)s)"
    add("--pretrain-steps", type=int, default=RECIPE.pretrain_steps, help=steps_help)
    return parser


def _write(folder: Path, seed: int, steps: int) -> list[float]:
    """Beside first, so that a folder of this name is a whole encoder."""
    if steps < 0:
        raise InputError(f"--pretrain-steps {steps}: must be 0 or more")
    folder = folder.absolute()
    try:
        if folder.exists() and os.listdir(folder):
            raise InputError(f"--output-dir {folder}: is not empty")
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".encoder.") as beside:
            unfinished = Path(beside) / "new"
            unfinished.mkdir()
            losses = build_encoder(unfinished, seed, steps, progress=_printed)
            os.replace(unfinished, folder)
    except OSError as error:
        raise InputError(f"--output-dir {folder}: {error.strerror or error}") from error
    return losses


def _printed(step: int, of: int, loss: float) -> None:
    if step % 100 == 0 or step == of:
        print(f"pretraining: step {step} of {of}, masked-LM loss {loss:.3f} nats", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
