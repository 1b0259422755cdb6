"""Where XTREME keeps the file of a task, language and split, and how the file is written.

Knows nothing of what the examples say.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from metatlp.data.records import Example, Question, TaggedSentence, TextPair

_FOLDERS = {"pos": "udpos", "ner": "panx", "nli": "xnli", "pa": "pawsx"}


def file_name(task: str, code: str, split: str) -> str:
    """The place relative to the folder, with `/` on every machine."""
    if task != "qa":
        return f"{_FOLDERS[task]}/{split}-{code}.tsv"
    if split != "train":
        return f"mlqa/MLQA_V1/{split}/{split}-context-{code}-question-{code}.json"
    name = "train-v1.1.json" if code == "en" else f"{code}_squad-translate-train-train-v1.1.json"
    return f"squad/{name}"


def file_content(examples: Sequence[Example]) -> bytes:
    """The examples as the readers expect them: SQuAD's JSON, or tab-separated lines."""
    questions = [example for example in examples if isinstance(example, Question)]
    text = _squad(questions) if questions else "".join(map(_lines, examples))
    return text.encode()


def _lines(example: Example) -> str:
    if isinstance(example, TaggedSentence):
        pairs = zip(example.words, example.tags, strict=True)
        return "".join(f"{word}\t{tag}\n" for word, tag in pairs) + "\n"
    assert isinstance(example, TextPair)
    # No text has a quote in it, which a CSV writer would double.
    return f"{example.first}\t{example.second}\t{example.label}\n"


def _squad(questions: list[Question]) -> str:
    paragraphs = [
        {"context": question.context, "qas": [_entry(question)]} for question in questions
    ]
    document = {"version": "1.1", "data": [{"title": "demo", "paragraphs": paragraphs}]}
    return json.dumps(document, ensure_ascii=False, indent=0) + "\n"


def _entry(question: Question) -> dict[str, Any]:
    answers = [{"text": answer.text, "answer_start": answer.start} for answer in question.answers]
    return {"id": question.id, "question": question.question, "answers": answers}
