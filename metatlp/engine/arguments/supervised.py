"""The flags of train_mtl.py and finetune.py besides those of data, encoder and output.

Knows no data, model or device: every rule here is checked before any of them is touched. A new flag
needs a row in tests/engine/test_supervised_cli.py and one in the script's page under docs/.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeVar

from metatlp.engine.arguments.encoder import EncoderArguments
from metatlp.engine.arguments.flags import at_least, flag, flag_name
from metatlp.engine.arguments.meta import OutputArguments
from metatlp.errors import InputError

Number = TypeVar("Number", int, float)

# Appendix A of the paper, and XTREME's settings: the single-TLP baselines.
BASELINE_LR = {"qa": (3e-5,)}
BASELINE_LR_OTHERS = (2e-5,)
# Appendix B: what is tried from a meta-trained model; the better on dev is kept.
FINETUNE_LR = {
    "qa": (3e-5, 3e-6),
    "pos": (2e-5, 2e-6),
    "ner": (2e-5, 2e-6),
    "nli": (2e-6,),
    "pa": (2e-6,),
}
FINETUNE_LR_OTHERS = (2e-5, 2e-6)
# Appendices A and B.
FINETUNE_EPOCHS = {"qa": 2.0, "nli": 5.0, "pa": 5.0, "pos": 10.0, "ner": 10.0}
FINETUNE_EPOCHS_OTHERS = 5.0


@dataclass(frozen=True)
class UpdateArguments(EncoderArguments):
    """How an update is made: AdamW on the mean loss of a batch that the ranks share."""

    grad_clip: float = flag("largest 2-norm of the gradient; 0 turns clipping off", 5.0)
    weight_decay: float = flag("AdamW's weight decay", 0.0)
    batch_parts: int | None = flag(
        "parts that every batch is cut into, each with dropout masks of its own; the processes "
        "share them, and a process takes its parts one after the other, which saves memory "
        "[default: the number of processes]"
    )
    reduce: Literal["exact", "fp32"] = flag(
        "how the parts' gradients are summed: exact (64-bit fixed point: for the same "
        "--batch-parts the same bits on any number of processes) or fp32",
        "fp32",
    )
    select: Literal["best", "last"] = flag(
        "which parameters are the result: those with the best dev score of all evaluations, or the "
        "last",
        "last",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(1, self, "batch_parts")
        for name in ("grad_clip", "weight_decay"):
            _finite(self, name)


@dataclass(frozen=True)
class MtlArguments(UpdateArguments):
    """Multi-task learning: the paper's baselines, and what makes the comparison fair."""

    sampler: Literal["concat", "temp", "uniform"] = flag(
        "concat: concatenate the TLPs of a task and shuffle the batches of all tasks (the paper); "
        "temp: draw every batch's TLP by size and temperature; uniform: draw it evenly",
        "concat",
    )
    tau: float | None = flag(
        "temperature (tau) of --sampler temp: p_i ~ q_i^(1/tau); inf is uniform [default: 1]"
    )
    lr: float = flag("first learning rate, of AdamW; decays linearly to 0 over the updates", 5e-5)
    epochs: float = flag("passes over the data: updates = epochs * batches of all TLPs", 5.0)
    max_updates: int | None = flag("at most this many updates; the decay ends there too")
    match_updates: str | None = flag(
        "a run of train_meta.py: as many updates as it has inner steps, meta steps * m * k, in the "
        "place of --epochs"
    )
    average_last: int = flag(
        "write the mean of the last so many of the --save-every checkpoints beside the last model; "
        "0: none",
        0,
    )
    seed: int = flag("seed of everything random", 0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tau is not None and self.sampler != "temp":
            raise InputError("--tau belongs to --sampler temp")
        if self.tau is not None and not self.tau > 0:
            raise InputError(f"--tau {self.tau}: must be positive, or inf")
        at_least(1, self, "max_updates")
        at_least(0, self, "average_last")
        check_rate("--lr", self.lr)
        _finite(self, "epochs")
        if self.epochs == 0:
            raise InputError("--epochs 0.0: must be positive")
        check_seed("--seed", self.seed)

    @property
    def temperature(self) -> float | None:
        """tau; None without --sampler temp."""
        return (1.0 if self.tau is None else self.tau) if self.sampler == "temp" else None


@dataclass(frozen=True)
class MtlOutputArguments(OutputArguments):
    """Output of train_mtl.py."""

    output_dir: str = flag("folder of the run; runs/demo-mtl with --data demo", "runs/mtl")


@dataclass(frozen=True)
class FinetuneArguments(UpdateArguments):
    """Finetuning on one TLP at a time, from the plain encoder or from a trained model."""

    _argument_group_name: ClassVar[str] = "model and algorithm"

    tlp: str | None = flag(
        "TLPs to finetune on, each by itself: a list like qa_hi,pos_en, or all, task:pos,ner, "
        "lang:hi"
    )
    train_languages: str = flag(
        "which TLPs all, task: and lang: mean: paper (Table 1), all that have training data, or "
        "those in the languages listed, e.g. en,hi,zh",
        "paper",
    )
    init_from: str | None = flag(
        "a run, or a folder of exported models, of train_meta.py or train_mtl.py to start from "
        "[default: the plain encoder of --model, the single-TLP baseline]"
    )
    lr: str | None = flag(
        "first learning rates of AdamW, which decay linearly to 0; of several the better on dev is "
        "kept [default: the paper's appendices A and B: 3e-5 for QA, else 2e-5; with --init-from "
        "3e-5,3e-6 for QA, 2e-5,2e-6 for POS and NER, 2e-6 for NLI and PA]"
    )
    epochs: float | None = flag(
        "passes over the training data [default: the paper's: 2 for QA, 5 for NLI and PA, 10 for "
        "POS and NER]"
    )
    updates: int | None = flag("number of updates, in the place of --epochs")
    shots: str = flag(
        "training examples, drawn at random by the seed: full, or numbers like 0,10,100,full; 0 "
        "scores the model of --init-from as it is",
        "full",
    )
    seeds: str = flag("seeds of heads, order, dropout and shots, like 0,1,2", "0")
    grad_clip: float = flag("largest 2-norm of the gradient; 0 turns clipping off", 1.0)
    select: Literal["best", "last"] = flag(
        "which parameters are the result: those with the best dev score of all evaluations, or the "
        "last; of several rates the one with the better dev score is taken in any case",
        "best",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tlp is None:
            raise InputError("--tlp: name the task-language pairs to finetune on, like qa_hi")
        if self.init_from is not None:
            for name in ("model", "pretrain_steps", "from_config"):
                if getattr(self, name):
                    raise InputError(f"{flag_name(name)} does not go with --init-from")
        if self.epochs is not None and self.updates is not None:
            raise InputError("--updates takes the place of --epochs: give one of them")
        at_least(1, self, "updates")
        if self.epochs is not None and not (0 < self.epochs < math.inf):
            raise InputError(f"--epochs {self.epochs}: must be positive, and finite")
        for rate in self.rates or ():
            check_rate("--lr", rate)
        for seed in self.seed_list:
            check_seed("--seeds", seed)
        if 0 in self.shot_list and self.init_from is None:
            raise InputError("--shots 0 needs --init-from: a new head has learned nothing")

    @property
    def embedded(self) -> bool:
        return self.model is None and self.init_from is None

    @property
    def rates(self) -> tuple[float, ...] | None:
        """--lr; None: by the task, see `rates_of`."""
        return None if self.lr is None else _numbers("--lr", self.lr, float)

    @property
    def seed_list(self) -> tuple[int, ...]:
        return _numbers("--seeds", self.seeds, int)

    @property
    def shot_list(self) -> tuple[int | None, ...]:
        """Numbers of training examples; None: all."""
        names = [name.strip() for name in self.shots.split(",")]
        if len(set(names)) < len(names):
            raise InputError(f"--shots {self.shots}: a number stands there twice")
        return tuple(
            None if name == "full" else _numbers("--shots", name, int)[0] for name in names
        )

    def rates_of(self, task: str) -> tuple[float, ...]:
        """The learning rates tried on a task."""
        if self.rates is not None:
            return self.rates
        if self.init_from is None:
            return BASELINE_LR.get(task, BASELINE_LR_OTHERS)
        return FINETUNE_LR.get(task, FINETUNE_LR_OTHERS)

    def num_updates(self, task: str, batches_per_epoch: int) -> int:
        """Of one training."""
        if self.updates is not None:
            return self.updates
        epochs = self.epochs or FINETUNE_EPOCHS.get(task, FINETUNE_EPOCHS_OTHERS)
        return max(1, int(epochs * batches_per_epoch))


@dataclass(frozen=True)
class FinetuneOutputArguments(OutputArguments):
    """Output of finetune.py."""

    output_dir: str = flag("folder of all trainings of this call", "runs/finetune")
    resume: str | None = flag("auto: leave out what is finished, and go on with what was begun")
    save_every: int = flag(
        "updates between checkpoints of the training that is going on; 0: at its end only", 500
    )
    keep: int = flag("number of checkpoints kept of it", 1)
    eval_every: int | None = flag(  # type: ignore[assignment]
        "updates between dev evaluations; 0: at the end only [default: once per epoch]"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.resume not in (None, "auto"):
            raise InputError(f"--resume {self.resume}: only auto is known here")


def _numbers(name: str, text: str, kind: Callable[[str], Number]) -> tuple[Number, ...]:
    try:
        found = tuple(kind(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"{name}: cannot read '{text}'; write numbers like 1,2") from None
    if len(set(found)) < len(found):
        raise InputError(f"{name} {text}: a number stands there twice")
    if any(number < 0 for number in found):
        raise InputError(f"{name} {text}: must be 0 or more")
    return found


def check_rate(name: str, rate: float) -> None:
    if not 0 <= rate <= 1:
        raise InputError(f"{name} {rate}: must be from 0 to 1")


def check_seed(name: str, seed: int) -> None:
    if not 0 <= seed < 2**32:
        raise InputError(f"{name} {seed}: must be at least 0 and below 2^32")


def _finite(arguments: Any, name: str) -> None:
    value = getattr(arguments, name)
    if not (value >= 0 and math.isfinite(value)):
        raise InputError(f"{flag_name(name)} {value}: must be 0 or more, and finite")
