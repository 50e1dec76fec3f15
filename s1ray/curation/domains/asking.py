"""Asking the judge: rounds over the questions that have no domain yet, with every answer in a ledger."""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from s1ray.config import ConfigError
from s1ray.curation.domains.config import JudgeClassifier
from s1ray.curation.domains.judging import LONGEST, answer_schema, domain_asks, preamble, prompt, subject_of
from s1ray.curation.domains.taxonomy import Taxonomy
from s1ray.curation.features import question_name
from s1ray.curation.funnel import Rows
from s1ray.storage import Location
from s1ray.teachers.asks import Asks
from s1ray.teachers.base import Teacher
from s1ray.teachers.bill import bill
from s1ray.teachers.collect import collect
from s1ray.teachers.costs import costs_at_most
from s1ray.teachers.ledger import Answer, Ledger, read_answers
from s1ray.teachers.takeover import taken_over

if TYPE_CHECKING:
    import pyarrow as pa

log = logging.getLogger("s1ray")

AT_ONCE = 8192
"""Questions of one call of `collect`: an actor holds their prompts, each with the whole taxonomy."""
READ = 256
"""Answers that are in memory at a time."""
THOUSAND = 1000
UNCLEAR, NO_ANSWER = -1, -2
"""In place of a domain: the judge's answers name none; no answer came."""
WHAT = "curate: domains"


def asked_teacher(judge: JudgeClassifier, taxonomy: Taxonomy) -> Teacher:
    """The judge as it is asked.

    Raises:
        ConfigError: it cannot be told the form of its answers.
    """
    if not judge.structured:
        return judge.teacher
    teacher = judge.teacher.in_json(answer_schema(taxonomy))
    if teacher is None:
        raise ConfigError(
            f"domains.classifier.structured: a teacher of kind {judge.teacher.kind!r} cannot be told the form of its "
            "answers; leave it out"
        )
    return teacher


def judge_plan(judge: JudgeClassifier, taxonomy: Taxonomy, rows: int | None) -> str:
    """What asking takes at most; asks nothing.

    Args:
        judge: who is asked, and how often.
        taxonomy: the domains that there are.
        rows: of the sources, at most. None: not known.

    Raises:
        S1rayError: the judge cannot be asked like this.
    """
    judge.teacher.check()
    teacher, before = asked_teacher(judge, taxonomy), preamble(taxonomy, structured=judge.structured)
    calls = (THOUSAND if rows is None else rows) * (1 + judge.retries)
    most = "every row" if rows is None else f"at most {rows:,} rows"
    line = f"domains: {teacher.label} is asked about {most} without one, at most {1 + judge.retries} time(s) each"
    costs = costs_at_most(teacher, calls, calls * teacher.prompt_tokens_at_most(prompt(before, "?" * LONGEST)))
    if not costs:
        return line
    return f"{line}: {'for every 1,000 rows ' if rows is None else ''}{'; '.join(costs)}"


class Judge:
    """Asks about the questions of a run. Ray is connected while its methods run.

    Attributes:
        ledger: of all answers; it stays in the run's folder.
    """

    def __init__(self, config: JudgeClassifier, taxonomy: Taxonomy, folder: Location, seed: int) -> None:
        """Ask nothing yet.

        Args:
            config: who is asked, and how often.
            taxonomy: the domains that there are.
            folder: of the ledger.
            seed: the stage's.
        """
        self.ledger = Ledger(folder)
        self._config, self._taxonomy, self._seed = config, taxonomy, seed
        self._teacher = asked_teacher(config, taxonomy)
        self._before = preamble(taxonomy, structured=config.structured)
        self._places = {name: place for place, name in enumerate(taxonomy.names)}

    def domains(
        self, ids: npt.NDArray[np.uint64], rows: Rows, parts: Sequence[Location], starts: Rows
    ) -> npt.NDArray[np.int64]:
        """The domains of M questions: positions in the taxonomy, or `UNCLEAR`, or `NO_ANSWER`; shape (M,).

        Args:
            ids: the questions' ids as numbers; equal ones are asked about once.
            rows: their positions, ascending.
            parts: files of all rows.
            starts: position of each part's first row, and the number of rows.

        Raises:
            RunError: the judge could not be started, or the ledger cannot be written, or `max_spend` is reached.
            UnreachableError: too many requests failed.
        """
        different, firsts, back = np.unique(ids, return_index=True, return_inverse=True)
        table = _table(different, rows[firsts], starts)
        found = np.full(len(different), NO_ANSWER, np.int64)
        left, allowed = list(range(len(different))), int(self._config.max_failed_share * len(different))
        for time in range(1 + self._config.retries):
            if not left:
                break
            log.info("%s: asking %s about %d questions%s", WHAT, self._teacher.label, len(left), " again" * bool(time))
            allowed -= self._ask(table, left, time, parts, allowed)
            for row, answer in self._answers(table, left, time):
                domain = subject_of(answer, self._taxonomy, structured=self._config.structured)
                found[row] = UNCLEAR if domain is None else self._places[domain]
            left = [row for row in left if found[row] == UNCLEAR]
        return found[back]

    def figures(self) -> dict[str, Any]:
        """Questions that were asked about, calls, tokens and money."""
        again = sum(not key.endswith("-0") for key in self.ledger.answers)
        counts = {"answers": len(self.ledger.answers), "asked_again": again}
        if taken := taken_over(self.ledger.folder):
            counts["taken_over"] = taken
        tally = self.ledger.tally(closed=True)
        return counts | {"bill": bill(tally, self._teacher.price_list, self._teacher.max_response_tokens)}

    def _ask(self, table: pa.Table, rows: Sequence[int], time: int, parts: Sequence[Location], allowed: int) -> int:
        """Ask for what has no answer yet; how many got none, of which `allowed` may be."""
        read, failed = functools.partial(domain_asks, parts=list(parts), before=self._before), 0
        for start in range(0, len(rows), AT_ONCE):
            some = rows[start : start + AT_ONCE]
            asks = Asks(table.take(some), [(row, time) for row in range(len(some))], read)
            collect(asks, self._teacher, self.ledger, seed=self._seed, max_failed=allowed - failed, what=WHAT)
            failed += sum(ask not in self.ledger.answers for ask in asks.ids())
        return failed

    def _answers(self, table: pa.Table, rows: Sequence[int], time: int) -> Iterator[tuple[int, Answer]]:
        """The answers that came, some in memory at a time."""
        names = table.column("id").to_pylist()
        there = [row for row in rows if f"{names[row]}-{time}" in self.ledger.answers]
        for start in range(0, len(there), READ):
            some = there[start : start + READ]
            places = [self.ledger.answers[f"{names[row]}-{time}"] for row in some]
            yield from zip(some, read_answers(self.ledger.folder, places), strict=True)


def _table(ids: npt.NDArray[np.uint64], rows: Rows, starts: Rows) -> pa.Table:
    """Where each question is."""
    import pyarrow as pa

    part = np.searchsorted(starts, rows, side="right") - 1
    names = [question_name(number) for number in ids.tolist()]
    return pa.table({"id": names, "part": part, "place": rows - starts[part]})
