"""The rows of the paper's tables, in its order and with its labels."""

from __future__ import annotations

MTL = {
    "mtl-lang": "Lang-Limited MTL",
    "mtl-task": "Task-Limited MTL",
    "mtl-all": "All TLPs MTL",
}
BASELINES = {"baseline": "Baselines", **MTL}
TAUS = ("1", "2", "5", "inf")
SELECTIONS = {"lang": "Lang-Limited", "task": "Task-Limited", "all": "All TLPs"}
# Target -> group of rows -> row -> label, in the paper's order; the first group is the baselines.
LAYOUTS: dict[str, dict[str, dict[str, str]]] = {
    "table2": {
        "Baselines": BASELINES,
        "Lang-Limited": {"meta-temp-lang": "Temp", "meta-mdds-lang": "mDDS"},
        "Task-Limited": {"meta-temp-task": "Temp", "meta-mdds-task": "mDDS"},
        "All TLPs": {
            "meta-temp-all": "Temp",
            "mdds-lang": "mDDS-Lang",
            "mdds-task": "mDDS-Task",
        },
    },
    "table3": {
        "Baselines": MTL,
        "Meta-learned": {
            "meta-temp-task": "Task-Limited",
            "meta-temp-all": "All TLPs",
            "mdds-task": "All TLPs mDDS-Task",
        },
    },
    "table4": {
        "Baselines": BASELINES,
        **{
            title: {f"temp-{tau}-{code}": f"T = {'∞' if tau == 'inf' else tau}" for tau in TAUS}
            for code, title in SELECTIONS.items()
        },
    },
}
