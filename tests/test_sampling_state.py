"""Samplers: save and restore, what is refused, and room for one that learns."""

import json
import math

import numpy as np
import pytest

from metatlp.grid import PAPER_SIZES
from metatlp.sampling import (
    FixedProbabilities,
    MultiDDSConfig,
    Multinomial,
    Sampler,
    Systematic,
    build_sampler,
    uniform_probs,
    weight_probs,
)

SIZES = list(PAPER_SIZES.values())


@pytest.mark.parametrize("draw", ["multinomial", "systematic"])
def test_restore_continues_bit_for_bit(draw):
    def build():
        return build_sampler("temp", SIZES, seed=5, tau=2, draw=draw)

    whole = build()
    expected = [whole.draw(step, 7) for step in range(200)]
    first = build()
    for step in range(120):
        first.draw(step, 7)
    second = build()
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert [second.draw(step, 7) for step in range(120, 200)] == expected[120:]
    assert second.state_dict() == whole.state_dict()


def test_state_holds_the_probabilities_bit_for_bit():
    sampler = build_sampler("temp", SIZES, seed=5, tau=2)
    state = json.loads(json.dumps(sampler.state_dict()))
    # Another machine's exp may differ in the last bit; the saved numbers win.
    state["probabilities"]["probs"][0] += 1e-16
    sampler.load_state_dict(state)
    assert sampler.probs()[0] == state["probabilities"]["probs"][0]


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"tau": 5}, "not those of this run"),
        ({"sizes": SIZES[:-1]}, "not those of this run"),
        ({"seed": 6}, "saved with seed 5, this run has 6"),
        ({"draw": "multinomial"}, "needs the keys"),
    ],
)
def test_state_of_another_run_is_refused(other, message):
    def build(kind="temp", sizes=SIZES, seed=5, tau=2, draw="systematic"):
        return build_sampler(kind, sizes, seed=seed, tau=tau, draw=draw)

    with pytest.raises(ValueError, match=message):
        build(**other).load_state_dict(build().state_dict())


def test_states_of_another_shape_are_refused():
    sampler = build_sampler("uniform", [1, 1], seed=0)
    with pytest.raises(ValueError, match="not the state of a sampler"):
        sampler.load_state_dict({})
    with pytest.raises(ValueError, match="not the state of fixed probabilities"):
        sampler.load_state_dict({"probabilities": {}, "draw": {}})
    with pytest.raises(ValueError, match="saved with 3 arms, this run has 2"):
        Systematic(2, seed=0).load_state_dict(Systematic(3, seed=0).state_dict())


@pytest.mark.parametrize(
    ("kind", "extra", "name"),
    [
        ("temp", {"tau": 2}, r"temperature \(tau=2\)"),
        ("temp", {"tau": math.inf}, r"temperature \(tau=inf\)"),
        ("uniform", {}, "uniform"),
        ("fixed", {"weights": [1, 2]}, "weights"),
    ],
)
def test_fixed_samplers_do_not_learn(kind, extra, name):
    with pytest.raises(ValueError, match=f"the {name} sampler does not learn"):
        build_sampler(kind, [1, 2], seed=0, **extra).update([0.1, 0.2])


@pytest.mark.parametrize(
    ("kind", "extra", "message"),
    [
        ("tmp", {}, "sampler 'tmp': choose from temp, uniform, fixed"),
        ("temp", {}, "needs tau"),
        ("fixed", {}, "needs weights"),
        ("uniform", {"tau": 2}, "tau belongs to the sampler 'temp'"),
        ("temp", {"tau": 2, "weights": [1, 2]}, "weights belongs to the sampler 'fixed'"),
        ("fixed", {"weights": [1, 2, 3]}, "3 weights for 2 arms"),
        ("uniform", {"draw": "random"}, "draw rule 'random': choose from"),
        ("uniform", {"seed": -1}, "seed must be in 0..4294967295, not -1"),
        ("uniform", {"seed": 2**32}, "seed must be in"),
        ("multidds", {}, "needs multidds"),
        ("multidds", {"multidds": MultiDDSConfig(), "tau": 2}, "tau belongs to the sampler 'temp'"),
        ("multidds", {"multidds": MultiDDSConfig(floor=0.6)}, "floor must be between"),
    ],
)
def test_build_refuses(kind, extra, message):
    with pytest.raises(ValueError, match=message):
        build_sampler(kind, [1, 2], **({"seed": 0} | extra))


@pytest.mark.parametrize("rule", [Multinomial(0), Systematic(2, seed=0)])
@pytest.mark.parametrize(
    ("step", "probs", "m", "message"),
    [
        (0, [0.5, 0.5], 0, "slots m must be >= 1"),
        (-1, [0.5, 0.5], 1, "step must be in"),
        (0, [0.5, 0.6], 1, "sum 1"),
        (0, [1.5, -0.5], 1, "sum 1"),
        (0, [math.nan, 1.0], 1, "sum 1"),
        (0, [[0.5, 0.5]], 1, "sum 1"),
    ],
)
def test_draws_refuse(rule, step, probs, m, message):
    with pytest.raises(ValueError, match=message):
        rule.draw(step, np.array(probs), m)


def test_a_learning_sampler_fits():
    class Learned(FixedProbabilities):
        def update(self, rewards):
            self._probs = weight_probs(self._probs * np.exp(rewards))

    sampler = Sampler(Learned("learned", uniform_probs(2)), Systematic(2, seed=0))
    sampler.draw(0, 4)
    sampler.update(np.array([math.log(3), 0.0]))
    np.testing.assert_allclose(sampler.probs(), [0.75, 0.25])
    assert sorted(sampler.draw(1, 4)) in ([0, 0, 0, 1], [0, 0, 0, 0], [0, 0, 1, 1])
