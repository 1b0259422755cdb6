"""Algorithm 1 against re-statements of it: in float64, and literally in sequence.

The re-statements use torch's own optimizer on the model's own parameters, nothing of the engine.
"""

from __future__ import annotations

import copy
from collections import Counter
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from transformers import BertConfig, ModernBertConfig

from metatlp.data.cache import encode_split
from metatlp.data.parts import Part
from metatlp.data.streams import BatchStream
from metatlp.data.xtreme import XtremeFolder
from metatlp.engine.adamw import InnerConfig
from metatlp.engine.averaging import Averaging, AveragingConfig
from metatlp.engine.inner import InnerLoop
from metatlp.engine.meta_step import meta_step
from metatlp.engine.parameters.replicated import ReplicatedParameters
from metatlp.engine.plan import Slot, build_queue, linear_decay
from metatlp.grid import TLP
from metatlp.model.arena import Arena
from metatlp.model.multitask import HeadSpec, build_model, load_tokenizer
from metatlp.tasks import TASKS
from metatlp.tasks.task import Limits, Padding, model_inputs

ARMS = [TLP.parse(n) for n in ("pos_en", "ner_zh", "nli_fr", "pa_en", "qa_es")]
K, M, LR, CLIP = 3, 4, 1e-3, 0.5
SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
}


@pytest.fixture(scope="module")
def batches(grid_dir, encoder_dir, tmp_path_factory):
    """(tlp, episode) -> the episode's k batches."""
    tokenizer, padding = load_tokenizer(str(encoder_dir)), None
    padding = Padding.of(tokenizer)
    limits = Limits(max_length=32, qa_max_length=48, qa_stride=16, qa_query_length=8)
    source, cache = XtremeFolder(grid_dir), tmp_path_factory.mktemp("oracle-cache")
    streams = {}
    for tlp in ARMS:
        split = encode_split(source, tlp, "train", tokenizer, limits, cache)
        streams[tlp] = BatchStream(split, tlp, 4, seed=0)

    def episode(tlp: TLP, index: int):
        stream = streams[tlp]
        collate = TASKS[tlp.task].collate
        return [collate(stream.split, rows, padding) for rows in stream.episode(index, K)]

    return episode


@pytest.fixture(scope="module")
def modern(tmp_path_factory, encoder_dir):
    """ModernBERT has no biases, so no parameter whose gradient is zero in theory."""
    folder = tmp_path_factory.mktemp("modern")
    ModernBertConfig(
        vocab_size=120,
        pad_token_id=0,
        bos_token_id=2,
        eos_token_id=3,
        cls_token_id=2,
        sep_token_id=3,
        **SIZES,
    ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bert")
    BertConfig(vocab_size=120, max_position_embeddings=64, **SIZES).save_pretrained(folder)
    return folder


def model_of(folder, dropout: float = 0.0):
    heads = {tlp.task: HeadSpec(TASKS[tlp.task].auto_class, TASKS[tlp.task].labels) for tlp in ARMS}
    return build_model(str(folder), heads, seed=3, dropout=dropout, from_config=True)


def queues(number: int) -> list[list[Slot]]:
    """The same drawn TLPs for ours and for the re-statement."""

    rng, cursors = np.random.default_rng(5), Counter()
    return [build_queue([ARMS[i] for i in rng.integers(0, 5, M)], cursors) for _ in range(number)]


def ours(model, batches, steps: int, averaging: AveragingConfig, config: InnerConfig, seed=0):
    arena = Arena(model.named_uses())
    parameters = ReplicatedParameters(model, arena, config, nullcontext)
    inner = InnerLoop(parameters, seed)
    strategy = Averaging(parameters, averaging, dict.fromkeys(ARMS, 1.0))

    def parts(slot: Slot) -> list[list[Part]]:
        return [[Part(0, 1.0, batch)] for batch in batches(slot.tlp, slot.episode)]

    for t, queue in enumerate(queues(steps)):
        lr = linear_decay(LR, t, steps)
        meta_step(
            strategy,
            queue,
            lambda slot, lr=lr, t=t: inner.run(slot, parts(slot), lr, t),
            lr,
            1.0,
        )
    return {name: view.clone() for name, view in arena.views(strategy.theta.start).items()}


def inner_steps(model, optimizer, batches, slot: Slot, lr: float, config: InnerConfig) -> None:
    """k steps of torch's AdamW on the parameters of the slot's task."""
    used = [p for p, tasks in model.named_uses().values() if slot.tlp.task in tasks]
    for group in optimizer.param_groups:
        group["lr"] = lr
    for batch in batches(slot.tlp, slot.episode):
        optimizer.zero_grad(set_to_none=True)
        outputs = model(slot.tlp.task, model_inputs(batch))
        loss = TASKS[slot.tlp.task].loss(outputs, batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(used, config.grad_clip)
        optimizer.step()


def oracle_average(model, batches, steps: int, config: InnerConfig) -> dict[str, torch.Tensor]:
    """Algorithm 1 with shared, averaged AdamW moments, in the model's own precision.

    theta and the moments of every slot start from the shared ones. theta moves by the mean over all
    m slots; the moments and step counts of a parameter by the mean over the slots that stepped it.
    """
    uses = model.named_uses()
    theta = {name: p.detach().clone() for name, (p, _) in uses.items()}
    shared: dict[str, dict[str, torch.Tensor]] = {}
    for t, queue in enumerate(queues(steps)):
        lr, ends, states = linear_decay(LR, t, steps), [], []
        for slot in queue:
            optimizer = torch.optim.AdamW(
                [p for p, _ in uses.values()], lr=lr, eps=config.eps, weight_decay=0.0
            )
            for name, (parameter, _) in uses.items():
                parameter.data.copy_(theta[name])
                if name in shared:
                    optimizer.state[parameter] = copy.deepcopy(shared[name])
            inner_steps(model, optimizer, batches, slot, lr, config)
            ends.append({name: p.detach().clone() for name, (p, _) in uses.items()})
            states.append(
                {
                    name: copy.deepcopy(optimizer.state[p])
                    for name, (p, tasks) in uses.items()
                    if slot.tlp.task in tasks
                }
            )
        for name in theta:
            theta[name] += sum(end[name] - theta[name] for end in ends) / M
            stepped = [state[name] for state in states if name in state]
            if stepped:
                shared[name] = {
                    key: torch.stack([state[key] for state in stepped]).mean(0)
                    for key in stepped[0]
                }
    return theta


def relative(found, expected, start) -> float:
    """RMS of the error over the RMS of how far the parameters have moved."""
    error = torch.cat([(found[n].double() - expected[n].double()).flatten() for n in sorted(found)])
    moved = torch.cat([(expected[n].double() - start[n].double()).flatten() for n in sorted(found)])
    return (error.norm() / moved.norm()).item()


def oracle_sequence(
    model, batches, steps: int, config: InnerConfig, carry: bool
) -> dict[str, torch.Tensor]:
    """Algorithm 1 line by line: one AdamW through all slots (`carry`), or a fresh one per slot."""
    uses = model.named_uses()
    theta = {name: p.detach().clone() for name, (p, _) in uses.items()}

    def fresh():
        return torch.optim.AdamW([p for p, _ in uses.values()], eps=config.eps, weight_decay=0.0)

    optimizer = fresh()
    for t, queue in enumerate(queues(steps)):
        lr, moved = linear_decay(LR, t, steps), dict.fromkeys(theta, 0.0)
        for slot in queue:
            optimizer = optimizer if carry else fresh()
            inner_steps(model, optimizer, batches, slot, lr, config)
            for name, (parameter, _) in uses.items():
                moved[name] = moved[name] + (parameter.detach() - theta[name])
                parameter.data.copy_(theta[name])
        for name, (parameter, _) in uses.items():
            theta[name] = theta[name] + moved[name] / M
            parameter.data.copy_(theta[name])
    return theta


@pytest.fixture(scope="module")
def untyped(batches):
    """The batches for an encoder without token types."""

    def episode(tlp, index):
        return [
            {name: t for name, t in batch.items() if name != "token_type_ids"}
            for batch in batches(tlp, index)
        ]

    return episode


# float32 against float64 after up to 60 AdamW steps, relative to the distance moved: measured 5e-6.
TOLERANCE = 3e-5
CONFIG = InnerConfig(grad_clip=CLIP, eps=1e-6)


@pytest.mark.parametrize("steps", [1, 20])
@pytest.mark.parametrize("inner_state", ["average", "reset", "carry"])
def test_agrees_with_a_float64_oracle(modern, untyped, steps, inner_state):
    model = model_of(modern)
    start = {name: p.detach().clone() for name, (p, _) in model.named_uses().items()}
    double = copy.deepcopy(model).double()
    if inner_state == "average":
        expected = oracle_average(double, untyped, steps, CONFIG)
    else:
        expected = oracle_sequence(double, untyped, steps, CONFIG, inner_state == "carry")
    for reduce in ("exact", "fp32"):
        averaging = AveragingConfig(K, inner_state, "grid", reduce)
        found = ours(model_of(modern), untyped, steps, averaging, CONFIG)
        assert relative(found, expected, start) < TOLERANCE


def test_bert_agrees_but_for_parameters_without_a_gradient(bert, batches):
    model = model_of(bert)
    start = {name: p.detach().clone() for name, (p, _) in model.named_uses().items()}
    expected = oracle_average(copy.deepcopy(model).double(), batches, 5, CONFIG)
    found = ours(model, batches, 5, AveragingConfig(K), CONFIG)
    # A shift of all keys, or of all QA logits, changes no softmax: what moves there is noise.
    idle = [name for name in found if name.endswith(("key.bias", "qa_outputs.bias"))]
    assert len(idle) == 3
    for name in idle:
        del found[name]
    assert relative(found, expected, start) < TOLERANCE


def test_carry_is_the_literal_sequence_in_float32_too(modern, untyped):
    found = ours(model_of(modern), untyped, 3, AveragingConfig(K, "carry", reduce="fp32"), CONFIG)
    literal = oracle_sequence(model_of(modern), untyped, 3, CONFIG, carry=True)
    start = {name: p.detach() for name, (p, _) in model_of(modern).named_uses().items()}
    assert relative(found, literal, start) < TOLERANCE


def test_the_three_inner_states_differ(modern, untyped):
    start = {name: p.detach() for name, (p, _) in model_of(modern).named_uses().items()}
    ends = {
        state: ours(model_of(modern), untyped, 3, AveragingConfig(K, state), CONFIG)
        for state in ("average", "reset", "carry")
    }
    for one, other in (("average", "reset"), ("average", "carry"), ("reset", "carry")):
        assert relative(ends[one], ends[other], start) > 0.01


def test_dropout_is_a_function_of_the_seed(bert, batches):
    def end(seed: int):
        averaging = AveragingConfig(K)
        return ours(model_of(bert, dropout=0.1), batches, 2, averaging, CONFIG, seed=seed)

    first, again, other = end(0), end(0), end(1)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_idle_heads_move_by_momentum_only_if_asked(bert, batches):
    """The published code steps the other heads with zero gradients and stale moments."""

    def heads_moved(idle_heads: str) -> set[str]:
        config = InnerConfig(grad_clip=CLIP, idle_heads=idle_heads)
        model = model_of(bert)
        arena = Arena(model.named_uses())
        inner = InnerLoop(ReplicatedParameters(model, arena, config, nullcontext), 0)
        for tlp in ARMS[:2]:
            before = arena.live.clone()
            inner.run(Slot(0, tlp, 0), [[Part(0, 1.0, batch)] for batch in batches(tlp, 0)], LR, 0)
        views, old = arena.views(arena.live), arena.views(before)
        names = [name for name in views if not torch.equal(views[name], old[name])]
        return {name.split(".")[1] for name in names if name.startswith("head.")}

    # After an episode of POS, one of NER.
    assert heads_moved("still") == {"ner"}
    assert heads_moved("momentum") == {"ner", "pos"}
