"""The flags of train_meta.py besides those of the data: their defaults and cross-field rules.

Knows no data, model or device: every rule here is checked before any of them is touched. A new flag
needs a row in tests/engine/test_cli.py and one in docs/train_meta.md.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, ClassVar, Literal

from metatlp.engine.arguments.data import DataArguments, EncodingArguments
from metatlp.engine.arguments.encoder import EncoderArguments, check_share
from metatlp.engine.arguments.flags import at_least, flag, flag_name
from metatlp.engine.arguments.rewards import RewardArguments
from metatlp.engine.bounds import LARGEST_EXACT_CLIP
from metatlp.errors import InputError
from metatlp.sampling import SAMPLERS

# Tracker -> the packages that bring it; one of them is enough.
TRACKERS = {
    "tensorboard": ("tensorboard", "tensorboardX"),
    "wandb": ("wandb",),
    "trackio": ("trackio",),
}


@dataclass(frozen=True)
class MetaArguments(EncoderArguments):
    """The model and the algorithm: everything that makes the science of a run."""

    preset: Literal["paper", "authors-code", "debug", "demo"] = flag(
        "group of defaults that explicit flags override; demo if the data is", "paper"
    )
    sampler: str = flag(
        "how TLPs are drawn: temp (by size and temperature), uniform, fixed (--weights-file), or "
        "multidds (probabilities learned from rewards; --dev-tlps)",
        "temp",
        choices=SAMPLERS,
    )
    tau: float | None = flag(
        "temperature (tau) of --sampler temp: p_i ~ q_i^(1/tau); inf is uniform [default: 1]"
    )
    weights_file: str | None = flag("weights of --sampler fixed: JSON object or TSV, one per TLP")
    size_unit: Literal["examples", "batches"] | None = flag(
        "what q_i (a TLP's share of the data) counts in --sampler temp and multidds: examples (the "
        "paper), or batches (the published code) [default: examples]"
    )
    draw: Literal["multinomial", "systematic"] = flag(
        "multinomial: m independent draws (the paper); systematic: every TLP's count stays within "
        "one of its expectation",
        "multinomial",
    )
    meta_batch_size: int = flag("slots per meta step (m)", 8)
    inner_steps: int = flag("inner steps per slot (k)", 3)
    meta_lr: float = flag("meta learning rate (beta): theta += beta * mean difference", 1.0)
    outer_update: Literal["reptile", "first-order-maml"] = flag(
        "what theta moves by: the mean difference of all k inner steps (reptile, the paper), or of "
        "the last of them alone, whose gradient is taken at the adapted parameters "
        "(first-order-maml)",
        "reptile",
    )
    outer_momentum: float = flag(
        "momentum of the meta step, at least 0 and below 1; 0 is the paper's plain SGD", 0.0
    )
    outer_nesterov: bool = flag("Nesterov's form of --outer-momentum", False)
    inner_lr: float = flag(
        "first inner learning rate, of AdamW; decays linearly to 0 over the meta steps", 3e-5
    )
    inner_state: Literal["average", "reset", "carry"] = flag(
        "AdamW's moments across slots: average (shared, averaged like the parameters), reset "
        "(fresh per slot), carry (through the slots in sequence; one process only)",
        "average",
    )
    head_average: Literal["grid", "task"] = flag(
        "a head's difference is divided by m (grid, the paper), or by its task's slots (task)",
        "grid",
    )
    idle_heads: Literal["still", "momentum"] = flag(
        "heads of other tasks in a slot: still, or moved by their stale momentum, as in the "
        "published code",
        "still",
    )
    grad_clip: float = flag(
        "largest 2-norm of the gradient in an inner step; 0 turns clipping off", 5.0
    )
    weight_decay: float = flag("AdamW's weight decay", 0.0)
    epochs: float = flag(
        "passes over the data: meta steps = epochs * sum_i ceil(N_i / b_i) // (m * k)", 5.0
    )
    max_meta_steps: int | None = flag("at most this many meta steps; the decay ends there too")
    reduce: Literal["exact", "fp32", "bf16"] = flag(
        "how differences are summed: exact (64-bit fixed point: the same bits on any number of "
        "ranks), fp32, or bf16 on the wire",
        "fp32",
    )
    batch_parts: int | None = flag(
        "parts that every batch (of b examples) is cut into, each with dropout masks of its own; "
        "the ranks of a TLP group share them, and a rank takes its parts one after the other, "
        "which saves memory [default: --ranks-per-tlp]"
    )
    seed: int = flag("seed of everything random", 0)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_sampler()
        self._check_numbers()

    @property
    def num_parts(self) -> int:
        """In which every batch is cut."""
        return self.batch_parts or 1

    @property
    def temperature(self) -> float | None:
        """tau; None for the samplers that have none."""
        return (1.0 if self.tau is None else self.tau) if self.sampler == "temp" else None

    @property
    def unit(self) -> str | None:
        """What q_i counts; None for the samplers that do not look at sizes."""
        return (self.size_unit or "examples") if SAMPLERS[self.sampler].uses_sizes else None

    def _check_sampler(self) -> None:
        if self.sampler not in SAMPLERS:
            raise InputError(f"--sampler {self.sampler}: choose from {', '.join(SAMPLERS)}")
        sized = [name for name, kind in SAMPLERS.items() if kind.uses_sizes]
        owners = {"tau": ["temp"], "size_unit": sized, "weights_file": ["fixed"]}
        for name, samplers in owners.items():
            if getattr(self, name) is not None and self.sampler not in samplers:
                raise InputError(f"{flag_name(name)} belongs to --sampler {', '.join(samplers)}")
        if self.sampler == "fixed" and not self.weights_file:
            raise InputError("--sampler fixed needs --weights-file")
        if self.tau is not None and not self.tau > 0:
            raise InputError(f"--tau {self.tau}: must be positive, or inf")

    def _check_numbers(self) -> None:
        if not 0 <= self.seed < 2**32:
            raise InputError(f"--seed {self.seed}: must be at least 0 and below 2^32")
        at_least(1, self, "meta_batch_size", "inner_steps", "max_meta_steps", "batch_parts")
        for name in ("inner_lr", "meta_lr", "grad_clip", "weight_decay", "epochs"):
            value = getattr(self, name)
            if not (value >= 0 and math.isfinite(value)):
                raise InputError(f"{flag_name(name)} {value}: must be 0 or more, and finite")
        check_share(self, "outer_momentum")
        if self.inner_lr > 1:
            raise InputError(f"--inner-lr {self.inner_lr}: must be at most 1")
        if self.epochs == 0:
            raise InputError("--epochs 0.0: must be positive")
        if self.outer_nesterov and not self.outer_momentum:
            raise InputError("--outer-nesterov needs --outer-momentum")
        self._check_clip()

    def _check_clip(self) -> None:
        # Beyond these the fixed point of --reduce exact cannot hold the moments.
        if self.grad_clip and not 1e-6 <= self.grad_clip <= 1e6:
            raise InputError(
                f"--grad-clip {self.grad_clip}: must be 0 (off), or from 1e-06 to 1e+06"
            )
        averaged = self.reduce == "exact" and self.inner_state == "average"
        if averaged and not 0 < self.grad_clip <= LARGEST_EXACT_CLIP:
            raise InputError(
                f"--grad-clip {self.grad_clip}: with --reduce exact and --inner-state average it "
                f"must be above 0 and at most {LARGEST_EXACT_CLIP:g}, or small second moments are "
                "lost; use --reduce fp32, or another --inner-state"
            )


@dataclass(frozen=True)
class OutputArguments:
    """Output, state, and what is shown; nothing here changes what is learned."""

    _argument_group_name: ClassVar[str] = "run"

    output_dir: str = flag("folder of the run; runs/demo with --data demo", "runs/meta")
    save_every: int = flag(
        "meta steps (or updates) between checkpoints; 0 saves at the end only", 500
    )
    keep: int = flag("number of checkpoints kept", 2)
    resume: str | None = flag("auto (the newest whole checkpoint in --output-dir) or a checkpoint")
    eval_every: int = flag(
        "meta steps (or updates) between dev evaluations; 0 evaluates at the end only", 0
    )
    eval_examples: int | None = flag("use only so many examples of every dev file, the first ones")
    eval_batch_size: int = flag("examples per batch in evaluation", 64)
    report_to: Literal["none", "tensorboard", "wandb", "trackio"] = flag(
        "tracker that also gets the metrics, through Accelerate", "none"
    )
    dry_run: bool = flag("print what would be trained, and what it takes; then exit", False)

    def __post_init__(self) -> None:
        at_least(0, self, "save_every", "eval_every")
        at_least(1, self, "keep", "eval_examples", "eval_batch_size")
        packages = TRACKERS.get(self.report_to, ())
        # Accelerate leaves out a tracker whose package is missing without a word.
        if packages and not any(find_spec(package) for package in packages):
            raise InputError(
                f"--report-to {self.report_to}: its package is missing; pip install {packages[0]}"
            )


@dataclass(frozen=True)
class RunArguments(OutputArguments):
    """Those of a meta-training run."""

    debug: bool = flag(
        "one process, few examples and steps, every check on (--preset debug)", False
    )
    dry_run: bool = flag(
        "print grid, probabilities, steps, memory and communication; then exit", False
    )
    ranks_per_tlp: int | None = flag(
        "processes that train a TLP together (R), a divisor of their number: they share its "
        "batches, and under DeepSpeed or FSDP its parameters [default: 1; under DeepSpeed or FSDP "
        "the processes of one machine]"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(1, self, "ranks_per_tlp")


def resolved(
    data: DataArguments, meta: MetaArguments, rewards: RewardArguments, run: RunArguments
) -> dict[str, Any]:
    """All flags and the values a run uses, JSON-able (an infinite tau is written `inf`)."""
    values = resolved_flags(data, meta, run) | rewards.resolved(meta.sampler)
    values |= {"tau": meta.temperature, "size_unit": meta.unit}
    return {k: "inf" if v == math.inf else v for k, v in values.items()}


def resolved_flags(
    data: EncodingArguments, encoder: EncoderArguments, *more: Any
) -> dict[str, Any]:
    """All flags of a script that trains, with what `data` and `encoder` make of them."""
    values = {
        name: value
        for part in (data, encoder, *more)
        for name, value in dataclasses.asdict(part).items()
    }
    values["batch_size"] = ",".join(f"{task}={n}" for task, n in data.batch_sizes().items())
    values["data"] = data.source
    if data.source == "demo":
        values |= {f"demo_{name}": v for name, v in dataclasses.asdict(data.demo).items()}
    if encoder.embedded:
        values |= {"model": "demo", "pretrain_steps": encoder.num_pretrain_steps}
    values["tokenizer"] = encoder.tokenizer or values["model"]
    return values
