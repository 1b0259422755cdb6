"""The flags of train_meta.py: their defaults, presets and cross-field rules.

Knows no data, model or device: every rule here is checked before any of them is touched.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any, Literal

from metatlp.errors import InputError
from metatlp.grid import TASK_CODES
from metatlp.tasks.task import Limits

# Groups of defaults; explicit flags override them. `authors-code` is the published code where it
# differs from the paper.
PRESETS: dict[str, dict[str, Any]] = {
    "paper": {},
    "authors-code": {
        "inner_lr": 5e-5,
        "epochs": 3.0,
        "dropout": 0.0,
        "inner_state": "carry",
        "idle_heads": "momentum",
        "size_unit": "batches",
        "batch_order": "reshuffle",
        "long_inputs": "cut",
    },
    "debug": {
        "meta_batch_size": 2,
        "inner_steps": 2,
        "max_meta_steps": 3,
        "max_examples": 64,
        "batch_size": "4",
        "eval_examples": 32,
    },
}
DEFAULT_BATCH_SIZES = {"qa": 8, "nli": 32, "pa": 8, "pos": 32, "ner": 32}


def _flag(help_text: str, default: Any = None, **more: Any) -> Any:
    return field(default=default, metadata={"help": help_text, **more})


@dataclass(frozen=True)
class DataArguments:
    """What is read, what is selected, and how it is cut into batches."""

    data: Literal["folder", "hub"] = _flag(
        "where examples come from: a folder in XTREME's layout, or the Hugging Face hub", "folder"
    )
    data_dir: str | None = _flag("folder in XTREME's layout (with --data folder)")
    selection: str = _flag(
        "TLPs to train on (D_train): all, task:pos,ner (Task-Limited), lang:hi (Lang-Limited), or "
        "a list like qa_en,ner_hi",
        "all",
    )
    train_languages: str = _flag(
        "which TLPs are in the grid: paper (Table 1), all that have training data, or those in the "
        "languages listed, e.g. en,hi,zh",
        "paper",
    )
    batch_size: str | None = _flag(
        "examples per inner batch: one number, or per task as in qa=8,nli=32 [default: qa=8,nli=32,"
        "pa=8,pos=32,ner=32]"
    )
    batch_order: Literal["epochs", "reshuffle"] = _flag(
        "epochs: every example once per epoch; reshuffle: after the first pass every batch is the "
        "first of a new shuffle, as in the published code",
        "epochs",
    )
    max_length: int = _flag("longest tagging or pair input, in word pieces", 128)
    qa_max_length: int = _flag("longest QA window, in word pieces", 384)
    qa_stride: int = _flag("distance between the starts of two QA windows, in word pieces", 128)
    qa_query_length: int = _flag("longest question, in word pieces", 64)
    qa_answer_length: int = _flag("longest predicted answer, in word pieces", 30)
    long_inputs: Literal["keep", "cut"] = _flag(
        "keep: split long tagging inputs, truncate long pairs; cut: cut the former and drop the "
        "latter, as the published code does. Both are counted",
        "keep",
    )
    max_examples: int | None = _flag("use only the first examples of every training file")
    cache_dir: str | None = _flag("folder for encoded examples [default: ~/.cache/metatlp]")

    def __post_init__(self) -> None:
        if self.data == "folder" and not self.data_dir:
            raise InputError("--data-dir: name a folder in XTREME's layout, or use --data hub")
        if self.data == "hub" and self.data_dir:
            raise InputError("--data-dir belongs to --data folder")
        _at_least(1, self, "max_examples")
        self.batch_sizes()
        self.limits()

    def limits(self) -> Limits:
        """The lengths that encoding keeps to."""
        names = [field.name for field in dataclasses.fields(Limits)]
        return Limits(**{name: getattr(self, name) for name in names})

    def batch_sizes(self) -> dict[str, int]:
        """Task code -> examples per batch."""
        if self.batch_size is None:
            return dict(DEFAULT_BATCH_SIZES)
        sizes = dict(DEFAULT_BATCH_SIZES)
        for entry in self.batch_size.split(","):
            task, equals, number = entry.strip().rpartition("=")
            tasks = (task,) if equals else TASK_CODES
            if not number.isdecimal() or int(number) < 1 or not set(tasks) <= set(TASK_CODES):
                raise InputError(
                    f"--batch-size: cannot read '{entry}'; write 16, or qa=8,nli=32 with tasks "
                    f"{', '.join(TASK_CODES)}"
                )
            sizes.update({task: int(number) for task in tasks})
        return sizes


@dataclass(frozen=True)
class MetaArguments:
    """The model and the algorithm: everything that makes the science of a run."""

    model: str | None = _flag("encoder: hub id or folder")
    tokenizer: str | None = _flag("tokenizer: hub id or folder [default: that of --model]")
    from_config: bool = _flag("start from random weights of the configuration in --model", False)
    attention: Literal["sdpa", "eager"] = _flag("attention implementation of the encoder", "sdpa")
    dropout: float = _flag("dropout probability in every inner step", 0.1)
    gradient_checkpointing: bool = _flag("recompute activations: less memory, more time", False)
    preset: Literal["paper", "authors-code", "debug"] = _flag(
        "group of defaults that explicit flags override", "paper"
    )
    sampler: Literal["temp", "uniform", "fixed"] = _flag(
        "how TLPs are drawn: temp (by size and temperature), uniform, or fixed (--weights-file)",
        "temp",
    )
    tau: float | None = _flag(
        "temperature (tau) of --sampler temp: p_i ~ q_i^(1/tau); inf is uniform [default: 1]"
    )
    weights_file: str | None = _flag("weights of --sampler fixed: JSON object or TSV, one per TLP")
    size_unit: Literal["examples", "batches"] | None = _flag(
        "what q_i counts in --sampler temp: examples (the paper), or batches (the published code) "
        "[default: examples]"
    )
    draw: Literal["multinomial", "systematic"] = _flag(
        "multinomial: m independent draws (the paper); systematic: every TLP's count stays within "
        "one of its expectation",
        "multinomial",
    )
    meta_batch_size: int = _flag("slots per meta step (m)", 8)
    inner_steps: int = _flag("inner steps per slot (k)", 3)
    meta_lr: float = _flag("meta learning rate (beta)", 1.0)
    outer_momentum: float = _flag("momentum of the meta step", 0.0)
    outer_nesterov: bool = _flag("Nesterov's form of --outer-momentum", False)
    inner_lr: float = _flag("first inner learning rate; decays linearly to 0 over meta steps", 3e-5)
    inner_state: Literal["average", "reset", "carry"] = _flag(
        "AdamW's moments across slots: average (shared, averaged like the parameters), reset "
        "(fresh per slot), carry (through the slots in sequence; one process only)",
        "average",
    )
    head_average: Literal["grid", "task"] = _flag(
        "a head's difference is divided by m (grid, the paper), or by its task's slots (task)",
        "grid",
    )
    idle_heads: Literal["still", "momentum"] = _flag(
        "heads of other tasks in a slot: still, or moved by their stale momentum, as in the "
        "published code",
        "still",
    )
    grad_clip: float = _flag("largest gradient norm in an inner step; 0 turns clipping off", 5.0)
    weight_decay: float = _flag("AdamW's weight decay", 0.0)
    epochs: float = _flag("passes over the data; fixes the number of meta steps", 5.0)
    max_meta_steps: int | None = _flag("at most this many meta steps; the decay ends there too")
    reduce: Literal["exact", "fp32", "bf16"] = _flag(
        "how differences are summed: exact (64-bit fixed point: the same bits on any number of "
        "ranks), fp32, or bf16 on the wire",
        "exact",
    )
    seed: int = _flag("seed of everything random", 0)

    def __post_init__(self) -> None:
        if not self.model:
            raise InputError("--model: name an encoder (a hub id or a folder)")
        self._check_sampler()
        self._check_numbers()

    def _check_sampler(self) -> None:
        owners = {"tau": "temp", "size_unit": "temp", "weights_file": "fixed"}
        for name, sampler in owners.items():
            if getattr(self, name) is not None and self.sampler != sampler:
                raise InputError(f"{_name(name)} belongs to --sampler {sampler}")
        if self.sampler == "fixed" and not self.weights_file:
            raise InputError("--sampler fixed needs --weights-file")
        if self.tau is not None and not self.tau > 0:
            raise InputError(f"--tau {self.tau}: must be positive, or inf")
        if not 0 <= self.seed < 2**32:
            raise InputError(f"--seed {self.seed}: must be at least 0 and below 2^32")

    def _check_numbers(self) -> None:
        _at_least(1, self, "meta_batch_size", "inner_steps", "max_meta_steps")
        for name in ("inner_lr", "meta_lr", "grad_clip", "weight_decay", "epochs"):
            value = getattr(self, name)
            if not (value >= 0 and math.isfinite(value)):
                raise InputError(f"{_name(name)} {value}: must be 0 or more, and finite")
        for name in ("dropout", "outer_momentum"):
            value = getattr(self, name)
            if not 0 <= value < 1:
                raise InputError(f"{_name(name)} {value}: must be at least 0 and below 1")
        if self.outer_nesterov and not self.outer_momentum:
            raise InputError("--outer-nesterov needs --outer-momentum")
        if self.epochs == 0:
            raise InputError("--epochs 0.0: must be positive")
        if self.reduce == "exact" and self.inner_state == "average" and not self.grad_clip:
            raise InputError(
                "--grad-clip 0 leaves the moments without a bound; use --reduce fp32, or another "
                "--inner-state"
            )


@dataclass(frozen=True)
class RunArguments:
    """Output, state, and what is shown; nothing here changes what is learned."""

    output_dir: str = _flag("folder of the run", "runs/meta")
    save_every: int = _flag("meta steps between checkpoints; 0 saves at the end only", 500)
    keep: int = _flag("number of checkpoints kept", 2)
    resume: str | None = _flag("auto (the newest whole checkpoint in --output-dir) or a checkpoint")
    eval_every: int = _flag("meta steps between dev evaluations; 0 evaluates at the end only", 0)
    eval_examples: int | None = _flag("use only the first examples of every dev file")
    eval_batch_size: int = _flag("examples per batch in evaluation", 64)
    report_to: Literal["none", "tensorboard", "wandb", "trackio"] = _flag(
        "tracker that also gets the metrics, through Accelerate", "none"
    )
    debug: bool = _flag(
        "one process, few examples and steps, every check on (--preset debug)", False
    )
    dry_run: bool = _flag(
        "print grid, probabilities, steps, memory and communication; then exit", False
    )

    def __post_init__(self) -> None:
        _at_least(0, self, "save_every", "eval_every")
        _at_least(1, self, "keep", "eval_examples", "eval_batch_size")


def _at_least(low: int, arguments: Any, *names: str) -> None:
    for name in names:
        value = getattr(arguments, name)
        if value is not None and value < low:
            raise InputError(f"{_name(name)} {value}: must be {low} or more")


def _name(field_name: str) -> str:
    return "--" + field_name.replace("_", "-")


def resolved(*arguments: Any) -> dict[str, Any]:
    """All flags and their values, JSON-able (an infinite tau is written `inf`)."""
    values = {k: v for part in arguments for k, v in dataclasses.asdict(part).items()}
    return {k: str(v) if v in (math.inf,) else v for k, v in values.items()}
