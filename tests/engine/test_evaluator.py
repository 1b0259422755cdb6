"""Scores in training, where a forward pass may need several ranks."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from metatlp.engine.mesh import Mesh
from metatlp.engine.placement import AgreedError, Placement
from metatlp.engine.scoring import evaluation
from metatlp.engine.scoring.evaluation import EvalSplit, Evaluator
from metatlp.grid import TLP
from metatlp.tasks.task import Padding


def test_no_pass_begins_where_another_rank_cannot_read_its_file(monkeypatch):
    """It would wait for that rank, which is waiting for an agreement, forever."""
    passes, read = [], []
    monkeypatch.setattr(evaluation, "predict_split", lambda *_: passes.append(1))
    # This rank has no error; the other one has.
    monkeypatch.setattr(Placement, "gather", lambda self, items: [*items, "dev-en.tsv: not found"])
    accelerator = SimpleNamespace(
        process_index=0, num_processes=2, device=torch.device("cpu"), autocast=None
    )
    split = EvalSplit(SimpleNamespace(tokens=np.ones(3)), lambda: read.append(1) or [])
    team = Mesh(groups=1, ranks_per_tlp=2)
    place = (Placement(accelerator), team)
    evaluator = Evaluator(None, {TLP("pos", "en"): split}, Padding(0, 0), 4, *place)
    with pytest.raises(AgreedError, match="dev-en.tsv"):
        evaluator.scores()
    assert read and not passes
