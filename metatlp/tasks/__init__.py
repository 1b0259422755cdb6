"""The tasks, by code. To add one: a file, and a line here (docs/tasks.md)."""

from metatlp.tasks.pair import RELATIONS, SAME_MEANING, PairClassification
from metatlp.tasks.qa import QuestionAnswering
from metatlp.tasks.tagging import ENTITIES, UPOS, Tagging
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
    "nli": PairClassification("nli", RELATIONS),
    "pa": PairClassification("pa", SAME_MEANING),
    "pos": Tagging("pos", UPOS),
    "ner": Tagging("ner", ENTITIES, entities=True),
}

__all__ = ["MODEL_INPUTS", "TASKS", "Encoded", "Limits", "Padding", "Task", "model_inputs"]
