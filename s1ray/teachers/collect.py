"""Asking the teacher: every response goes into the ledger as it comes, and only what has none is asked for."""

from __future__ import annotations

import contextlib
import logging
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from s1ray.errors import UnreachableError
from s1ray.logs import heartbeat, log_to, relayed, without_lines
from s1ray.manifests import RunError
from s1ray.ray_data import RESTARTS, on_nodes, quiet_ray_data
from s1ray.secrets import redact
from s1ray.storage import Location
from s1ray.teachers.asking import ask_all, in_words
from s1ray.teachers.asks import Asks
from s1ray.teachers.base import Ask, RunningTeacher, Teacher
from s1ray.teachers.ledger import TEACHER, Ledger
from s1ray.teachers.progress import Progress
from s1ray.teachers.spending import Allowance, HeldBack, allowance, exhausted

if TYPE_CHECKING:
    import pyarrow as pa

log = logging.getLogger("s1ray")

CALLS_EACH = 8
"""That each of several actors must be able to pay for."""
LOG = "log.txt"
"""File within the ledger's folder: log lines of the actors, which have no terminal."""


def collect(asks: Asks, teacher: Teacher, ledger: Ledger, *, seed: int, max_failed: int, what: str = "traces") -> None:
    """Ask for everything that has no answer yet, in a pool of Ray Data's actors. Ray is connected.

    Args:
        asks: what must have been asked afterwards.
        teacher: who is asked.
        ledger: where the answers are; on storage that every node sees. It has been read afterwards.
        seed: the stage's.
        max_failed: so many asks may stay without an answer.
        what: begins the lines of progress and the messages.

    Raises:
        RunError: the teacher could not be started, the ledger could not be written, or more than the teacher's
            `max_spend` could be spent.
        UnreachableError: an actor stopped asking, as nothing was answered any more, or too many failed. What came is
            kept.
    """
    ledger.wait_until_closed()
    ledger.read()
    ids = asks.ids()
    wanted = [place for place, ask in enumerate(ids) if ask not in ledger.answers]
    if len(wanted) < len(ids):
        log.info("%s: %d of %d are there already", what, len(ids) - len(wanted), len(ids))
    if wanted:
        _ask(asks, wanted, teacher, ledger, seed, what)
    failures = {ask: ledger.failures.get(ask) for ask in ids if ask not in ledger.answers}
    first = next(filter(None, failures.values()), "no reason was given")
    if None in failures.values():
        raise UnreachableError(
            f"{what}: {teacher.hopeless_after} questions in a row got no answer, and no more were asked; the first "
            f"failure: {first}. What came is kept: run again to ask for the rest"
        )
    if len(failures) > max_failed:
        raise UnreachableError(
            f"{what}: {len(failures)} of {len(ids)} requests failed, and max_failed_share allows {max_failed}; the "
            f"first: {first}. What came is kept: run again to ask for the rest"
        )


def _ask(asks: Asks, wanted: Sequence[int], teacher: Teacher, ledger: Ledger, seed: int, what: str) -> None:
    """Ask for some of the asks, within `max_spend`, and read on in the ledger.

    Raises:
        RunError: some asks could cost more than is left, or a worker failed.
    """
    allowed, held_back = allowance(teacher), HeldBack(len(wanted))
    if allowed is None or allowed.after(ledger.tally(closed=True)).calls():
        held_back = _run(asks, wanted, teacher, ledger, seed, what, allowed)
        ledger.read()
    if allowed is not None and held_back.count:
        answered = sum(ask in ledger.answers for ask in asks.ids())
        raise exhausted(what, allowed, ledger.tally(closed=True), answered, len(asks.samples), held_back)


class _Actor:
    """What Ray Data starts: a teacher, and its part of the asks.

    An exception comes back as text: raised, it would reach the user wrapped in Ray's and Ray Data's own.
    """

    def __init__(
        self,
        teacher: Teacher,
        seed: int,
        read: Callable[[pa.Table], list[Ask]],
        folder: Location,
        known: frozenset[str],
        allowed_each: Allowance | None,
    ) -> None:
        self._teacher, self._seed, self._read = teacher, seed, read
        self._folder, self._known, self._allowed_each = folder, known, allowed_each
        self._running: RunningTeacher | None = None
        log_to(folder / LOG)

    def __call__(self, batch: pa.Table) -> pa.Table:
        import pyarrow as pa

        problem, held_back = None, HeldBack()
        try:
            if self._running is None:
                self._running = self._teacher.start(self._seed, self._folder / TEACHER)
            asks = self._read(batch)
            allowed = None if self._allowed_each is None else self._allowed_each.times(len(asks))
            left = ask_all(self._running, self._teacher, asks, self._folder, self._known, allowed)
            held_back = HeldBack.among(left, self._teacher)
        except RunError as error:
            problem = in_words(error)
        except Exception as error:
            # A worker's standard error reaches the user's terminal; the way there belongs in a file.
            details = self._folder / "error.txt"
            with contextlib.suppress(OSError):
                details.write_text(redact(traceback.format_exc()), encoding="utf-8", errors="backslashreplace")
            problem = f"{type(error).__name__}: {in_words(error)} (details: {details})"
        columns = {"count": [held_back.count], "prompt": [held_back.prompt]}
        texts = {"error": problem, "example": held_back.example}
        return pa.table(columns | {name: pa.array([text], type=pa.string()) for name, text in texts.items()})

    def __del__(self) -> None:
        # Ray Data drops its reference when the actor is done; an engine's processes must not outlive it.
        if self._running is not None:
            self._running.close()


def _run(
    asks: Asks,
    wanted: Sequence[int],
    teacher: Teacher,
    ledger: Ledger,
    seed: int,
    what: str,
    allowed: Allowance | None,
) -> HeldBack:
    """Ask; gives what was held back, as it could have cost more than is allowed."""
    import ray

    placement = teacher.placement()
    actors, each = min(placement.actors, len(wanted)), None
    if allowed is not None:
        left = allowed.after(ledger.tally(closed=True))
        # Near the limit one actor asks alone: a share must be enough for a call.
        actors, each = min(actors, max(1, left.calls() // CALLS_EACH)), left.times(1 / len(wanted))
    # Each actor has its part from the start, and all of it in one call: at the end of a block nothing runs dry.
    parts = [asks.part(wanted[first::actors]) for first in range(actors)]
    ledger.folder.mkdir(parents=True, exist_ok=True)
    known = frozenset(path.name for path in ledger.folder.glob("*.jsonl"))
    ids = asks.ids()
    progress = Progress(ledger, [ids[place] for place in wanted], len(ids), teacher, what)
    options: Mapping[str, object] = {"num_cpus": 1, **placement.options}
    with (
        quiet_ray_data(),
        on_nodes(teacher.node_labels),
        without_lines(RESTARTS),
        heartbeat(progress.line),
        relayed(ledger.folder / LOG),
    ):
        results = ray.data.from_arrow(parts).map_batches(
            _Actor,
            fn_constructor_args=(teacher, seed, asks.read, ledger.folder, known, each),
            batch_size=None,
            batch_format="pyarrow",
            # One at a time: an actor that starts first must not take the part of another one.
            compute=ray.data.ActorPoolStrategy(size=actors, max_tasks_in_flight_per_actor=1),
            **options,
        )
        problem, held_back = None, HeldBack()
        batches = iter(results.iter_batches(batch_size=1, batch_format="pyarrow", prefetch_batches=0))
        try:
            # Closed, the iterator stops the actors; left to the garbage collector, they would go on after a failure.
            with contextlib.closing(batches):
                for row in (row for batch in batches for row in batch.to_pylist()):
                    held_back += HeldBack(row["count"], row["example"], row["prompt"])
                    if (problem := row["error"]) is not None:
                        break
        except ray.exceptions.RayError as error:
            problem = f"{type(error).__name__}: {error}"
    if problem is not None:
        raise RunError(
            f"{what}: a worker failed: {problem}; what came is kept in {ledger.folder}, run again to go on from there"
        )
    return held_back
