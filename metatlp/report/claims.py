"""The claims of the paper's section 5 (and the one of its abstract), as comparisons of numbers.

Data only: what is compared with what. How a verdict comes of it: verdicts.py.
"""

from __future__ import annotations

from dataclasses import dataclass

DEEP, SHALLOW = ("qa", "nli", "pa"), ("pos", "ner")
TEMP = ("meta-temp-lang", "meta-temp-task", "meta-temp-all")
MDDS = ("meta-mdds-lang", "meta-mdds-task", "mdds-lang", "mdds-task")
BASELINES = ("baseline", "mtl-lang", "mtl-task", "mtl-all")
ALL, MOST, MEAN = "all", "most", "mean"  # columns: each, more than half of them, their mean


@dataclass(frozen=True)
class Better:
    """Rows have higher test scores than others.

    Attributes:
        target: table. rows: of several, dev chooses one for each column. against: each of them is
            to be surpassed. tasks: whose columns. how: ALL, MOST or MEAN.
    """

    target: str
    rows: tuple[str, ...]
    against: tuple[str, ...]
    tasks: tuple[str, ...]
    how: str


@dataclass(frozen=True)
class MoreGain:
    """Rows gain more over others in the columns of some tasks than in those of others, on average.

    Attributes: as of Better; more: tasks with the larger gain. less: with the smaller.
    """

    target: str
    rows: tuple[str, ...]
    against: tuple[str, ...]
    more: tuple[str, ...]
    less: tuple[str, ...]


@dataclass(frozen=True)
class Curve:
    """A number of every sampler's curves (figure3) is positive for each target TLP, or about 0.

    Attributes:
        quantity: a key of curves.QUANTITIES. tasks: of the targets that count; empty: any.
        within: None for positive; else how far from 0 it may be.
    """

    quantity: str
    tasks: tuple[str, ...] = ()
    within: float | None = None


@dataclass(frozen=True)
class Claim:
    """A claim in our words.

    Attributes: name: for files and links. section: of the paper. test: what is compared.
    """

    name: str
    section: str
    text: str
    test: Better | MoreGain | Curve


CLAIMS = (
    Claim(
        "meta-beats-baselines",
        "abstract, 6",
        "The meta-learned model surpasses competitive baselines, multi-task ones among them, on "
        "average over all pairs of task and language.",
        Better("table2", TEMP + MDDS, BASELINES, DEEP + SHALLOW, MEAN),
    ),
    Claim(
        "deep-tasks-all-improve",
        "5",
        "For QA, NLI and PA the meta-learned models surpass the baselines in every language.",
        Better("table2", TEMP + MDDS, BASELINES, DEEP, ALL),
    ),
    Claim(
        "shallow-tasks-mostly-improve",
        "5",
        "POS and NER mostly gain from meta-learning, too.",
        Better("table2", TEMP + MDDS, BASELINES, SHALLOW, MOST),
    ),
    Claim(
        "shallow-tasks-gain-less",
        "5",
        "The gains of POS and NER over the baselines are smaller than those of QA, NLI and PA.",
        MoreGain("table2", TEMP + MDDS, ("baseline",), DEEP, SHALLOW),
    ),
    Claim(
        "task-limited-for-qa-and-nli",
        "5, Task-Limited vs Lang-Limited",
        "For QA and NLI, models meta-trained on all languages of the task are always better than "
        "those meta-trained on all tasks of the language.",
        Better("table2", ("meta-temp-task",), ("meta-temp-lang",), ("qa", "nli"), ALL),
    ),
    Claim(
        "lang-limited-for-pos-and-ner",
        "5, Task-Limited vs Lang-Limited",
        "For POS and NER, models meta-trained on all tasks of the language are almost always "
        "better than those meta-trained on all languages of the task.",
        Better("table2", ("meta-temp-lang",), ("meta-temp-task",), SHALLOW, MOST),
    ),
    Claim(
        "shallow-best-lang-limited-temp",
        "5, sampling strategies",
        "The best meta-learned models for POS and NER are mostly Lang-Limited ones with "
        "temperature sampling.",
        Better(
            "table2", ("meta-temp-lang",), ("meta-temp-task", "meta-temp-all", *MDDS), SHALLOW, MOST
        ),
    ),
    Claim(
        "no-mdds-for-shallow-tasks",
        "5, sampling strategies",
        "For POS and NER, learned sampling from the other tasks of the language brings nothing: "
        "temperature sampling is at least as good.",
        Better("table2", ("meta-temp-lang",), ("meta-mdds-lang",), SHALLOW, MEAN),
    ),
    Claim(
        "similar-rewards-at-first",
        "5, Figure 3",
        "At the start of training all pairs have similar rewards; they drift apart later.",
        Curve("spread_gained"),
    ),
    Claim(
        "psi-towards-uniform",
        "5, Figure 3",
        "The sampling probabilities of MultiDDS move towards those of tau = infinity.",
        Curve("entropy_gained"),
    ),
    Claim(
        "nli-share-falls",
        "5, Figure 3, first observation",
        "Under MultiDDS, NLI begins with the largest share of the draws and loses much of it.",
        Curve("nli_share_lost"),
    ),
    Claim(
        "mdds-no-help-for-nli",
        "5, Figure 3, first observation",
        "MultiDDS does not help NLI: temperature sampling is at least as good.",
        Better("table2", TEMP, MDDS, ("nli",), MEAN),
    ),
    Claim(
        "rewards-of-qa-and-nli-high",
        "5, Figure 3, second observation",
        "The rewards of QA and NLI are higher than those of the other tasks, whatever the target.",
        Curve("rewards_of_qa_and_nli"),
    ),
    Claim(
        "pa-best-with-mdds",
        "5, Figure 3, second observation",
        "For PA, the best meta-learned models in every language are those with MultiDDS.",
        Better("table2", MDDS, TEMP, ("pa",), ALL),
    ),
    Claim(
        "qa-and-nli-equal-weight",
        "5, Figure 3, third observation",
        "With a QA target, QA and NLI end with almost the same sampling probability.",
        Curve("qa_less_nli", ("qa",), within=0.05),
    ),
    Claim(
        "qa-best-task-limited",
        "5, Figure 3, third observation",
        "For QA the best meta-learned models are Task-Limited: QA gains from no other task.",
        Better(
            "table2",
            ("meta-temp-task", "meta-mdds-task"),
            ("meta-temp-lang", "meta-mdds-lang", "meta-temp-all", "mdds-lang", "mdds-task"),
            ("qa",),
            ALL,
        ),
    ),
    Claim(
        "lang-limited-mtl-not-competitive",
        "5, zero-shot evaluations",
        "On languages never seen, Lang-Limited MTL is no match for the other MTL models.",
        Better("table3", ("mtl-task", "mtl-all"), ("mtl-lang",), DEEP + SHALLOW, MEAN),
    ),
    Claim(
        "zero-shot-shallow-task-limited",
        "5, zero-shot evaluations",
        "On every language never seen, Task-Limited meta-learning surpasses both kinds of MTL in "
        "POS and NER.",
        Better("table3", ("meta-temp-task",), ("mtl-task", "mtl-all"), SHALLOW, ALL),
    ),
    Claim(
        "zero-shot-deep-all-tlps",
        "5, zero-shot evaluations",
        "On languages never seen, QA, NLI and PA gain more from meta-learning on all pairs than on "
        "those of the task alone.",
        Better("table3", ("meta-temp-all",), ("meta-temp-task",), DEEP, MEAN),
    ),
)
