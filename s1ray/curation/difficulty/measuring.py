"""Models answer questions: each is asked (Ray Data), then its attempts are graded on workers.

Every answer is kept as it comes, in a ledger per model, so that a run which was killed asks only for what was in
flight. The driver counts verdicts, and holds a block of the attempts at a time while it writes `difficulty.parquet`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from s1ray.curation.difficulty.attempts import Asked, Attempt, grade_block
from s1ray.curation.difficulty.config import ModelDifficulty
from s1ray.curation.difficulty.rates import Counts, PassRates
from s1ray.curation.difficulty.takeover import ANSWERS, take_over
from s1ray.curation.funnel import Rows
from s1ray.curation.parts import map_parts
from s1ray.schemas import arrow_schema
from s1ray.sinks import RowGroups
from s1ray.storage import Location, readable, writing
from s1ray.teachers.base import Teacher
from s1ray.teachers.bill import bill
from s1ray.teachers.collect import collect
from s1ray.teachers.costs import costs_at_most
from s1ray.teachers.ledger import Ledger
from s1ray.teachers.takeover import taken_over

if TYPE_CHECKING:
    import pyarrow as pa

log = logging.getLogger("s1ray")

DIFFICULTY = "difficulty.parquet"
"""The attempts of all models at all questions that they were asked, in the run folder."""
MANY_CUT = 0.1
"""Share of a model's attempts that end at a limit of tokens, above which a run warns."""
BLOCKS, GRADED = "blocks", "graded"
"""Folders that a finished run does not keep."""


@dataclass(frozen=True)
class Measured:
    """What was measured of Q rows."""

    rows: Rows
    """Their positions, ascending; shape (Q,)."""
    rates: PassRates
    figures: dict[str, dict[str, Any]]
    """For the manifest: model -> its attempts, and its bill."""


def measure(asked: Asked, config: ModelDifficulty, folder: Location, work: Location, *, seed: int) -> Measured:
    """Let every model answer every question, and grade. Ray must be connected.

    Args:
        asked: the questions.
        config: the models, and how often they are asked.
        folder: of the run; it gets `DIFFICULTY`, and in `ANSWERS` the ledgers.
        work: for what a finished run does not keep.
        seed: of sampling.

    Raises:
        UnreachableError: too many requests failed.
        RunError: a model could not be asked, or a worker failed; what is answered stays.
    """
    take_over(config, folder, seed)
    graded, bills = dict[str, list[Location]](), dict[str, dict[str, Any]]()
    for label, teacher in sorted(config.models.items()):
        ledger = Ledger(folder / ANSWERS / label)
        _ask(asked, teacher, ledger, config, f"difficulty by {label}", seed)
        bills[label] = bill(ledger.tally(closed=True), teacher.price_list, teacher.max_response_tokens)
        graded[label] = map_parts(
            f"grading the answers of {label}",
            grade_block,
            asked.blocks(ledger, config.samples, work / BLOCKS / label),
            work / GRADED / label,
            texts=asked.texts,
            ledger=ledger.folder,
            model=label,
            grader=config.grader,
        )
    outcomes = dict[str, _Outcomes]()
    with writing(folder / DIFFICULTY) as temporary, RowGroups(temporary, arrow_schema(Attempt)) as attempts:
        for label, files in graded.items():
            outcomes[label] = _Outcomes()
            for table in _read(files):
                attempts.add(table)
                outcomes[label].add(table)
    figures = {label: found.figures() | {"bill": bills[label]} for label, found in outcomes.items()}
    for label in figures:
        if taken := taken_over(folder / ANSWERS / label):
            figures[label]["taken_over"] = taken
    for label, found in outcomes.items():
        found.tell(label)
    return Measured(asked.rows, _pass_rates(outcomes, config.samples), figures)


def _ask(asked: Asked, teacher: Teacher, ledger: Ledger, config: ModelDifficulty, what: str, seed: int) -> None:
    asks = asked.asks(config.samples)
    total = len(asks.samples)
    log.info("%s: %s", what, "; ".join([f"{total:,} answers", *costs_at_most(teacher, total)]))
    allowed = int(config.max_failed_share * total)
    collect(asks, teacher, ledger, seed=seed, max_failed=allowed, what=what)


def _read(files: Sequence[Location]) -> Iterator[pa.Table]:
    import pyarrow.parquet as pq

    return (pq.read_table(readable(file)) for file in files)


@dataclass
class _Outcomes:
    """What became of a model's attempts, block by block."""

    blocks: list[tuple[Counts, Counts, Counts]] = field(default_factory=list)
    """Of each attempt whether it is right, wrong, undecided (1 or 0)."""
    answered: int = 0
    failed: int = 0
    cut: int = 0

    def add(self, attempts: pa.Table) -> None:
        import pyarrow.compute as pc

        correct = attempts.column("correct")
        right, decided = pc.fill_null(correct, False).to_numpy(), pc.is_valid(correct).to_numpy()
        graded = pc.is_valid(attempts.column("graded_by")).to_numpy()
        self.blocks.append(tuple(each.astype(np.int64) for each in (right, decided & ~right, graded & ~decided)))
        failed = len(attempts) - attempts.column("error").null_count
        self.failed += failed
        self.answered += len(attempts) - failed
        self.cut += pc.sum(pc.equal(attempts.column("finish_reason"), "length")).as_py()

    def counts(self) -> list[Counts]:
        """Right, wrong and undecided attempts; each of shape (attempts,)."""
        return [np.concatenate(each) for each in zip(*self.blocks, strict=True)]

    def figures(self) -> dict[str, Any]:
        right, wrong, undecided = (int(each.sum()) for each in self.counts())
        outcomes = {"right": right, "wrong": wrong, "undecided": undecided}
        return {"answered": self.answered, **outcomes, "cut": self.cut, "failed": self.failed}

    def tell(self, label: str) -> None:
        """Say what a user should know of a model's attempts."""
        figures = self.figures()
        log.info("difficulty by %s: %s", label, ", ".join(f"{number:,} {name}" for name, number in figures.items()))
        if figures["cut"] > MANY_CUT * figures["answered"]:
            log.warning(
                "difficulty by %s: %d of %d attempts are cut, and count as wrong: that measures the limit, not the "
                "questions; raise its max_tokens, or let it answer in fewer",
                label,
                figures["cut"],
                figures["answered"],
            )
        if figures["undecided"]:
            log.warning(
                "difficulty by %s: %d attempts are undecided; a question whose difficulty hangs on one is dropped as "
                '"difficulty not measured"',
                label,
                figures["undecided"],
            )


def _pass_rates(outcomes: dict[str, _Outcomes], samples: int) -> PassRates:
    of_models = [[each.reshape(-1, samples).sum(axis=1) for each in found.counts()] for found in outcomes.values()]
    right, wrong, undecided = (np.stack(each, axis=1) for each in zip(*of_models, strict=True))
    return PassRates(list(outcomes), right, wrong, undecided)
