"""The tasks, by code. To add one: a file, and a line here (docs/tasks.md)."""

from metatlp.data.tsv import LABELS
from metatlp.tasks.pair import PairClassification
from metatlp.tasks.qa import QuestionAnswering
from metatlp.tasks.tagging import Tagging
from metatlp.tasks.task import (
    MODEL_INPUTS,
    Encoded,
    Limits,
    Padding,
    Task,
    model_inputs,
)

# In the order of grid.TASK_CODES.
TASKS: dict[str, Task] = {
    "qa": QuestionAnswering(),
    "nli": PairClassification("nli", LABELS["nli"]),
    "pa": PairClassification("pa", LABELS["pa"]),
    "pos": Tagging("pos", LABELS["pos"]),
    "ner": Tagging("ner", LABELS["ner"], entities=True),
}

__all__ = ["MODEL_INPUTS", "TASKS", "Encoded", "Limits", "Padding", "Task", "model_inputs"]
