"""Who is asked what: the rounds of a run, and where every answer is.

    ask the teacher -> ask the judge about what the rules leave open -> ask again for questions without a correct trace

Each step asks only for what the ledgers do not have, and what it asks for follows from what they have: a run that was
killed goes through the same rounds again and stops where something is missing. The driver knows ids and places; texts
are read where they are needed, in workers.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from s1ray.logs import heartbeat
from s1ray.storage import Location
from s1ray.teachers.asks import Asks
from s1ray.teachers.collect import collect
from s1ray.teachers.ledger import Ledger
from s1ray.traces.blocks import ExamineBlock, FinishBlock, Folders, block_of, in_workers, place_type
from s1ray.traces.config import TracesConfig
from s1ray.traces.judging import COMPARED, STATED, Step, judge_asks

if TYPE_CHECKING:
    import pyarrow as pa

log = logging.getLogger("s1ray")

RESPONSES, JUDGEMENTS = "responses", "judgements"
"""Folders of the ledgers."""
Sample = tuple[int, int]
"""Row of a question, and the sample's number."""


class Collection:
    """The attempts at the questions of a run. Ray is connected while its methods run.

    Attributes:
        questions: the table.
        config: the stage's.
        responses: the teacher's ledger.
        judgements: the judge's.
        asked: how often each question was asked.
        usable: rows of questions with a correct trace to keep; known only where the config asks again.
    """

    def __init__(self, questions: pa.Table, config: TracesConfig, folder: Location) -> None:
        """Ask nothing yet.

        Args:
            questions: with `id` and the columns of `ASKED`, sorted by id.
            config: the stage's.
            folder: of the run.
        """
        self.questions, self.config = questions, config
        self.responses, self.judgements = Ledger(folder / RESPONSES), Ledger(folder / JUDGEMENTS)
        self.asked = [config.samples] * len(questions)
        self.usable: set[int] = set()
        self._examined: set[Sample] = set()
        self._ids: list[str] = questions.column("id").to_pylist()
        answers = enumerate(questions.column("answer").to_pylist())
        self._with_reference = {row for row, answer in answers if answer and answer.strip()}

    def collect(self) -> None:
        """Ask, until there is nothing more to ask for.

        Raises:
            RunError: the teacher or the judge could not be started, a ledger cannot be written, or a worker failed.
            UnreachableError: too many requests failed.
        """
        self._take_up()
        self._ask_teacher()
        while self.config.max_samples is not None or self.config.judge is not None:
            self._examine(self._unexamined())
            if not self._next_round():
                return
            self._ask_teacher()

    def samples(self) -> list[Sample]:
        """All asks so far, in order."""
        return [(row, sample) for row, times in enumerate(self.asked) for sample in range(times)]

    def judged(self) -> int:
        """How many attempts the judge was asked about, in all starts of the run."""
        return sum(key.endswith(f"-{STATED}") for key in (*self.judgements.answers, *self.judgements.failures))

    def finished(self) -> Generator[pa.Table]:
        """Finished traces in order, in pieces.

        Raises:
            RunError: a worker failed.
        """
        return self._over(FinishBlock(self._folders, self.config), self.samples(), "finished")

    @property
    def _folders(self) -> Folders:
        return Folders(self.responses.folder, self.judgements.folder)

    def _key(self, sample: Sample) -> str:
        return f"{self._ids[sample[0]]}-{sample[1]}"

    def _ask_teacher(self) -> None:
        asks = Asks(self.questions, self.samples())
        allowed = int(self.config.max_failed_share * len(asks.samples))
        collect(asks, self.config.teacher, self.responses, seed=self.config.seed, max_failed=allowed)

    def _take_up(self) -> None:
        """Count what an earlier start has asked for, so that no answer is left out: it may have come so late that it
        makes the rounds after it needless.
        """
        self.responses.wait_until_closed()
        self.responses.read()
        if self.config.max_samples is None:
            return
        rows = {question: row for row, question in enumerate(self._ids)}
        for key in (*self.responses.answers, *self.responses.failures):
            question, _, sample = key.rpartition("-")
            if (row := rows.get(question)) is not None:
                whole_rounds = -(-(int(sample) + 1) // self.config.samples) * self.config.samples
                self.asked[row] = max(self.asked[row], min(whole_rounds, self.config.max_samples))

    def _unexamined(self) -> list[Sample]:
        """Answers to questions with a reference that were not graded yet: those of this round, and of earlier ones
        those that came late.
        """
        return [
            sample
            for sample in self.samples()
            if sample[0] in self._with_reference
            and sample not in self._examined
            and self._key(sample) in self.responses.answers
        ]

    def _next_round(self) -> bool:
        """Whether there is one; its asks count as asked from here on."""
        if self.config.max_samples is None:
            return False
        before = sum(self.asked)
        rows = [row for row in self._with_reference - self.usable if self.asked[row] < self.config.max_samples]
        for row in rows:
            self.asked[row] = min(self.asked[row] + self.config.samples, self.config.max_samples)
        if rows:
            more = sum(self.asked) - before
            log.info("traces: %d questions have no correct trace; asking for %d more", len(rows), more)
        return bool(rows)

    def _examine(self, samples: Sequence[Sample]) -> None:
        """Find the questions with a correct trace to keep; the judge is asked where the rules do not know."""
        log.info("traces: grading %d attempts", len(samples))
        self._examined |= set(samples)
        examine = ExamineBlock(self._folders, self.config)
        while samples:
            steps: dict[Sample, Step] = {}
            for table in self._over(examine, samples, "graded"):
                for found in table.to_pylist():
                    if found["usable"]:
                        self.usable.add(found["row"])
                    elif found["step"] is not None:
                        steps[found["row"], found["sample"]] = found["step"]
            if steps:
                self._ask_judge(steps)
            # What the judge could not be asked stays as the rules have it.
            samples = [
                sample for sample, step in steps.items() if f"{self._key(sample)}-{step}" in self.judgements.answers
            ]

    def _ask_judge(self, steps: dict[Sample, Step]) -> None:
        import pyarrow as pa

        assert self.config.judge is not None
        places = pa.array([row for row, _ in steps], type=pa.int64())
        rows = self.questions.select(["question", "answer"]).take(places)
        keys = [self._key(sample) for sample in steps]
        rows = rows.append_column("id", pa.array(keys, type=pa.string()))
        for name, found in (
            ("attempt", [self.responses.answers[key] for key in keys]),
            ("stated", [self.judgements.answers.get(f"{key}-{STATED}") for key in keys]),
        ):
            rows = rows.append_column(name, pa.array([place and place._asdict() for place in found], type=place_type()))
        read = functools.partial(judge_asks, responses=self.responses.folder, judgements=self.judgements.folder)
        asks = Asks(rows, list(enumerate(steps.values())), read)
        allowed = int(self.config.max_failed_share * sum(self.asked))
        collect(asks, self.config.judge, self.judgements, seed=self.config.seed, max_failed=allowed, what="judge")

    def _over(
        self, function: Callable[[pa.Table], pa.Table], samples: Sequence[Sample], what: str
    ) -> Generator[pa.Table]:
        """What a function makes of the blocks of some samples, a row for each; `what` has happened to them then."""
        done, total = 0, len(samples)
        with heartbeat(lambda seconds: f"traces: {done:,} of {total:,} {what} after {seconds:.0f} s"):
            for table in in_workers(function, self._blocks(samples)):
                yield table
                done += len(table)

    def _blocks(self, samples: Iterable[Sample]) -> Iterator[pa.Table]:
        """Blocks of questions with these samples, which are in order; some `shard_rows` samples in each."""
        rows: list[int] = []
        attempts: list[list[dict[str, Any]]] = []
        for row, group in groupby(samples, itemgetter(0)):
            rows.append(row)
            attempts.append([self._attempt(sample) for sample in group])
            if sum(map(len, attempts)) >= self.config.shard_rows:
                yield block_of(self.questions, rows, attempts)
                rows, attempts = [], []
        if rows:
            yield block_of(self.questions, rows, attempts)

    def _attempt(self, sample: Sample) -> dict[str, Any]:
        key = self._key(sample)
        answer = self.responses.answers.get(key)
        stated, compared = (self.judgements.answers.get(f"{key}-{step}") for step in (STATED, COMPARED))
        return {
            "sample": sample[1],
            "error": None if answer is not None else self.responses.failures[key],
            "answer": answer and answer._asdict(),
            "stated": stated and stated._asdict(),
            "compared": compared and compared._asdict(),
        }
