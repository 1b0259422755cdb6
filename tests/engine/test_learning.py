"""A run whose sampler learns: what it logs, what it refuses, and what its rewards do to psi."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from metatlp.errors import InputError

LEARNS = ["--sampler", "multidds", "--dds-every", "2"]


@pytest.fixture(scope="module")
def train(train_meta, grid_flags, tmp_path_factory):
    """Train in this process; the records of metrics.jsonl and the run's folder."""

    def run(*flags, folder=None):
        folder = folder or tmp_path_factory.mktemp("learning") / "run"
        train_meta.main([*grid_flags, *LEARNS, *flags, "--output-dir", str(folder)])
        lines = (folder / "metrics.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines], folder

    return run


def test_updates_are_logged_and_follow_algorithm_1(train, capsys):
    flags = ["--dev-tlps", "task:pos", "--dds-lr", "0.5", "--max-meta-steps", "5"]
    records, folder = train(*flags, "--reward-batches", "4")
    updates = [record for record in records if "rewards" in record]
    assert [record["step"] for record in updates] == [2, 4]
    begun = next(record for record in records if record["step"] == 0)
    sizes = json.loads((folder / "data.json").read_text())["splits"]
    assert list(sizes["D_dev"]) == ["pos_en", "pos_hi"]
    examples = np.array([split["examples"] for split in sizes["train"].values()])
    psi = np.log(examples / examples.sum())
    assert list(begun["psi"].values()) == pytest.approx(psi)
    assert list(begun["p"].values()) == pytest.approx(np.exp(psi))
    for record in updates:
        # psi_j += lr * (R_j - p_j * sum(R)), at p before the update.
        rewards, p = np.array(list(record["rewards"].values())), np.exp(psi) / np.exp(psi).sum()
        psi = psi + 0.5 * (rewards - p * rewards.sum())
        assert list(record["psi"].values()) == pytest.approx(psi)
        assert list(record["p"].values()) == pytest.approx(np.exp(psi) / np.exp(psi).sum())
        assert record["passes"] == 4 * (10 + 2) and record["passes_by_rank"] == [48]
        assert record["seconds"] > 0
        assert record["tokens"] > 0 and record["unusable"] == {}
        # POS against the rest is far above the noise; within a task there are two TLPs.
        assert 0.5 < record["reliability"] <= 1
        assert -1 <= record["reliability_within_tasks"] <= 1
        assert list(record["dev_norms"]) == ["pos_en", "pos_hi"] and len(record["norms"]) == 10
        assert record["rewards"]["pos_hi"] > record["rewards"]["qa_en"]
    out = capsys.readouterr().out
    assert "rewards: cos-of-mean on D_dev = pos_en, pos_hi; 4 batches per gradient" in out
    assert "update every 2 meta steps: 48 backward passes beside the 20 of the inner steps" in out
    assert "psi: lr 0.5, update sum, floor 0, baseline none, smoothing 0" in out
    state = json.loads((folder / "checkpoints/step_000005/state.json").read_text())
    assert state["sampler"]["probabilities"]["psi"] == pytest.approx(psi)


def test_training_does_not_depend_on_rewards_while_draws_are_the_same(train):
    """Their batches and passes are their own: with psi all but still, theta is that of a run
    without an update."""
    flags = ["--dev-tlps", "qa_en", "--max-meta-steps", "4", "--dds-lr", "1e-12"]
    often, often_folder = train(*flags, "--dds-every", "1")
    never, never_folder = train(*flags, "--dds-every", "9")
    slots = [[r["slots"] for r in records if "slots" in r] for records in (often, never)]
    assert slots[0] == slots[1]
    assert sum("rewards" in record for record in often) == 3
    assert not any("rewards" in record for record in never)
    saved = "checkpoints/step_000004/theta.safetensors"
    assert (often_folder / saved).read_bytes() == (never_folder / saved).read_bytes()


def test_a_target_that_does_not_train(train):
    flags = ["--selection", "lang:en", "--dev-tlps", "pos_hi", "--max-meta-steps", "3"]
    flags += ["--reward-params", "encoder", "--dds-baseline", "mean"]
    records, folder = train(*flags)
    (update,) = [record for record in records if "rewards" in record]
    assert "pos_hi" not in update["p"] and list(update["dev_norms"]) == ["pos_hi"]
    assert max(update["rewards"], key=update["rewards"].get) == "pos_en"
    arguments = json.loads((folder / "args.json").read_text())["arguments"]
    assert (arguments["dev_tlps"], arguments["reward_batches"]) == ("pos_hi", 2)
    assert list(json.loads((folder / "data.json").read_text())["splits"]["D_dev"]) == ["pos_hi"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--selection", "task:pos", "--dev-tlps", "qa_en"],
            "--dev-tlps: no TLP of task 'qa' trains, so there is no head for qa_en; the selection "
            "has pos",
        ),
        (["--dev-tlps", "pos_ta"], "--dev-tlps: no dev data for 'pos_ta'; it was found for qa_en"),
        (["--dev-tlps", "lang:ta"], "--dev-tlps: unknown lang 'ta'; choose from en"),
        (
            ["--dev-tlps", "pos_en", "--dds-floor", "0.2"],
            "--dds-floor 0.2: 10 TLPs train, so at most 1/10 = 0.1",
        ),
    ],
)
def test_what_does_not_fit_the_grid_is_refused(train, flags, message):
    with pytest.raises(InputError) as caught:
        train(*flags)
    assert message in str(caught.value)


def test_a_floor_holds(train):
    flags = ["--dev-tlps", "pos_en", "--dds-lr", "50", "--dds-floor", "0.02", "--dds-update"]
    records, _ = train(*flags, "expected", "--max-meta-steps", "5")
    p = [record["p"] for record in records if "rewards" in record][-1]
    assert min(p.values()) == pytest.approx(0.02, abs=1e-3) and sum(p.values()) == pytest.approx(1)


def test_other_dev_data_or_rewards_are_not_gone_on_with(train, grid_dir, tmp_path):
    flags = ["--dev-tlps", "pos_hi", "--max-meta-steps", "2"]
    _, folder = train(*flags)
    other = tmp_path / "grid"
    shutil.copytree(grid_dir, other)
    path = other / "udpos/dev-hi.tsv"
    path.write_text(path.read_text().replace("dog", "cat"))
    with pytest.raises(InputError, match="other data for dev pos_hi"):
        train(*flags, "--data-dir", str(other), "--resume", "auto", folder=folder)
    with pytest.raises(InputError, match="--reward-batches 2, not 3"):
        train(*flags, "--reward-batches", "3", "--resume", "auto", folder=folder)
    # What is scored may be cut; what is rewarded is whole.
    train(*flags, "--eval-examples", "3", "--resume", "auto", folder=folder)
