"""A meta-training run as one value: the parts that its loop and its outputs work on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from metatlp.data.prefetch import EpisodeLoader
from metatlp.engine.arguments.meta import MetaArguments, RunArguments
from metatlp.engine.grid_data import GridData
from metatlp.engine.inner import InnerLoop
from metatlp.engine.placement import Placement
from metatlp.engine.rewards import Rewards
from metatlp.engine.run_log import RunLog
from metatlp.engine.run_state import RunState
from metatlp.engine.same_run import RunIdentity
from metatlp.engine.scoring.evaluation import Evaluator
from metatlp.engine.signals import StopRequest


@dataclass
class Training:
    """The parts of a run: built once, used by the loop.

    rewards: for a sampler that learns.
    """

    meta: MetaArguments
    run: RunArguments
    placement: Placement
    log: RunLog
    grid_data: GridData
    loader: EpisodeLoader
    state: RunState
    inner_loop: InnerLoop
    rewards: Rewards | None
    evaluator: Evaluator
    tokenizer: Any
    theta_0: Tensor
    num_steps: int
    identity: RunIdentity
    stop: StopRequest

    @property
    def folder(self) -> Path:
        return Path(self.run.output_dir)
