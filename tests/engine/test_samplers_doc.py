"""The plug-in of docs/samplers.md: pasted from there and trained with."""

from __future__ import annotations

import json
import re
from pathlib import Path

from metatlp.engine import checkpoint
from metatlp.engine.reopen import saved_arguments

ROOT = Path(__file__).resolve().parents[2]


def test_a_sampler_of_ones_own_learns_and_resumes(tmp_path, fork, grid_flags):
    text = (ROOT / "docs" / "samplers.md").read_text(encoding="utf-8")
    (script,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (tmp_path / "greedy.py").write_text(script)
    flags = [*grid_flags, "--sampler", "greedy", "--dev-tlps", "pos_en", "--dds-every", "1"]

    def train(folder, *more):
        arguments = [*flags, "--output-dir", str(tmp_path / folder), *more]
        done = fork(arguments, tmp_path / "greedy.py")
        assert done.wait() == 0, done.err[-3000:]
        lines = (tmp_path / folder / "metrics.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]

    whole = train("whole", "--max-meta-steps", "4", "--save-every", "2", "--keep", "9")
    updates = [record for record in whole if "rewards" in record]
    assert [record["step"] for record in updates] == [1, 2, 3]
    best = max(updates[0]["rewards"], key=updates[0]["rewards"].get)
    n = len(updates[0]["p"])
    assert updates[0]["p"][best] == 0.5 + 0.5 / n and updates[0]["psi"] is None
    resumed = train("whole", "--max-meta-steps", "4", "--resume",
                    str(tmp_path / "whole" / "checkpoints" / "step_000002"))  # fmt: skip
    again = [record for record in resumed if "rewards" in record]
    for kind in ("rewards", "p"):
        assert [record[kind] for record in again] == [record[kind] for record in updates]
    # What a report needs of the run does not ask for the sampler.
    saved = checkpoint.load(tmp_path / "whole" / "checkpoints" / "step_000004")
    assert saved_arguments(saved, {})[1].sampler == "uniform"
