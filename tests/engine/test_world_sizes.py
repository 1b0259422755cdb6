"""The number of ranks does not change the result: real processes over gloo, dropout on."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file

# Many processes on few cores: a limit for what hangs, not for what is slow.
pytestmark = pytest.mark.timeout(900)

WORLDS = (1, 2, 3, 4)
STEPS = 5
# A TLP of every task.
SHARED = ["--selection", "qa_es,nli_fr,pa_en,pos_en,ner_en", "--eval-examples", "2"]
LEARNS = [
    *("--sampler", "multidds", "--dev-tlps", "qa_en,pos_en", "--dds-every", "2", "--dds-lr", "1"),
    *("--reward-dropout", "on", "--reward-smoothing", "0.5"),
]
# name -> flags; every run of one world is made by the same processes.
RUNS = {
    "average": ["--inner-state", "average", "--reduce", "exact"],
    "reset": ["--inner-state", "reset", "--reduce", "exact"],
    "task-momentum": [
        *("--reduce", "exact", "--head-average", "task", "--outer-momentum", "0.9"),
        *("--draw", "systematic", "--idle-heads", "momentum", "--weight-decay", "0.01"),
    ],
    # At the paper's rate: the bias of the QA head has no gradient in theory (a shift of all
    # logits), so AdamW turns the noise of its sums into steps as long as the rate.
    "exact": ["--inner-lr", "3e-5", "--reduce", "exact"],
    "fp32": ["--inner-lr", "3e-5", "--reduce", "fp32"],
    "bf16": ["--inner-state", "average", "--reduce", "bf16"],
    "multidds": [*LEARNS, "--reduce", "exact", "--dds-baseline", "ema"],
    "multidds-fp32": [*LEARNS, "--inner-lr", "3e-5", "--reward", "mean-of-cos"],
    "adam-delta": [
        *("--sampler", "multidds", "--dev-tlps", "pos_en,ner_en", "--dds-every", "3"),
        *("--reward", "adam-delta", "--reward-batches", "1", "--reduce", "exact"),
        *("--meta-batch-size", "3"),  # with four ranks one is idle in every step
    ],
}
# Of what is compared with another run of one world; all others run in every world.
ONLY = {"exact": (1,), "bf16": (1, 4)}
# The batches of these are cut into two parts, which one rank takes in turn or two ranks share.
GROUPS = {
    "groups": ["--reduce", "exact", *LEARNS, "--reward-dropout", "on"],
    "groups-momentum": [
        *("--reduce", "exact", "--inner-state", "reset", "--outer-momentum", "0.9"),
        *("--head-average", "task", "--idle-heads", "momentum"),
    ],
    "groups-fp32": ["--inner-lr", "3e-5"],
}
RANKS_PER_TLP = {1: 1, 2: 2, 3: 1, 4: 2}
FILES = ("theta", "exp_avg", "exp_avg_sq", "velocity", "inner_steps")


@pytest.fixture(scope="module")
def results(tmp_path_factory, fork_world, grid_flags, meta_flags):
    """(run, world) -> kind -> name -> tensor, and the metrics of each step."""
    folder = tmp_path_factory.mktemp("worlds")
    found = {}
    for world in WORLDS:
        parts = ["--batch-parts", "2", "--ranks-per-tlp", str(RANKS_PER_TLP[world])]
        all_runs = RUNS | {name: [*flags, *parts] for name, flags in GROUPS.items()}
        all_runs = {name: f for name, f in all_runs.items() if world in ONLY.get(name, WORLDS)}
        runs = [
            [*(grid_flags if "multidds" in flags else meta_flags), *flags]
            + ["--max-meta-steps", str(STEPS), *SHARED]
            + ["--output-dir", str(folder / f"{name}-{world}")]
            for name, flags in all_runs.items()
        ]
        (folder / f"{world}.json").write_text(json.dumps(runs))
        fork_world([str(folder / f"{world}.json")], world, "tests/engine/workers/several_runs.py")
        for name in all_runs:
            output = folder / f"{name}-{world}"
            saved = output / "checkpoints" / f"step_{STEPS:06d}"
            tensors = {
                kind: load_file(saved / f"{kind}.safetensors")
                for kind in FILES
                if (saved / f"{kind}.safetensors").exists()
            }
            lines = (output / "metrics.jsonl").read_text().splitlines()
            found[name, world] = tensors, [json.loads(line) for line in lines]
    return found


@pytest.mark.parametrize("world", WORLDS[1:])
@pytest.mark.parametrize(
    "name",
    ["average", "reset", "task-momentum", "multidds", "adam-delta", "groups"] + ["groups-momentum"],
)
def test_exact_gives_the_same_bits_on_any_number_of_ranks(results, name, world):
    one, other = results[name, 1][0], results[name, world][0]
    assert one.keys() == other.keys()
    assert ("exp_avg" in one) == (name not in ("reset", "groups-momentum"))
    assert ("velocity" in one) == ("momentum" in name)
    for kind, tensors in one.items():
        for parameter, tensor in tensors.items():
            assert torch.equal(tensor, other[kind][parameter]), (kind, parameter)


@pytest.mark.parametrize("world", WORLDS[1:])
@pytest.mark.parametrize("name", ["average", "multidds", "adam-delta", "groups"])
def test_exact_gives_the_same_losses_rewards_and_scores(results, name, world):
    def comparable(records):
        slots = [
            [{k: v for k, v in slot.items() if k != "rank"} for slot in record.get("slots", [])]
            for record in records
        ]
        differing = ("slots", "seconds", "passes_by_rank")
        rest = [{k: v for k, v in r.items() if k not in differing} for r in records]
        return slots, rest

    assert comparable(results[name, 1][1]) == comparable(results[name, world][1])


@pytest.mark.parametrize("world", WORLDS[1:])
def test_rewards_and_psi_are_the_same_up_to_the_order_of_sums(results, world):
    one, other = (
        [record for record in results["multidds-fp32", w][1] if "rewards" in record]
        for w in (1, world)
    )
    assert [record["step"] for record in one] == [2, 4]
    for kind in ("rewards", "psi", "p"):
        for before, after in zip(one, other, strict=True):
            assert before[kind] == pytest.approx(after[kind], abs=1e-6), kind
    assert one[0]["p"] != one[-1]["p"]


@pytest.mark.parametrize("world", WORLDS[1:])
def test_fp32_is_equal_up_to_the_order_of_sums(results, world):
    assert relative_rms(results["fp32", 1], results["fp32", world]) < 1e-5
    assert relative_rms(results["groups-fp32", 1], results["groups-fp32", world]) < 1e-5


def test_parts_have_masks_of_their_own(results):
    """So a batch in two parts is another run than a whole one, with dropout."""
    assert relative_rms(results["fp32", 1], results["groups-fp32", 1]) > 1e-5


def test_the_ranks_of_a_tlp_group_share_its_slots(results):
    for world, ranks in RANKS_PER_TLP.items():
        records = [record for record in results["groups-fp32", world][1] if "slots" in record]
        leaders = {slot["rank"] for record in records for slot in record["slots"]}
        assert leaders == set(range(0, world, ranks))


def test_the_passes_of_rewards_are_spread_over_the_ranks(results):
    """K (n + d) = 2 * 7 passes, n = 5 and d = 2 spread one after the other."""
    for world in WORLDS:
        updates = [r for r in results["multidds", world][1] if "rewards" in r]
        for update in updates:
            assert sum(update["passes_by_rank"]) == update["passes"] == 14
            assert len(update["passes_by_rank"]) == world
            most = 2 * (-(-5 // world) + -(-2 // world))
            assert max(update["passes_by_rank"]) <= most + 2


def test_fp32_and_exact_agree(results):
    assert relative_rms(results["exact", 1], results["fp32", 1]) < 1e-5


def test_bf16_is_near(results):
    # One process sends nothing, so it sums in fp32. bf16 keeps 8 bits of each step's difference, a
    # thousandth of theta here: 5 steps * 2^-9 * 1e-2.
    assert 0 < relative_rms(results["bf16", 1], results["bf16", 4]) < 1e-4


def test_the_runs_are_what_they_claim_to_be(results):
    _, records = results["average", 4]
    steps = [record for record in records if "slots" in record]
    assert [record["step"] for record in steps] == list(range(1, STEPS + 1))
    assert all(len(record["slots"]) == 5 for record in steps)
    assert {slot["rank"] for record in steps for slot in record["slots"]} == {0, 1, 2, 3}
    tasks = [{slot["tlp"].split("_")[0] for slot in record["slots"]} for record in steps]
    assert max(len(t) for t in tasks) >= 3, "one step should mix heads"
    first, last = results["average", 1][0], results["reset", 1][0]
    assert any(not torch.equal(first["theta"][n], last["theta"][n]) for n in first["theta"])


def relative_rms(one, other) -> float:
    """RMS of the difference of all parameters over their RMS."""
    a = torch.cat([t.flatten() for _, t in sorted(one[0]["theta"].items())]).double()
    b = torch.cat([t.flatten() for _, t in sorted(other[0]["theta"].items())]).double()
    return ((a - b).norm() / a.norm()).item()
