"""README.md of an exported model: what it is, how to load it, and what it can be trusted for.

Knows provenance and the tasks; reads and writes no file.
"""

from __future__ import annotations

import json
import re
import shlex
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from metatlp.engine.provenance import SYSTEMS, Provenance
from metatlp.grid import TLP
from metatlp.tasks import TASKS

# The hub's name for what a model is used for, by the auto class that loads it.
PIPELINES = {
    "AutoModelForTokenClassification": "token-classification",
    "AutoModelForSequenceClassification": "text-classification",
    "AutoModelForQuestionAnswering": "question-answering",
}
_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
_CODE = re.compile(r"[a-z]{2,3}")
_COUNTS = ("examples", "words")
_BLANK = "\u00a0"

_USE = {
    "token-classification": """\
from transformers import pipeline

name = "."  # this folder, or the name of the repository
tag = pipeline("token-classification", model=name)
for piece in tag("Anna lives in Paris ."):
    print(piece["word"], piece["entity"])
""",
    "text-classification": """\
from transformers import pipeline

name = "."  # this folder, or the name of the repository
classify = pipeline("text-classification", model=name)
print(classify({"text": "Anna lives in Paris.", "text_pair": "Anna lives in France."}))
""",
    "question-answering": """\
import torch
from transformers import AutoModelForQuestionAnswering, AutoTokenizer

name = "."  # this folder, or the name of the repository
tokenizer = AutoTokenizer.from_pretrained(name)
model = AutoModelForQuestionAnswering.from_pretrained(name)
question, context = "Where lives Anna?", "Anna lives in Paris, and Boris in Rome."
inputs = tokenizer(
    question,
    context,
    truncation="only_second",
    max_length=MAX_LENGTH,
    return_offsets_mapping=True,
    return_tensors="pt",
)
characters = inputs.pop("offset_mapping")[0].tolist()
with torch.no_grad():
    outputs = model(**inputs)
# Sums of a start's and an end's logit, where both lie in the context, at most ANSWER pieces apart.
sums = outputs.start_logits[0][:, None] + outputs.end_logits[0][None, :]
inside = torch.tensor([part == 1 for part in inputs.sequence_ids(0)])
spans = (inside[:, None] & inside).triu().tril(ANSWER - 1)
first, last = divmod(int(sums.masked_fill(~spans, -torch.inf).argmax()), len(characters))
print(context[characters[first][0] : characters[last][1]])
""",
}


def model_card(provenance: Provenance) -> str:
    """Markdown with the front matter that the Hugging Face hub reads; no path of this machine.

    Args:
        provenance: with its `task`.
    """
    own = provenance.published()
    assert own.task is not None
    parts = [
        front_matter(own),
        f"# {own.task}: {SYSTEMS.get(own.system, own.system)}",
        _what(own),
        *_use(own),
        "## Labels\n\n" + ", ".join(f"{i} `{name}`" for i, name in enumerate(_task(own).labels)),
        "## Training\n\n" + _table([("", ""), *_training(own)]),
        "## Dev data that chose something\n\n" + _choices(own),
        "## Scores\n\n" + _scores(own),
        *_command(own),
        "## Limits\n\n" + _limits(own),
        "## Licence\n\nNone is set here. The licences of the training data and of the encoder "
        "decide what this model may be used for: check them, and add `license:` to the lines "
        "above.",
    ]
    return "\n\n".join(parts) + "\n"


def front_matter(own: Provenance) -> str:
    """YAML between two lines of dashes; every text is quoted, for `no` is a language."""
    pipeline = PIPELINES.get(_task(own).auto_class.__name__)
    languages = [code for code in _languages(own) if _CODE.fullmatch(code)]
    on_hub = own.encoder != "demo" and _HUB_ID.fullmatch(own.encoder)
    fields = {
        "library_name": "transformers",
        "pipeline_tag": pipeline,
        # The demo's languages are artificial, whatever their codes.
        "language": None if _is_demo(own) else languages,
        "base_model": own.encoder if on_hub else None,
        "tags": ["metatlp", own.system, own.task],
    }
    lines = [f"{name}: {json.dumps(value)}" for name, value in fields.items() if value]
    return "\n".join(["---", *lines, "---"])


def _task(own: Provenance) -> Any:
    return TASKS[own.task or ""]


def _is_demo(own: Provenance) -> bool:
    flags = own.details.get("arguments")
    return isinstance(flags, Mapping) and flags.get("data") == "demo"


def _languages(own: Provenance) -> list[str]:
    return sorted({TLP.parse(name).lang for name in own.trained_on})


def _what(own: Provenance) -> str:
    encoder = "the demo's own" if own.encoder == "demo" else own.encoder
    text = (
        f"The model of task `{own.task}` from a run of metatlp on {len(own.trained_on)} "
        f"task-language pairs (TLPs); the encoder it began from is {encoder}."
    )
    if _is_demo(own):
        text += " The data was the project's demo: artificial languages, of no use outside of it."
    return text


def _use(own: Provenance) -> list[str]:
    code = _USE.get(PIPELINES.get(_task(own).auto_class.__name__, ""))
    if code is None:
        return []
    code = code.replace("MAX_LENGTH", str(own.limits.qa_max_length))
    code = code.replace("ANSWER", str(own.limits.qa_answer_length))
    return [f"## Use\n\n```python\n{code}```"]


def _training(own: Provenance) -> list[tuple[str, str]]:
    rows = [("system", own.system), ("trained on", ", ".join(own.trained_on))]
    shown = {k: v for k, v in own.details.items() if k not in ("script", "arguments")}
    return rows + [(name.replace("_", " "), _text(v)) for name, v in shown.items()]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _choices(own: Provenance) -> str:
    if not any(own.selected_on.values()):
        return "None: no dev data chose anything about this model."
    rows = [(what, ", ".join(tlps)) for what, tlps in own.selected_on.items()]
    return _table([("chosen", "by the dev data of"), *rows])


def _scores(own: Provenance) -> str:
    """Of the TLPs of the task: a row each, a column per split and metric."""
    of_task = {
        split: {tlp: values for tlp, values in tlps.items() if TLP.parse(tlp).task == own.task}
        for split, tlps in own.scores.items()
    }
    columns = [
        (split, metric)
        for split, tlps in of_task.items()
        for metric in dict.fromkeys(m for values in tlps.values() for m in values)
    ]
    if not columns:
        return "None were measured."
    rows: list[tuple[str, ...]] = [("", *(f"{split} {metric}" for split, metric in columns))]
    for tlp in dict.fromkeys(tlp for tlps in of_task.values() for tlp in tlps):
        cells = (
            _score(metric, of_task[split].get(tlp, {}).get(metric)) for split, metric in columns
        )
        rows.append((tlp, *cells))
    return "In percent, besides the counts.\n\n" + _table(rows)


def _score(metric: str, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:g}" if metric in _COUNTS else f"{100 * value:.2f}"


def _command(own: Provenance) -> list[str]:
    flags, script = own.details.get("arguments"), own.details.get("script")
    if not (isinstance(flags, Mapping) and isinstance(script, str)):
        return []
    # A flag and its value stay on one line: the wrapper takes no such blank for one.
    words = ["python", script, *(_BLANK.join(words) for words in command_flags(flags))]
    lines = textwrap.wrap(" ".join(words), width=96, break_long_words=False, break_on_hyphens=False)
    command = " \\\n    ".join(lines).replace(_BLANK, " ")
    return [f"## Command\n\nWords in capitals stand for places.\n\n```bash\n{command}\n```"]


def command_flags(flags: Mapping[str, Any]) -> list[list[str]]:
    """The flags, each with its value, that resolve to these; quoted for a shell."""
    found = []
    for name, value in flags.items():
        # The demo's own encoder has no flag.
        own_encoder = name == "model" and value == "demo"
        if value is None or value is False or own_encoder or name in ("cache_dir", "resume"):
            continue
        given = [] if value is True else [shlex.quote(str(value))]
        found.append(["--" + name.replace("_", "-"), *given])
    return found


def _limits(own: Provenance) -> str:
    lengths = own.limits
    return (
        f"Trained on inputs of at most {lengths.max_length} word pieces (questions with their "
        f"context: windows of {lengths.qa_max_length}, {lengths.qa_stride} apart, questions of at "
        f"most {lengths.qa_query_length}, answers of at most {lengths.qa_answer_length}; "
        f"`--long-inputs {lengths.long_inputs}`). Scores in other languages than those of the "
        "table are not known."
    )


def _table(rows: Sequence[tuple[str, ...]]) -> str:
    """Markdown; the first row is the header."""
    cells = [[" ".join(cell.split()).replace("|", "\\|") for cell in row] for row in rows]
    cells.insert(1, ["---"] * len(rows[0]))
    return "\n".join("| " + " | ".join(row) + " |" for row in cells)
