"""The flags of evaluate_zeroshot.py besides those of the data.

Knows no data, model or device. A new flag needs a row in tests/engine/test_evaluate_cli.py and one
in docs/evaluate_zeroshot.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from metatlp.data.records import SPLITS
from metatlp.data.submission import SUBMITTED
from metatlp.engine.arguments.flags import at_least, flag
from metatlp.errors import InputError


@dataclass(frozen=True)
class EvaluateArguments:
    """What is scored, on what, and what is written."""

    _argument_group_name: ClassVar[str] = "evaluation"

    model: str | None = flag(
        "what is scored, several with commas between: a run, a folder of TASK folders, or one TASK "
        "folder; NAME=PATH names it in the tables, and the models under one name are one system"
    )
    languages: str | None = flag(
        "which TLPs: external (Table 3: languages without training data), seen (Table 1), all that "
        "the data has, or those in the languages listed, as sw,th [default: external]"
    )
    tlps: str | None = flag("which TLPs, listed, as pos_et,ner_bn (instead of --languages)")
    split: str = flag(
        "which examples: test, dev, train, or xquad, the second test set of QA",
        "test",
        choices=SPLITS,
    )
    eval_batch_size: int = flag("most rows per batch", 64)
    eval_examples: int | None = flag("use only so many examples of every file, the first ones")
    bootstrap: int = flag("resamples of the examples for the confidence intervals", 1000)
    confidence: float = flag("probability of the intervals, above 0 and below 1", 0.95)
    seed: int = flag("seed of the resamples", 0)
    output_dir: str = flag("folder for scores.json, scores.md and scores.csv", "runs/zeroshot")
    submission: str | None = flag(
        "also write the answers to this folder, in the layout that XTREME's evaluation reads; then "
        "test files may be without labels, as XTREME's are"
    )
    allow_seen: bool = flag(
        "score models with --languages external although data in these languages trained them or "
        "chose something; such scores are marked",
        False,
    )

    def __post_init__(self) -> None:
        if not self.model:
            raise InputError("--model: name a run, or a folder of models")
        if self.languages and self.tlps:
            raise InputError("--tlps and --languages exclude each other")
        at_least(1, self, "eval_batch_size", "eval_examples", "bootstrap")
        if not 0 < self.confidence < 1:
            raise InputError(f"--confidence {self.confidence}: must be above 0 and below 1")
        if not 0 <= self.seed < 2**32:
            raise InputError(f"--seed {self.seed}: must be at least 0 and below 2^32")
        if self.split not in SPLITS:
            raise InputError(f"--split {self.split}: choose from {', '.join(SPLITS)}")
        if self.allow_seen and not self.external:
            raise InputError("--allow-seen belongs to --languages external")
        if self.submission and self.split not in SUBMITTED:
            raise InputError(
                f"--submission belongs to --split {' or '.join(SUBMITTED)}, not {self.split}"
            )
        if self.submission and self.eval_examples:
            raise InputError("--submission needs every example: leave out --eval-examples")

    @property
    def external(self) -> bool:
        """Whether the TLPs are those of Table 3, without which nothing may have been chosen."""
        return self.tlps is None and (self.languages or "external") == "external"
