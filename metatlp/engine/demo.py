"""The demo in a run: its grid and encoder are built or found, and the run says that it uses them.

Knows ranks only to have one of them build; what is built, metatlp.data and metatlp.model know.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

from tqdm import tqdm

from metatlp.data.demo.fingerprint import digest, generator_digest
from metatlp.data.once import built_once
from metatlp.engine.arguments.data import SourceArguments
from metatlp.engine.arguments.encoder import EncoderArguments
from metatlp.engine.arguments.flags import flag_name
from metatlp.engine.placement import Placement
from metatlp.model import demo_corpus, demo_encoder, demo_pretraining, demo_tokenizer

Log = Callable[[str], None]
Encoder = TypeVar("Encoder", bound=EncoderArguments)


def demo_lines(
    data: SourceArguments, encoder: EncoderArguments, chosen: Mapping[str, Any], why: str
) -> list[str]:
    """The first lines of a run on the demo; none on other data.

    Args:
        chosen: field name -> value of the flags whose defaults the demo changes. why: they do.
    """
    if data.source != "demo":
        return []
    named = encoder.model or getattr(encoder, "init_from", None)
    with_model = f"with {named}" if named else "and encoder"
    lines = [
        f"demo: no real data, but the project's own grid of artificial languages {with_model} "
        "(docs/demo.md); for real data give --model and --data-dir DIR or --data hub; cached in "
        f"{data.cache_folder / 'demo'}"
    ]
    if chosen:
        shown = " ".join(f"{flag_name(name)} {value}" for name, value in chosen.items())
        lines.append(f"{why}: {shown}")
    return lines


def next_line(folder: Path) -> str:
    """What to run after the demo. folder: of the models."""
    return (
        f"next: load {folder}/TASK with transformers, or train on real data: accelerate launch "
        "train_meta.py --selection all --sampler temp --tau 2 --data hub --model "
        "bert-base-multilingual-cased --output-dir runs/real"
    )


def build_demo(data: SourceArguments, encoder: Encoder, placement: Placement, log: Log) -> Encoder:
    """Have grid and encoder in the cache. Every rank takes part.

    Returns:
        The flags with the encoder's folder as --model.

    Raises:
        InputError: on every rank, the cache cannot be written on one.
    """
    folder = None
    # The main process first, so that it shows the progress; then each on its own machine's disk.
    for builds in (placement.is_main, True):
        with placement.together():
            if builds:
                data.demo.build(data.cache_folder, log)
                if encoder.embedded:
                    steps = encoder.num_pretrain_steps
                    folder = build_demo_encoder(data.cache_folder, data.demo.seed, steps, log)
    if folder is None:
        return encoder
    return dataclasses.replace(encoder, model=str(folder), pretrain_steps=None)


def encoder_folder(cache_dir: Path, seed: int, steps: int) -> Path:
    """The encoder's place in the cache, of which all sources that make it are a part."""
    modules = (demo_corpus, demo_encoder, demo_pretraining, demo_tokenizer)
    sources = [Path(module.__file__ or "").read_text(encoding="utf-8") for module in modules]
    # The weights depend on torch's generator and linear algebra, the pieces on tokenizers.
    versions = [version(package) for package in ("torch", "transformers", "tokenizers")]
    made_of = (seed, steps, demo_encoder.RECIPE, versions)
    key = digest(repr(made_of), generator_digest(), *sources)
    return cache_dir / "demo" / f"encoder-{key}"


def build_demo_encoder(cache_dir: Path, seed: int, steps: int, log: Log) -> Path:
    """The demo's encoder in the cache, made where it is missing.

    Raises:
        InputError: the cache cannot be written.
    """

    def build(folder: Path) -> None:
        log(f"demo: making the encoder with {steps} pretraining steps, once")
        with tqdm(total=steps, desc="pretrain", unit="step", leave=False, disable=not steps) as bar:

            def progress(step: int, of: int, loss: float) -> None:
                bar.set_postfix_str(f"masked-LM loss {loss:.3f}", refresh=False)
                bar.update()

            losses = demo_encoder.build_encoder(folder, seed, steps, progress=progress)
        if losses:
            log(f"demo: masked-LM loss {losses[0]:.3f} -> {losses[-1]:.3f} nats")

    return built_once(encoder_folder(cache_dir, seed, steps), build)
