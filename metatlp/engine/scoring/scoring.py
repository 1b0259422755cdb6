"""Scores of several systems on test files: every example of a file, each file whole on one rank.

Knows models and encoded splits; knows no table. Resamples are a function of the seed and the file,
so they are the same for every system, on any number of ranks.
R: resamples.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from metatlp.data.records import Example, Source, TaggedSentence
from metatlp.data.submission import check_aligned, file_of, text_of
from metatlp.engine.arguments.evaluate import EvaluateArguments
from metatlp.engine.grid_data import SplitLoader
from metatlp.engine.models import load_task_model
from metatlp.engine.placement import Placement
from metatlp.engine.plan import spread
from metatlp.engine.run_log import timed
from metatlp.engine.scoring.bootstrap import Sample, sampled
from metatlp.engine.scoring.evaluation import EvalSplit, predict_split
from metatlp.engine.scoring.jobs import Job
from metatlp.engine.scoring.systems import System
from metatlp.errors import InputError
from metatlp.model.multitask import MultiTaskModel, load_tokenizer
from metatlp.seeds import derive_seed
from metatlp.tasks import TASKS
from metatlp.tasks.metrics import Terms
from metatlp.tasks.task import Padding


@dataclass(frozen=True)
class Work:
    """A job with all it needs but the model."""

    job: Job
    folder: Path
    data: EvalSplit
    padding: Padding


@dataclass(frozen=True)
class Scored:
    """What came of a job.

    Attributes:
        examples: of the file, all of them predicted (or --eval-examples of them).
        tokens: word pieces that the model read.
        metrics: name -> fraction with its resamples; none if the file has no labels.
        terms: name -> (N, L, 2), what the metrics are computed from.
        submission: text of the submission's file, if one is wanted.
        seconds: of the forward passes, decoding and scoring.
    """

    examples: int
    tokens: int
    metrics: dict[str, Sample]
    terms: Terms
    submission: str | None
    seconds: float


def load_work(
    jobs: Sequence[Job],
    systems: Sequence[System],
    source: Source,
    cache_dir: Path,
    arguments: EvaluateArguments,
    placement: Placement,
    log: Callable[[str], None],
) -> list[Work]:
    """Encode what is scored, each system's as its tokenizer and lengths ask. Every rank takes part.

    Returns:
        One piece for each job; those of one model stand together.

    Raises:
        InputError: on every rank, a file or a tokenizer is bad.
    """
    found: list[Work] = []
    for system in systems:
        for task, folder in system.models.items():
            own = [job for job in jobs if job.system == system.name and job.tlp.task == task]
            if not own:
                continue
            with placement.together():
                tokenizer = load_tokenizer(str(folder))
                padding, limits = Padding.of(tokenizer), system.limits(task)
                loader = SplitLoader(source, limits, tokenizer, cache_dir, placement, log)
                for split in dict.fromkeys(job.split for job in own):
                    tlps = [job.tlp for job in own if job.split == split]
                    loaded = loader.scored(tlps, split, arguments.eval_examples)
                    found += [
                        Work(Job(system.name, tlp, split), folder, loaded[tlp], padding)
                        for tlp in tlps
                    ]
    with placement.together():
        for work in found if arguments.submission else ():
            if file_of(work.job.tlp, work.job.split):
                check_aligned(work.job.tlp, work.job.split, work.data.encoded.counts)
    return found


def score_work(
    pieces: Sequence[Work], arguments: EvaluateArguments, placement: Placement
) -> dict[Job, Scored]:
    """Spread over the ranks; each loads the models of its own pieces. Every rank takes part.

    Returns:
        On every rank, what came of each job, in their order.

    Raises:
        InputError: on every rank, a model cannot be loaded, or an example is not scored.
    """
    costs = [float(piece.data.encoded.tokens.sum()) for piece in pieces]
    own = [pieces[i] for i in spread(costs, placement.world)[placement.rank]]
    found: list[tuple[Job, Scored]] = []
    with placement.together():
        loaded: Path | None = None
        for piece in tqdm(own, "score", leave=False, disable=placement.rank != 0):
            if piece.folder != loaded:
                model = None  # so that two are never in memory
                model = load_task_model(piece.folder, piece.job.tlp.task, placement.device)
                loaded = piece.folder
            assert model is not None
            found.append((piece.job, score_piece(piece, model, arguments, placement)))
    gathered = dict(placement.gather(found))
    return {piece.job: gathered[piece.job] for piece in pieces}


def score_piece(
    piece: Work, model: MultiTaskModel, arguments: EvaluateArguments, placement: Placement
) -> Scored:
    """Predict, decode, check that nothing is left out, and score what has labels.

    Raises:
        InputError: an example of the file is not predicted, or the file cannot be read again.
    """
    job, encoded, elapsed = piece.job, piece.data.encoded, timed()
    predictions = predict_split(
        model,
        job.tlp.task,
        encoded,
        piece.padding,
        arguments.eval_batch_size,
        placement.device,
        placement.accelerator.autocast,
    )
    task, examples = TASKS[job.tlp.task], piece.data.examples()
    check_read(job, encoded.counts, arguments.eval_examples, len(examples))
    answers = task.decode(encoded, predictions, examples)
    check_answered(job, answers, examples)
    terms: Terms = {}
    if not encoded.counts.get("unlabelled"):
        terms = task.terms(job.tlp, encoded, predictions, examples)
        assert {len(part) for part in terms.values()} == {len(examples)}, job
    seconds = elapsed()
    seed = resamples_seed(arguments.seed, job, len(examples))
    return Scored(
        examples=len(examples),
        tokens=int(encoded.tokens.sum()),
        metrics=sampled(terms, arguments.bootstrap, seed) if terms else {},
        terms=terms,
        submission=text_of(examples, answers) if arguments.submission else None,
        seconds=seconds,
    )


def resamples_seed(seed: int, job: Job, num_examples: int) -> int:
    """The same for all systems, and for files of a task that have as many examples.

    Such files are translations of one another (XNLI, PAWS-X, XQuAD): their scores rise and fall
    with the same examples, and so the mean over them has to be resampled. For files that are not,
    row i of one has nothing to do with row i of the other, and sharing the draws changes nothing.
    """
    return derive_seed(seed, "bootstrap", job.tlp.task, job.split, num_examples)


def check_read(
    job: Job, counts: Mapping[str, int], max_examples: int | None, num_examples: int
) -> None:
    """That the examples that are to be scored are those of the file.

    Args:
        counts: what was counted when the file was encoded; `read` is its number of examples.
        max_examples: --eval-examples; only so many are to be scored.
        num_examples: those there are.

    Raises:
        InputError: naming the TLP and the numbers.
    """
    due = min(counts["read"], max_examples or counts["read"])
    if num_examples != due:
        raise InputError(
            f"{job.tlp} {job.split}: {due} of the file's {counts['read']} examples are to be "
            f"scored, but {num_examples} were read"
        )


def check_answered(job: Job, answers: Sequence, examples: Sequence[Example]) -> None:
    """That every example has an answer, and every word a tag.

    Raises:
        InputError: naming the TLP and the numbers.
    """
    missing = sum(answer is None for answer in answers)
    if missing:
        raise InputError(
            f"{job.tlp} {job.split}: {missing} of {len(answers)} examples have no answer"
        )
    for number, (tags, example) in enumerate(zip(answers, examples, strict=True), 1):
        if isinstance(example, TaggedSentence) and len(tags) != len(example.words):
            raise InputError(
                f"{job.tlp} {job.split}: sentence {number}: {len(tags)} tags for "
                f"{len(example.words)} words"
            )
