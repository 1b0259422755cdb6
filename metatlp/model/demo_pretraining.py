"""Masked-language modelling on stories, for the embedded encoder.

Shapes: B stories, T tokens, V word pieces. Knows neither where the stories come from nor where the
weights go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import BertForMaskedLM, PreTrainedTokenizerFast

from metatlp.seeds import derive_seed

Progress = Callable[[int, int, float], None]  # step, of how many, loss in nats


@dataclass(frozen=True)
class Pretraining:
    """How the weights are trained.

    Attributes:
        mask_share: of the pieces, special ones left out, that become [MASK]; all of them are
            predicted. (BERT leaves or replaces a fifth of its 15%; at this size that only slows.)
        learning_rate: of AdamW, after a linear warm-up and before a linear decay.
        last_share: of the learning rate, at the end of the decay.
        clip: largest 2-norm of the gradient.
    """

    batch_size: int = 32
    mask_share: float = 0.3
    learning_rate: float = 3e-3
    warmup_steps: int = 50
    last_share: float = 0.05
    weight_decay: float = 0.01
    clip: float = 1.0


def silent(step: int, of: int, loss: float) -> None:
    """No progress."""


def pretrain(
    model: BertForMaskedLM,
    tokenizer: PreTrainedTokenizerFast,
    stories: list[tuple[str, str]],
    steps: int,
    how: Pretraining,
    seed: int,
    progress: Progress = silent,
) -> list[float]:
    """Train the model in place; the same bits for one machine and number of threads.

    Returns:
        The loss of every step, in nats, before that step.
    """
    if not steps:
        return []
    generator = torch.Generator().manual_seed(derive_seed(seed, "pretraining"))
    needed = stories[: steps * how.batch_size]
    batches = _batches(tokenizer, needed, how.batch_size, generator)
    special = torch.zeros(len(tokenizer), dtype=torch.bool)
    special[tokenizer.all_special_ids] = True
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=how.learning_rate, weight_decay=how.weight_decay, fused=True
    )
    # Without dropout: at this size it costs more steps than there are.
    model.eval()
    losses = []
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = _learning_rate(step, steps, how)
        ids, segments = next(batches)
        drawn = torch.rand(ids.shape, generator=generator) < how.mask_share
        loss = _loss(model, ids, segments, drawn & ~special[ids], tokenizer)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), how.clip)
        optimizer.step()
        losses.append(loss.item())
        progress(step + 1, steps, losses[-1])
    return losses


def _loss(
    model: BertForMaskedLM,
    ids: Tensor,
    segments: Tensor,
    masked: Tensor,
    tokenizer: PreTrainedTokenizerFast,
) -> Tensor:
    """Mean cross-entropy of the masked pieces. ids, segments, masked: (B, T)."""
    shown = ids.masked_fill(masked, tokenizer.mask_token_id)
    attended = (ids != tokenizer.pad_token_id).long()
    hidden = model.bert(shown, attention_mask=attended, token_type_ids=segments).last_hidden_state
    # The V scores of the masked places only: they are most of the cost.
    return F.cross_entropy(model.cls(hidden[masked]), ids[masked])


def _learning_rate(step: int, steps: int, how: Pretraining) -> float:
    warm = min(1.0, (step + 1) / max(1, how.warmup_steps))
    return how.learning_rate * warm * max(how.last_share, 1 - step / steps)


def _batches(
    tokenizer: PreTrainedTokenizerFast,
    stories: list[tuple[str, str]],
    batch_size: int,
    generator: torch.Generator,
) -> Iterator[tuple[Tensor, Tensor]]:
    """(ids, segments), both (B, T): stories of like length together, batches in random order."""
    encoded = tokenizer([one for one, _ in stories], [other for _, other in stories])
    ids, segments = encoded["input_ids"], encoded["token_type_ids"]
    order = sorted(range(len(ids)), key=lambda i: (len(ids[i]), i))
    rows = [order[begin : begin + batch_size] for begin in range(0, len(order), batch_size)]
    while True:
        for number in torch.randperm(len(rows), generator=generator).tolist():
            yield _padded(ids, rows[number]), _padded(segments, rows[number])


def _padded(column: list[list[int]], rows: list[int]) -> Tensor:
    # [PAD] and the first segment are both 0.
    return torch.nn.utils.rnn.pad_sequence(
        [torch.tensor(column[row]) for row in rows], batch_first=True
    )
