"""Asking a running teacher: passes over asks, and everything that comes of them goes into a file of the ledger."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import threading
import time
import traceback
from collections import Counter
from collections.abc import Sequence

from s1ray.generation.base import Call, CallOutcome, Usage
from s1ray.manifests import RunError
from s1ray.secrets import redact
from s1ray.storage import Location
from s1ray.teachers.base import Ask, Response, RunningTeacher, Teacher, TeacherError
from s1ray.teachers.ledger import TEACHER, Ledger, Writer
from s1ray.teachers.spending import Allowance, SpendingError
from s1ray.teachers.tally import TOLD

log = logging.getLogger("s1ray")

PASSES = 3
"""How often an ask that fails is asked in one run."""


def ask_all(
    running: RunningTeacher,
    teacher: Teacher,
    asks: Sequence[Ask],
    folder: Location,
    known: frozenset[str] = frozenset(),
    allowance: Allowance | None = None,
) -> list[Ask]:
    """Ask a running teacher, those that fail again, and write everything to a new file of the ledger.

    Args:
        running: started by `teacher`.
        teacher: the config.
        asks: with different ids.
        folder: of the ledger.
        known: files of the ledger that have no answer to these asks. After the loss of an actor Ray hands its asks to
            another one, and the other files say which of them had been answered, and what they cost.
        allowance: what these asks may cost. None: anything.

    Returns:
        Asks that were held back, as they could cost more than is left.

    Raises:
        RunError: the ledger cannot be written.
        TeacherError: asking has to stop.
    """
    earlier = Ledger(folder, ignored=known, asks={ask.id for ask in asks})
    earlier.read()
    if allowance is not None:
        allowance = allowance.after(earlier.tally(closed=True))
    answered, tries, held_back = set(earlier.answers), Counter[str](), set[str]()
    # What will be paid for in any case has the first claim on what is left.
    under_way = teacher.under_way(folder / TEACHER)
    asks = sorted(asks, key=lambda ask: ask.id not in under_way)
    with contextlib.closing(Writer(folder)) as writer:
        while left := [ask for ask in asks if ask.id not in answered and tries[ask.id] < PASSES]:
            chosen = left if allowance is None else allowance.that_fit(left, teacher, writer.tally(), under_way)
            asking, before = _Asking(running, teacher, writer, answered, allowance), len(answered)
            try:
                asking.run(chosen)
            except _HopelessError:
                return []
            asked = [ask.id for ask in chosen if ask.id in asking.sent or ask.id not in asking.held_back]
            tries.update(asked)
            held_back |= asking.held_back | ({ask.id for ask in left} - {ask.id for ask in chosen})
            # What was held back may fit as soon as calls in flight have turned out cheaper.
            if len(answered) == before and not asking.stale and not (asked and held_back):
                break
    return [ask for ask in asks if ask.id in held_back - answered]


class _HopelessError(Exception):
    """There is no use in asking on."""


class _Asking:
    """One pass over asks."""

    def __init__(
        self,
        running: RunningTeacher,
        teacher: Teacher,
        writer: Writer,
        answered: set[str],
        allowance: Allowance | None,
    ) -> None:
        """`answered` gets the ids of asks that have an answer."""
        self._running, self._teacher, self._writer, self._answered = running, teacher, writer, answered
        self._allowance = allowance
        self.sent: set[str] = set()
        """Asks whose calls are told of."""
        self.held_back: set[str] = set()
        """Asks with a call that was not made, as it could cost more than is left."""
        self.stale = False
        """A call of an earlier start failed."""
        self._prompts: dict[str, int] = {}
        self._sending = threading.Lock()
        self._began: dict[tuple[str, int], float] = {}
        self._told: dict[str, tuple[Call, float | None]] = {}
        """Ask -> the call that was answered, and its seconds, until its response comes."""
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
        except SpendingError:
            self.held_back |= left.keys()
            return
        except Exception as error:
            if self._broken is not None:
                raise self._broken from None
            problem, details = f"{type(error).__name__}: {in_words(error)}", redact(traceback.format_exc())
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
                    log.warning("a response to %.100r, which was not asked or has one, is left out", ask.id)
                else:
                    self._take(ask, response)
        finally:
            # Left early, it must stop what is in flight.
            if (close := getattr(responses, "close", None)) is not None:
                close()

    def _take(self, ask: Ask, response: Response) -> None:
        problem = _problem(response)
        if problem is not None:
            self.stale = self.stale or (isinstance(response, Response) and response.stale is True)
            if ask.id not in self.held_back:
                self._fail(ask, problem, None)
            return
        call, seconds = self._told.pop(ask.id, (None, None))
        usage = response.usage if call is None or call.usage is None else call.usage
        number = call.number if call is not None else TOLD if ask.id in self.sent else None
        self._add(
            "answered",
            ask.id,
            call=number,
            **({"prompt": self._prompts[ask.id]} if number is None else {}),
            usage=_counts(usage),
            seconds=seconds,
            thinking=response.thinking,
            attempt=response.attempt,
            finish_reason=response.finish_reason,
            raw_finish_reason=_text_or_none(response.raw_finish_reason),
            model_version=_text_or_none(response.model_version),
        )
        self._answered.add(ask.id)
        self._unanswered.clear()

    def _fail(self, ask: Ask, reason: str, details: str | None) -> None:
        self._answer_was_of_no_use(ask.id, "failed", reason)
        self._add("unanswered", ask.id, reason=reason, details=details)
        self._unanswered.add(ask.question.id)
        if len(self._unanswered) >= self._teacher.hopeless_after:
            raise _HopelessError

    def _answer_was_of_no_use(self, ask: str, outcome: CallOutcome, reason: str) -> None:
        """Tell of a call that was answered by another outcome, if there is one."""
        call, _ = self._told.pop(ask, (None, None))
        if call is not None:
            # It was billed; without a count, nobody knows how much.
            outcome = outcome if call.usage is not None else "lost"
            self._add_call(dataclasses.replace(call, outcome=outcome, reason=reason))

    def _call(self, call: Call) -> None:
        """What the teacher tells its calls to; in any thread.

        Raises:
            SpendingError: the call must not be made.
            RunError: the ledger cannot be written.
        """
        ask = call.request_id
        if call.outcome == "sent":
            with self._sending:
                self._hold_back(ask)
                self.sent.add(ask)
                self._began[ask, call.number] = time.monotonic()
                self._add_call(call, prompt=self._prompts.get(ask, 0))
            return
        began = self._began.pop((ask, call.number), None)
        if call.outcome == "answered":
            # Written together with the response, as one line: killed in between, the call is a lost one.
            self._answer_was_of_no_use(ask, "retried", "another call followed")
            self._told[ask] = call, None if began is None else round(time.monotonic() - began, 3)
        elif call.key is not None:
            self._add_call(call, prompt=self._prompts.get(ask, 0))
        else:
            self._add_call(call)

    def _hold_back(self, ask: str) -> None:
        if self._allowance is None:
            return
        most, left = self._allowance.at_most(self._prompts.get(ask, 0)), self._allowance.left(self._writer.tally())
        if most > left:
            self.held_back.add(ask)
            raise SpendingError(f"the call can cost {most:,.6f}, and {left:,.6f} are left")

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


def _problem(response: Response) -> str | None:
    """Why a response is none, or None."""
    if not isinstance(response, Response):
        return f"the teacher gave {type(response).__name__} in place of a Response"
    if response.error is not None:
        return in_words(response.error) or "the teacher gave no reason"
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
    return None if value is None else in_words(value)


def in_words(value: object) -> str:
    """A value as text that can be written, whatever it is."""
    try:
        text = str(value)
    except Exception:
        text = type(value).__name__
    return text.encode(errors="backslashreplace").decode()
