"""Asking the teacher: every response goes into the ledger as it comes, and only what has none is asked for."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from s1ray.errors import UnreachableError
from s1ray.generation.base import Call, Usage
from s1ray.logs import heartbeat, log_to, relayed, without_lines
from s1ray.runs import RunError
from s1ray.shards import RESTARTS, quiet_ray_data
from s1ray.traces.asks import Asks
from s1ray.traces.ledger import TOLD, Ledger, Writer
from s1ray.traces.teachers import Ask, Response, RunningTeacher, Teacher, TeacherError

if TYPE_CHECKING:
    import pyarrow as pa

log = logging.getLogger("s1ray")

PASSES = 3
"""How often an ask that fails is asked in one run."""
LOG = "log.txt"
"""File within the ledger's folder: log lines of the actors, which have no terminal."""
TEACHER = "teacher"
"""Folder within the ledger's: what the teacher keeps for its next start."""


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
        RunError: the teacher could not be started, or the ledger could not be written.
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
        _run(asks, wanted, teacher, ledger, seed, what)
        ledger.read()
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


def ask_all(
    running: RunningTeacher, teacher: Teacher, asks: Sequence[Ask], folder: Path, known: frozenset[str] = frozenset()
) -> None:
    """Ask a running teacher, those that fail again, and write everything to a new file of the ledger.

    Args:
        running: started by `teacher`.
        teacher: the config.
        asks: with different ids.
        folder: of the ledger.
        known: files of the ledger that have no answer to these asks. After the loss of an actor Ray hands its asks to
            another one, and the other files say which of them had been answered.

    Raises:
        RunError: the ledger cannot be written.
        TeacherError: asking has to stop.
    """
    earlier = Ledger(folder, ignored=known)
    earlier.read()
    with contextlib.closing(Writer(folder)) as writer:
        answered = set(earlier.answers)
        for _ in range(PASSES):
            left = [ask for ask in asks if ask.id not in answered]
            asking, before = _Asking(running, teacher, writer, answered), len(answered)
            try:
                asking.run(left)
            except _HopelessError:
                return
            if len(answered) == before:
                return


class _HopelessError(Exception):
    """There is no use in asking on."""


class _Asking:
    """One pass over asks."""

    def __init__(self, running: RunningTeacher, teacher: Teacher, writer: Writer, answered: set[str]) -> None:
        """`answered` gets the ids of asks that have an answer."""
        self._running, self._teacher, self._writer, self._answered = running, teacher, writer, answered
        self._prompts: dict[str, int] = {}
        self._sent: set[str] = set()
        """Asks whose calls are told of."""
        self._told: dict[str, Call] = {}
        """Ask -> the call that was answered, until its response comes."""
        self._unanswered: set[str] = set()
        """Questions that failed since the last answer."""
        self._broken: RunError | None = None

    def run(self, asks: Sequence[Ask]) -> None:
        """Ask; what the teacher raises ends nothing but the ask that it raises it for.

        Raises:
            RunError: the ledger cannot be written.
            TeacherError: asking has to stop.
            _HopelessError: too many in a row failed.
        """
        left = {ask.id: ask for ask in asks}
        for ask in asks:
            self._prompts[ask.id] = self._teacher.prompt_tokens_at_most(ask.question.question)
        problem, details = "the teacher gave no response", None
        try:
            self._take_all(asks, left)
        except (_HopelessError, TeacherError):
            raise
        except Exception as error:
            if self._broken is not None:
                raise self._broken from None
            problem, details = f"{type(error).__name__}: {_words(error)}", traceback.format_exc()
        if details is not None and len(left) > 1:
            # Which of them it was about is not known: halves find it.
            rest = list(left.values())
            self.run(rest[: len(rest) // 2])
            self.run(rest[len(rest) // 2 :])
            return
        for ask in left.values():
            self._fail(ask, problem, details)

    def _take_all(self, asks: Sequence[Ask], left: dict[str, Ask]) -> None:
        responses = self._running.respond(asks, self._call)
        try:
            for ask, response in responses:
                if left.pop(ask.id, None) is None:
                    log.warning("traces: a response to %.100r, which was not asked or has one, is left out", ask.id)
                else:
                    self._take(ask, response)
        finally:
            # Left early, it must stop what is in flight.
            if (close := getattr(responses, "close", None)) is not None:
                close()

    def _take(self, ask: Ask, response: Response) -> None:
        if (problem := _problem(response)) is not None:
            self._fail(ask, problem, None)
            return
        call = self._told.pop(ask.id, None)
        usage = response.usage if call is None or call.usage is None else call.usage
        self._add(
            "answered",
            ask.id,
            call=call.number if call is not None else TOLD if ask.id in self._sent else None,
            usage=_counts(usage),
            thinking=response.thinking,
            attempt=response.attempt,
            finish_reason=response.finish_reason,
            raw_finish_reason=_text_or_none(response.raw_finish_reason),
            model_version=_text_or_none(response.model_version),
        )
        self._answered.add(ask.id)
        self._unanswered.clear()

    def _fail(self, ask: Ask, reason: str, details: str | None) -> None:
        if (call := self._told.pop(ask.id, None)) is not None:
            self._add_call(dataclasses.replace(call, outcome="failed", reason=reason))
        self._add("unanswered", ask.id, reason=reason, details=details)
        self._unanswered.add(ask.question.id)
        if len(self._unanswered) >= self._teacher.hopeless_after:
            raise _HopelessError

    def _call(self, call: Call) -> None:
        """What the teacher tells its calls to; in any thread."""
        if call.outcome == "sent":
            self._sent.add(call.request_id)
            self._add_call(call, prompt=self._prompts.get(call.request_id, 0))
        elif call.outcome == "answered":
            # Written together with the response, as one line: killed in between, the call is a lost one.
            if (former := self._told.pop(call.request_id, None)) is not None:
                self._add_call(dataclasses.replace(former, outcome="retried", reason="another call followed"))
            self._told[call.request_id] = call
        elif call.key is not None:
            self._add_call(call, prompt=self._prompts.get(call.request_id, 0))
        else:
            self._add_call(call)

    def _add_call(self, call: Call, **fields: object) -> None:
        try:
            self._writer.call(dataclasses.replace(call, reason=_text_or_none(call.reason)), **fields)
        except RunError as error:
            self._broken = error
            raise

    def _add(self, event: str, ask: str, **fields: object) -> None:
        try:
            self._writer.add(event, ask, **fields)
        except RunError as error:
            self._broken = error
            raise


class _Actor:
    """What Ray Data starts: a teacher, and its part of the asks.

    An exception comes back as text: raised, it would reach the user wrapped in Ray's and Ray Data's own.
    """

    def __init__(
        self,
        teacher: Teacher,
        seed: int,
        read: Callable[[pa.Table], list[Ask]],
        folder: Path,
        known: frozenset[str],
    ) -> None:
        self._teacher, self._seed, self._read = teacher, seed, read
        self._folder, self._known = folder, known
        self._running: RunningTeacher | None = None
        log_to(folder / LOG)

    def __call__(self, batch: pa.Table) -> pa.Table:
        import pyarrow as pa

        problem = None
        try:
            if self._running is None:
                self._running = self._teacher.start(self._seed, self._folder / TEACHER)
            ask_all(self._running, self._teacher, self._read(batch), self._folder, self._known)
        except TeacherError as error:
            problem = _words(error)
        except Exception as error:
            # A worker's standard error reaches the user's terminal; the way there belongs in a file.
            details = self._folder / "error.txt"
            with contextlib.suppress(OSError):
                details.write_text(traceback.format_exc(), encoding="utf-8", errors="backslashreplace")
            problem = f"{type(error).__name__}: {_words(error)} (details: {details})"
        return pa.table({"error": pa.array([problem], type=pa.string())})

    def __del__(self) -> None:
        # Ray Data drops its reference when the actor is done; an engine's processes must not outlive it.
        if self._running is not None:
            self._running.close()


def _run(asks: Asks, wanted: Sequence[int], teacher: Teacher, ledger: Ledger, seed: int, what: str) -> None:
    import ray

    placement, total = teacher.placement(), len(asks.samples)
    actors = min(placement.actors, len(wanted))
    # Each actor has its part from the start, and all of it in one call: at the end of a block nothing runs dry.
    parts = [asks.part(wanted[first::actors]) for first in range(actors)]
    ledger.folder.mkdir(parents=True, exist_ok=True)
    known = frozenset(path.name for path in ledger.folder.glob("*.jsonl"))
    before, began = total - len(wanted), len(ledger.answers)
    tokens_before = ledger.tally(closed=False).completion_tokens

    def line(seconds: float) -> str:
        ledger.read()
        tally, done = ledger.tally(closed=False), before + len(ledger.answers) - began
        parts = [f"{what}: {done:,} of {total:,} after {seconds:.0f} s"]
        if done > before:
            parts.append(f"{(done - before) * 60 / seconds:,.1f} a minute")
        if tally.completion_tokens > tokens_before:
            parts.append(f"{(tally.completion_tokens - tokens_before) / seconds:,.0f} tokens/s")
        if (prices := teacher.price_list) is not None:
            parts.append(f"{prices.spent(tally):,.2f} {prices.currency} so far")
        if done > before:
            parts.append(f"about {(total - done) * seconds / (done - before):,.0f} s left")
        return ", ".join(parts)

    options: Mapping[str, object] = {"num_cpus": 1, **placement.options}
    with quiet_ray_data(), without_lines(RESTARTS), heartbeat(line), relayed(ledger.folder / LOG):
        results = ray.data.from_arrow(parts).map_batches(
            _Actor,
            fn_constructor_args=(teacher, seed, asks.read, ledger.folder, known),
            batch_size=None,
            batch_format="pyarrow",
            # One at a time: an actor that starts first must not take the part of another one.
            compute=ray.data.ActorPoolStrategy(size=actors, max_tasks_in_flight_per_actor=1),
            **options,
        )
        batches = iter(results.iter_batches(batch_size=1, batch_format="pyarrow", prefetch_batches=0))
        try:
            # Closed, the iterator stops the actors; left to the garbage collector, they would go on after a failure.
            with contextlib.closing(batches):
                problem = next((e for batch in batches for e in batch.column("error").to_pylist() if e), None)
        except ray.exceptions.RayError as error:
            problem = f"{type(error).__name__}: {error}"
    if problem is not None:
        raise RunError(
            f"{what}: a worker failed: {problem}; what came is kept in {ledger.folder}, run again to go on from there"
        )


def _problem(response: Response) -> str | None:
    """Why a response is none, or None."""
    if not isinstance(response, Response):
        return f"the teacher gave {type(response).__name__} in place of a Response"
    if response.error is not None:
        return _words(response.error) or "the teacher gave no reason"
    for name in ("thinking", "attempt", "finish_reason"):
        text = getattr(response, name)
        if not isinstance(text, str):
            return f"the response's {name} is {type(text).__name__}, not text"
        try:
            text.encode()
        except UnicodeEncodeError as error:
            return f"the response's {name} cannot be written as UTF-8: {error}"
    return None


def _counts(usage: Usage | None) -> dict[str, int | None] | None:
    """The counts of a usage that has them; None for anything else."""
    if not isinstance(usage, Usage):
        return None
    counts = dataclasses.asdict(usage)
    numbers = [value for name, value in counts.items() if value is not None or name != "reasoning_tokens"]
    return counts if all(type(number) is int and 0 <= number < 2**63 for number in numbers) else None


def _text_or_none(value: object) -> str | None:
    return None if value is None else _words(value)


def _words(value: object) -> str:
    """A value as text that can be written, whatever it is."""
    try:
        text = str(value)
    except Exception:
        text = type(value).__name__
    return text.encode(errors="backslashreplace").decode()
