"""The flags of the encoder, which every script that trains has.

Knows no model: every rule here is checked before one is touched.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from metatlp.engine.arguments.flags import at_least, flag, flag_name
from metatlp.errors import InputError
from metatlp.model.demo_encoder import RECIPE


@dataclass(frozen=True)
class EncoderArguments:
    """What is trained."""

    _argument_group_name: ClassVar[str] = "model and algorithm"

    model: str | None = flag(
        "encoder: hub id or folder [default with --data demo: a small one made for it]"
    )
    pretrain_steps: int | None = flag(
        "masked-LM steps with which the demo's encoder is made, once; 0: random weights [default: "
        f"{RECIPE.pretrain_steps}]"
    )
    tokenizer: str | None = flag("tokenizer: hub id or folder [default: that of --model]")
    from_config: bool = flag("start from random weights of the configuration in --model", False)
    attention: Literal["sdpa", "eager"] = flag("attention implementation of the encoder", "sdpa")
    dropout: float = flag(
        "dropout probability in every training step, for every dropout of the model", 0.1
    )
    gradient_checkpointing: bool = flag("recompute activations: less memory, more time", False)

    def __post_init__(self) -> None:
        if self.pretrain_steps is not None and not self.embedded:
            raise InputError("--pretrain-steps belongs to the demo's encoder: leave out --model")
        at_least(0, self, "pretrain_steps")
        check_share(self, "dropout")

    @property
    def embedded(self) -> bool:
        """Whether the encoder is the demo's own."""
        return self.model is None

    @property
    def num_pretrain_steps(self) -> int:
        """Of the demo's encoder."""
        return RECIPE.pretrain_steps if self.pretrain_steps is None else self.pretrain_steps


def check_share(arguments: object, name: str) -> None:
    value = getattr(arguments, name)
    if not 0 <= value < 1:
        raise InputError(f"{flag_name(name)} {value}: must be at least 0 and below 1")
