"""Rewards against autograd in float64, and on gradients made for the purpose."""

from __future__ import annotations

import copy
import math
from contextlib import closing, nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import BertConfig

from metatlp.data.cache import encode_split
from metatlp.data.streams import BatchStream
from metatlp.data.xtreme import XtremeFolder
from metatlp.engine.adamw import InnerConfig
from metatlp.engine.arguments.rewards import RewardConfig
from metatlp.engine.gradients import Gradients, compared_spans
from metatlp.engine.parameters.replicated import ReplicatedParameters
from metatlp.engine.reliability import split_half, split_half_within_tasks
from metatlp.engine.rewards import Rewards
from metatlp.grid import TLP
from metatlp.model.arena import Arena
from metatlp.model.multitask import HeadSpec, build_model, load_tokenizer
from metatlp.sampling import MultiDDS, MultiDDSConfig
from metatlp.tasks import TASKS
from metatlp.tasks.task import Limits, Padding, model_inputs

TRAIN = [TLP.parse(n) for n in ("qa_es", "nli_fr", "pa_en", "pos_en", "ner_zh")]
DEV = [TLP.parse(n) for n in ("qa_en", "pos_hi", "pos_en")]
LR = 1e-3
ALONE = SimpleNamespace(world=1, rank=0, gather=lambda items: items)


@pytest.fixture(scope="module")
def data(grid_dir, encoder_dir, tmp_path_factory):
    """Streams of the training and of the dev TLPs, and the padding."""
    tokenizer = load_tokenizer(str(encoder_dir))
    limits = Limits(max_length=32, qa_max_length=48, qa_stride=16, qa_query_length=8)
    source, cache = XtremeFolder(grid_dir), tmp_path_factory.mktemp("rewards-cache")
    found = []
    for tlps, split in ((TRAIN, "train"), (DEV, "dev")):
        encoded = {t: encode_split(source, t, split, tokenizer, limits, cache) for t in tlps}
        found.append({t: BatchStream(s, t, 4, seed=0) for t, s in encoded.items()})
    return *found, Padding.of(tokenizer)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bert")
    BertConfig(
        vocab_size=120,
        max_position_embeddings=64,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
    ).save_pretrained(folder)
    return folder


def model_of(encoder, dropout=0.0, **options):
    tasks = {tlp.task: TASKS[tlp.task] for tlp in TRAIN}
    heads = {code: HeadSpec(task.auto_class, task.labels) for code, task in tasks.items()}
    return build_model(str(encoder), heads, seed=3, dropout=dropout, from_config=True, **options)


def rewards_of(model, data, exact=False, **config) -> Rewards:
    train, dev, padding = data
    settings = {"reward": "cos-of-mean", "batches": 1, "parameters": "all", "dropout": False}
    arena = Arena(model.named_uses())
    parameters = ReplicatedParameters(model, arena, InnerConfig(), nullcontext)
    settings = RewardConfig(every=1, **(settings | config))
    theta = arena.live.clone()
    return Rewards(parameters, theta, train, dev, padding, settings, exact, ALONE, seed=0)


def batches_of(stream, padding, update, k):
    task = TASKS[stream.tlp.task]
    return [task.collate(stream.split, rows, padding) for rows in stream.episode(update, k)]


def gradient(model, tlp, batches, names) -> torch.Tensor:
    """Sum over the batches, float64; zeros for what the task does not use."""
    uses = model.named_uses()
    total = torch.zeros(sum(uses[name][0].numel() for name in names), dtype=torch.float64)
    for batch in batches:
        loss = TASKS[tlp.task].loss(_Double(model(tlp.task, model_inputs(batch))), batch)
        parts = torch.autograd.grad(
            loss, [uses[name][0] for name in names], allow_unused=True, materialize_grads=True
        )
        total += torch.cat([part.flatten() for part in parts])
    return total


class _Double:
    """Logits whose `float()`, in the tasks' losses, leaves them in float64."""

    def __init__(self, outputs):
        self._outputs = outputs

    def __getattr__(self, name):
        value = getattr(self._outputs, name)
        return value.as_subclass(_StaysDouble) if isinstance(value, torch.Tensor) else value


class _StaysDouble(torch.Tensor):
    def float(self):
        return self


def cosine(a, b) -> float:
    return float(a @ b / (a.norm() * b.norm()))


def oracle(model, data, config, halves=slice(None), update=1) -> list[float]:
    """Lines 10 to 12 of Algorithm 1 as they are written: a pair at a time, in float64."""
    train, dev, padding = data
    model = copy.deepcopy(model).double()
    names = [
        name
        for name in model.named_uses()
        if config["parameters"] == "all" or name.startswith("encoder.")
    ]

    def of(streams, tlp):
        batches = batches_of(streams[tlp], padding, update, config["batches"])[halves]
        return gradient(model, tlp, batches, names)

    found = []
    for one in TRAIN:
        if config["reward"] == "cos-of-mean":
            mean = torch.stack([of(dev, other) for other in DEV]).mean(0)
            found.append(cosine(mean, of(train, one)))
        else:
            found.append(np.mean([cosine(of(dev, other), of(train, one)) for other in DEV]))
    return found


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("parameters", ["all", "encoder"])
@pytest.mark.parametrize("batches", [1, 3])
@pytest.mark.parametrize("reward", ["cos-of-mean", "mean-of-cos"])
def test_rewards_are_the_cosines_of_float64(encoder, data, reward, batches, parameters, exact):
    config = {"reward": reward, "batches": batches, "parameters": parameters}
    model = model_of(encoder)
    expected = oracle(model, data, config)
    with closing(rewards_of(model, data, exact, **config)) as rewards:
        report = rewards.measure(1, LR)
    assert report.rewards == pytest.approx(expected, abs=2e-6)
    assert np.ptp(expected) > 0.05, "the TLPs should differ"
    assert report.passes == [batches * (len(TRAIN) + len(DEV))]
    assert report.unusable == {}
    if batches == 1:
        assert report.reliability is None
    else:
        r = np.corrcoef(*(halves_of(model, data, config, p) for p in (slice(1), slice(1, None))))
        assert report.reliability == pytest.approx(2 * r[0, 1] / (1 + abs(r[0, 1])), abs=1e-4)
        assert report.reliability_within_tasks is None, "a TLP of each task"


def halves_of(model, data, config, part) -> list[float]:
    """cos(g_i, u) of a part of the batches, u the mean of the dev gradients of that part, each
    divided by the norm over all batches under mean-of-cos."""
    train, dev, padding = data
    model = copy.deepcopy(model).double()
    uses = list(model.named_uses())
    names = [n for n in uses if config["parameters"] == "all" or n.startswith("encoder.")]

    def of(streams, tlp, part):
        batches = batches_of(streams[tlp], padding, 1, config["batches"])[part]
        return gradient(model, tlp, batches, names)

    u = 0
    for tlp in DEV:
        size = of(dev, tlp, slice(None)).norm() if config["reward"] == "mean-of-cos" else 1
        u = u + of(dev, tlp, part) / size
    return [cosine(u, of(train, tlp, part)) for tlp in TRAIN]


@pytest.mark.parametrize("parameters", ["all", "encoder"])
@pytest.mark.parametrize("batches", [1, 2])
def test_adam_delta_is_two_steps_of_a_fresh_adamw(encoder, data, batches, parameters):
    train, dev, padding = data
    expected = []
    for one in TRAIN:
        cosines = []
        for other in DEV:
            model = copy.deepcopy(model_of(encoder)).double()
            names = list(model.named_uses())
            values = [p for p, _ in model.named_uses().values()]
            optimizer = torch.optim.AdamW(values, lr=LR, weight_decay=0.0)
            places = [snapshot(model, parameters)]
            for streams, tlp in ((train, one), (dev, other)):
                found = gradient(model, tlp, batches_of(streams[tlp], padding, 1, batches), names)
                parts = found.split([v.numel() for v in values])
                for value, part in zip(values, parts, strict=True):
                    value.grad = part.view(value.shape)
                optimizer.step()
                places.append(snapshot(model, parameters))
            start, between, end = places
            cosines.append(cosine(between - start, end - between))
        expected.append(np.mean(cosines))
    model = model_of(encoder)
    config = {"reward": "adam-delta", "batches": batches, "parameters": parameters}
    with closing(rewards_of(model, data, **config)) as rewards:
        before = rewards.parameters.live.clone()
        report = rewards.measure(1, LR)
        assert torch.equal(rewards.parameters.live, before)
    # AdamW makes full steps of gradients that are zero but for rounding.
    assert report.rewards == pytest.approx(expected, abs=5e-3)
    assert report.passes == [batches * len(TRAIN) * (1 + len(DEV))]


def snapshot(model, parameters) -> torch.Tensor:
    uses = model.named_uses().items()
    chosen = [p for name, (p, _) in uses if parameters == "all" or name.startswith("encoder.")]
    return torch.cat([p.detach().flatten().clone() for p in chosen])


def test_spans_of_the_encoder_are_all_but_the_heads(encoder):
    model = model_of(encoder)
    arena = Arena(model.named_uses())
    pieces = ReplicatedParameters(model, arena, InnerConfig(), nullcontext).pieces
    mask = torch.zeros_like(arena.live)
    for span in compared_spans(pieces, len(arena), "encoder"):
        mask[span] = 1
    for name, view in arena.views(mask).items():
        assert bool(view.all()) == bool(view.any()) == name.startswith("encoder.")
    assert compared_spans(pieces, len(arena), "all") == [slice(0, len(arena))]


def test_measuring_changes_nothing_and_depends_on_the_update_alone(encoder, data):
    model = model_of(encoder, dropout=0.1)
    with closing(rewards_of(model, data, batches=2, dropout=True)) as rewards:
        before = rewards.parameters.live.clone()
        found = [rewards.measure(update, LR) for update in (3, 4, 3)]
        assert torch.equal(rewards.parameters.live, before)
    assert np.array_equal(found[0].rewards, found[2].rewards)
    assert found[0].norms == found[2].norms
    assert not np.array_equal(found[0].rewards, found[1].rewards)
    with closing(rewards_of(model, data, batches=2, dropout=False)) as still:
        assert not np.array_equal(still.measure(3, LR).rewards, found[0].rewards)


def test_recomputing_activations_changes_no_reward(encoder, data):
    found = []
    for checkpointing in (False, True):
        model = model_of(encoder, dropout=0.1, gradient_checkpointing=checkpointing)
        with closing(rewards_of(model, data)) as rewards:
            found.append(rewards.measure(0, LR).rewards)
            layers = [m for m in model.modules() if getattr(m, "gradient_checkpointing", False)]
            assert bool(layers) == checkpointing
            assert all(layer.training for layer in layers), "it recomputes in training mode alone"
    assert found[0] == pytest.approx(found[1], abs=1e-7)


class Made(Gradients):
    """Gives made gradients."""

    def __init__(self, gradients):
        self.gradients = gradients
        self.costs = dict.fromkeys(gradients, 1.0)
        self.passes = self.tokens = 0

    def schedule(self, tlps, draw):
        pass

    def add(self, tlp, draw, row, part=slice(None)):
        row += self.gradients[tlp]

    def close(self):
        pass


def made(encoder, data, train, dev, **config) -> Rewards:
    """Rewards of made gradients: lists of (P,) vectors for TRAIN and DEV."""
    rewards = rewards_of(model_of(encoder), data, **config)
    rewards.close()
    rewards.train = Made(dict(zip(TRAIN, train, strict=True)))
    rewards.dev = Made(dict(zip(DEV, dev, strict=True)))
    return rewards


@pytest.fixture(scope="module")
def vectors(encoder):
    size = len(Arena(model_of(encoder).named_uses()))
    generator = torch.Generator().manual_seed(1)
    shared = torch.randn(size, generator=generator)
    return [shared * i / 4 + torch.randn(size, generator=generator) for i in range(8)]


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("reward", ["cos-of-mean", "mean-of-cos"])
def test_the_size_of_a_gradient_does_not_count(encoder, data, vectors, reward, exact):
    train, dev = vectors[:5], vectors[5:]
    plain = made(encoder, data, train, dev, reward=reward, exact=exact).measure(0, LR).rewards
    scaled = [v * s for v, s in zip(train, (1e-9, 1e-3, 1, 10, 20), strict=True)]
    found = made(encoder, data, scaled, dev, reward=reward, exact=exact).measure(0, LR).rewards
    assert found == pytest.approx(plain, abs=1e-6)
    # All dev gradients alike under cos-of-mean; each for itself under mean-of-cos.
    alike = reward == "cos-of-mean"
    for sizes in ((20, 20, 20), (1e-6, 1e-6, 1e-6)) if alike else ((1e-9, 1, 20),):
        moved = [v * s for v, s in zip(dev, sizes, strict=True)]
        found = made(encoder, data, train, moved, reward=reward, exact=exact).measure(0, LR)
        assert found.rewards == pytest.approx(plain, abs=1e-6)


def test_what_the_fixed_point_cannot_hold_is_said(encoder, data, vectors):
    """Under cos-of-mean sums have no norm of their own: below 2^-34 sqrt(P) their digits go."""
    train, dev = vectors[:5], [v * 1e-11 for v in vectors[5:]]
    found = made(encoder, data, train, dev, exact=True).measure(0, LR)
    assert not found.rewards.any() and len(found.unusable) == 3
    rather = made(encoder, data, train, dev, exact=True, reward="mean-of-cos").measure(0, LR)
    assert rather.rewards.all() and rather.unusable == {}


@pytest.mark.parametrize("exact", [False, True])
def test_halves_that_cancel_are_no_gradient(encoder, data, vectors, exact):
    rewards = made(encoder, data, vectors[:5], vectors[5:], batches=2, exact=exact,
                   reward="mean-of-cos")  # fmt: skip
    add, large = rewards.dev.add, vectors[0] * 50

    def cancelling(tlp, draw, row, part=slice(None)):
        add(tlp, draw, row, part)
        if tlp == DEV[0]:
            row.copy_(large if part.start == 0 else -large)
            row[0] += 1e-3

    rewards.dev.add = cancelling
    report = rewards.measure(0, LR)
    assert report.unusable == {f"dev {DEV[0]}": 1}
    expected = [(cosine(v, vectors[6]) + cosine(v, vectors[7])) / 3 for v in vectors[:5]]
    assert report.rewards == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("reward", ["cos-of-mean", "mean-of-cos", "adam-delta"])
@pytest.mark.parametrize("bad", [0.0, math.nan, math.inf])
def test_bad_gradients_are_rewarded_with_nothing(encoder, data, vectors, reward, bad, exact):
    def spoilt(vector):
        out = vector * 0 if bad == 0 else vector.clone()
        out[17] = bad
        return out

    train, dev = vectors[:5], vectors[5:]
    learner = MultiDDS([0.2] * 5, MultiDDSConfig())
    options = {"reward": reward, "exact": exact, "batches": 1 if reward == "adam-delta" else 2}
    report = made(encoder, data, [spoilt(train[0]), *train[1:]], dev, **options).measure(0, LR)
    assert report.rewards[0] == 0 and np.all(report.rewards[1:] != 0)
    assert report.unusable[str(TRAIN[0])] >= 1
    learner.update(report.rewards)
    # One of three dev gradients: its cosines count as 0.
    whole = made(encoder, data, train, dev, **options).measure(0, LR)
    report = made(encoder, data, train, [spoilt(dev[0]), *dev[1:]], **options).measure(0, LR)
    assert np.isfinite(report.rewards).all()
    # A second AdamW step on a gradient of zero is a step on momentum, as in the published code.
    assert bool(report.unusable) == (reward != "adam-delta" or bad != 0)
    if reward == "mean-of-cos":
        expected = [(cosine(v, dev[1]) + cosine(v, dev[2])) / 3 for v in train]
        assert report.rewards == pytest.approx(expected, abs=1e-6)
    elif reward == "cos-of-mean":
        assert report.rewards == pytest.approx(
            [cosine(v, dev[1] + dev[2]) for v in train], abs=1e-6
        )
    elif bad != 0:
        # It is the dev TLP's fault, once for each training TLP.
        assert report.unusable == {f"dev {DEV[0]}": len(TRAIN)}
    assert not np.array_equal(report.rewards, whole.rewards)
    learner.update(report.rewards)
    report = made(encoder, data, train, [spoilt(v) for v in dev], **options).measure(0, LR)
    if reward != "adam-delta" or bad != 0:
        assert not report.rewards.any()
    learner.update(report.rewards)
    assert np.isfinite(learner.psi).all()


def test_adam_delta_of_orthogonal_gradients_is_060(encoder, data, vectors):
    """AUTHORS_CODE's table: of one size .60; the train gradient ten times the dev's, or a tenth."""
    size = len(vectors[0])
    generator = torch.Generator().manual_seed(2)
    draws = torch.randn(8, size, generator=generator, dtype=torch.float64)
    q, _ = torch.linalg.qr(draws.T)
    rows = (q.T * math.sqrt(size)).float()
    train, dev = list(rows[:5]), list(rows[5:])
    for scale, expected in ((1.0, 0.60), (0.1, 0.93), (10.0, 0.17)):
        scaled = [v * scale for v in dev]
        report = made(encoder, data, train, scaled, reward="adam-delta").measure(0, LR)
        assert report.rewards == pytest.approx([expected] * 5, abs=0.02)
        plain = made(encoder, data, train, scaled).measure(0, LR)
        assert plain.rewards == pytest.approx([0.0] * 5, abs=1e-6)


def test_split_half_by_hand():
    one = [TLP("pos", lang) for lang in ("en", "hi", "es")]
    # r of (1, 2, 3) and (1, 3, 2) is 1/2: (2 * 1/2) / (1 + 1/2).
    assert split_half(dict(zip(one, [(1, 1), (2, 3), (3, 2)], strict=True))) == pytest.approx(2 / 3)
    assert split_half(dict(zip(one, [(1, 3), (2, 2), (3, 1)], strict=True))) == pytest.approx(-1)
    assert split_half(dict(zip(one[:2], [(1, 1), (2, 3)], strict=True))) is None
    assert split_half(dict(zip(one, [(1, 1), (1, 2), (1, 3)], strict=True))) is None
    assert split_half({}) is None


def test_tasks_that_differ_say_nothing_of_their_languages():
    # Between the tasks all agree; within them what is left is (-1, 1) against (1, -1), twice.
    tlps = [TLP(task, lang) for task in ("pos", "ner") for lang in ("en", "hi")]
    halves = dict(zip(tlps, [(99, 101), (101, 99), (-1, 1), (1, -1)], strict=True))
    assert split_half(halves) > 0.99
    assert split_half_within_tasks(halves) == pytest.approx(-1)
    assert split_half_within_tasks(dict(list(halves.items())[:3])) is None
