"""The teacher that asks in batches: it submits, looks now and then, and gives what came."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from s1ray.generation.base import OnCall
from s1ray.storage import Location
from s1ray.teachers.base import Ask, Response, TeacherError
from s1ray.teachers.batches.client import GONE, NoAnswerError, StatusError
from s1ray.teachers.batches.config import BatchConfig
from s1ray.teachers.batches.exchange import Exchange, Failure
from s1ray.teachers.batches.provider import Provider, State, UncertainError
from s1ray.teachers.batches.records import Record, Records
from s1ray.teachers.batches.results import outcomes
from s1ray.teachers.batches.submitting import Pack, pack, submit

log = logging.getLogger("s1ray")

LISTED_S = 120.0
"""Seconds after which a batch that was created is known to the provider: has an address, and is in the list."""
SLOWER = 1.5
"""Factor from one pause between two looks to the next."""
SLOWEST = 20
"""The longest pause, in first ones."""
AGAIN = "Then run again: nothing is asked twice"
"""End of messages."""
NOT_CREATED = State("was not created", ended=True, refused="it was not created")


@dataclass
class _Waiting:
    """A batch that is waited for. Times are those of `time.monotonic`."""

    record: Record
    since: float
    look_at: float
    pause: float
    """Seconds until the look after the next."""
    words: str = ""
    """What was logged last."""
    earlier: bool = False
    """It was submitted by an earlier start."""

    def tell(self, level: int, words: str) -> None:
        """Log what there is to say of it, once."""
        if words != self.words:
            log.log(level, "traces: %s: %s", self.record.name, words)
            self.words = words


class RunningBatches:
    """Writes traces through a provider's batch API."""

    def __init__(self, provider: Provider, exchange: Exchange, config: BatchConfig, folder: Location) -> None:
        """Read what earlier starts have asked.

        Args:
            provider: the API; `close` closes its client.
            exchange: writes requests and reads answers.
            config: sizes and times.
            folder: of the records.

        Raises:
            RunError: the records cannot be used.
        """
        self._provider, self._exchange, self._config = provider, exchange, config
        self._records = Records(folder)
        self._given: set[tuple[str, str]] = set()
        """Batch and ask: an answer was given in this process."""
        self._room = config.at_once
        self._submit_at, self._submit_pause = 0.0, config.poll
        self._unsubmitted_since: float | None = None

    def respond(self, asks: Sequence[Ask], calls: OnCall) -> Iterator[tuple[Ask, Response]]:
        """Traces, batch by batch: those that were answered first.

        Raises:
            TeacherError: a batch is gone, was refused, or takes too long; the key is refused; the disk is full; another
                process may have the batches by now.
        """
        wanted = {ask.id: ask for ask in asks}
        waiting, fresh = self._sorted(wanted)
        while fresh or waiting:
            self._records.check()
            while fresh and len(waiting) < self._room and time.monotonic() >= self._submit_at:
                packed = pack(fresh, self._config.requests, self._provider, self._exchange)
                for ask, why in packed.refused:
                    yield ask, Response(finish_reason="error", error=why)
                if packed.asks and (record := self._submit(packed)) is not None:
                    waiting.append(self._wait_for(record))
                elif packed.asks:
                    fresh.extendleft(reversed(packed.asks))
            for one in [one for one in waiting if time.monotonic() >= one.look_at]:
                if (state := self._look(one)) is None:
                    continue
                waiting.remove(one)
                mine = self._open(one.record, wanted)
                if state.refused is None:
                    yield from self._give(one, state, mine, calls)
                else:
                    self._records.delete(one.record)
                    self._refuse(one.record, state, len(waiting))
                    fresh.extendleft(reversed(mine.values()))
            times = [one.look_at for one in waiting]
            if fresh and len(waiting) < self._room:
                times.append(self._submit_at)
            if times:
                time.sleep(max(0.0, min(times) - time.monotonic()))

    def close(self) -> None:
        """Close the connections; batches go on at the provider."""
        self._provider.client.close()
        self._records.close()

    def _sorted(self, wanted: Mapping[str, Ask]) -> tuple[list[_Waiting], deque[Ask]]:
        """Batches of earlier passes and starts that have something of what is wanted, and what is in none."""
        waiting, fresh = [], dict(wanted)
        for record in self._records.all():
            if mine := self._open(record, fresh):
                log.info("traces: going on with %s of an earlier start, for %s of them", record.name, f"{len(mine):,}")
                waiting.append(self._wait_for(record, earlier=True))
                fresh = {name: ask for name, ask in fresh.items() if name not in mine}
        return waiting, deque(fresh.values())

    def _open(self, record: Record, wanted: Mapping[str, Ask]) -> dict[str, Ask]:
        """What is wanted and a batch may have an answer for. One that was given and is wanted again was of no use."""
        failed = set(record.failed or ())
        return {
            ask: wanted[ask]
            for ask in record.asks
            if ask in wanted and ask not in failed and (record.key, ask) not in self._given
        }

    def _wait_for(self, record: Record, *, earlier: bool = False) -> _Waiting:
        since, poll = time.monotonic(), self._config.poll
        return _Waiting(record, since, since if earlier else since + poll, poll, earlier=earlier)

    def _submit(self, packed: Pack) -> Record | None:
        """The batch's record. None: the provider takes no batch now."""
        try:
            record = submit(packed, self._provider, self._records)
        except (StatusError, NoAnswerError) as error:
            since = self._unsubmitted_since = self._unsubmitted_since or time.monotonic()
            if isinstance(error, StatusError) and not error.passing:
                raise TeacherError(
                    f"a batch of {len(packed.asks):,} requests was refused at {self._address}: {error}; mend that, "
                    f"or ask one by one (teacher.batch=null). {AGAIN}"
                ) from None
            if time.monotonic() - since > self._config.hours * 3600:
                raise TeacherError(
                    f"{self._address} took no batch for {self._config.hours:g} hours: {error}; mend that. {AGAIN}"
                ) from None
            pause = max(self._submit_pause, error.pause)
            log.warning("traces: no batch could be submitted: %s; again in %.0f s", error, pause)
            self._submit_at = time.monotonic() + pause
            self._submit_pause = min(self._submit_pause * SLOWER, self._config.poll * SLOWEST)
            return None
        self._submit_pause, self._unsubmitted_since = self._config.poll, None
        what = "was submitted" if record.batch else "was perhaps submitted"
        log.info("traces: %s %s to %s", record.name, what, self._address)
        return record

    def _look(self, one: _Waiting) -> State | None:
        """How a batch has ended, its results being on the disk. None: it has not, or nobody can say."""
        record = one.record
        one.look_at, one.pause = time.monotonic() + one.pause, min(one.pause * SLOWER, self._config.poll * SLOWEST)
        try:
            if record.batch is None and not self._find(one):
                return NOT_CREATED
            if record.batch is not None:
                state = self._provider.state(record.batch)
                one.tell(logging.INFO, state.words)
                if state.ended:
                    self._fetch(record, state)
                    return state
        except StatusError as error:
            # Just created, it may not be known everywhere yet.
            if error.status in GONE and time.monotonic() > one.since + LISTED_S:
                return self._gone(record, error)
            if not error.passing and error.status not in GONE:
                raise TeacherError(f"{record.name} at {self._address}: {error}; mend that. {AGAIN}") from None
            one.look_at = max(one.look_at, time.monotonic() + error.pause)
            one.tell(logging.WARNING, f"it cannot be looked at ({error}); trying on")
        except NoAnswerError as error:
            one.tell(logging.WARNING, f"it cannot be looked at ({error}); trying on")
        if time.monotonic() - one.since > self._config.hours * 3600:
            raise TeacherError(
                f"{record.name} has not ended after {self._config.hours:g} hours ({one.words}). Run again to wait on, "
                "or cancel it at the provider first: what it has answered is taken, and the rest asked again"
            )
        return None

    def _fetch(self, record: Record, state: State) -> None:
        """Have the results on the disk."""
        results = self._records.results(record)
        if state.refused is None and not results.exists():
            try:
                self._provider.client.download(state.paths, results)
            except OSError as error:
                why = error.strerror or error
                raise TeacherError(f"{results}: cannot be written: {why}; make room, then run again") from None

    def _find(self, one: _Waiting) -> bool:
        """Look for a batch that was perhaps created. False: it was not."""
        record = one.record
        others = {other.batch for other in self._records.all() if other.batch is not None}
        try:
            record.batch = self._provider.find(record, others)
        except UncertainError as error:
            if error.lasting:
                raise TeacherError(
                    f"{record.name}: it is not certain whether it was created: {error}. Look at the provider; if "
                    f"it was, write its id into {self._records.path(record)} (`batch`); if not, delete that file"
                ) from None
            one.tell(logging.INFO, f"it is not certain yet whether it was created: {error}")
            return True
        except StatusError as error:
            if error.passing or error.status not in {*GONE, 405}:
                raise
            raise TeacherError(
                f"{record.name}: whether it was created cannot be said, as {self._address} lists no batches: {error}. "
                f"If it was, write its id into {self._records.path(record)} (`batch`); if not, delete that file"
            ) from None
        if record.batch is None:
            one.tell(logging.INFO, f"looking for {LISTED_S:.0f} s whether it was created")
            return time.monotonic() < one.since + LISTED_S
        self._records.save(record)
        log.info("traces: %s had been created", record.name)
        return True

    def _gone(self, record: Record, error: StatusError) -> State:
        """The provider has no such batch, or no results of it."""
        results = self._records.results(record)
        if results.exists():
            return State("its results are here", ended=True)
        if self._config.lost == "stop":
            raise TeacherError(
                f"{record.name} or its results are not at {self._address}: {error}. If the key is of another account, "
                "give the right one; if they were deleted, run again with teacher.batch.lost=ask_again: its questions "
                "are asked again and may be paid twice"
            )
        log.warning("traces: %s is gone (%s): its questions are asked again", record.name, error)
        results.write_bytes(b"")
        return State("it is gone", ended=True)

    def _refuse(self, record: Record, state: State, others: int) -> None:
        """Say why nothing of a batch was asked, unless another try may help."""
        if state is NOT_CREATED:
            log.info("traces: %s was not created: its questions are asked anew", record.name)
        elif state.crowded and others:
            self._room = others
            log.warning("traces: %s waits until another one has ended: %s", record.name, state.refused)
        else:
            smaller = "; make teacher.batch.requests smaller, or wait for other batches" if state.crowded else ""
            raise TeacherError(
                f"{self._address} refused {record.name}, and nothing of it was asked: {state.refused}{smaller}"
            )

    def _give(
        self, one: _Waiting, state: State, wanted: Mapping[str, Ask], calls: OnCall
    ) -> Iterator[tuple[Ask, Response]]:
        """Responses of a batch that has ended; those that failed last, when the record says so."""
        record, failed = one.record, list[tuple[str, Ask, Failure]]()
        results = self._records.results(record)
        for custom_id, ask, what in outcomes(results, record, wanted, state, self._provider, self._exchange):
            if isinstance(what, Failure):
                failed.append((custom_id, ask, what))
            else:
                self._given.add((record.key, ask.id))
                yield ask, what
        # Told before the record says so: killed in between, they are told again, and count once.
        for custom_id, ask, failure in failed:
            calls(failure.call(ask, custom_id))
        record.failed = [*(record.failed or ()), *(ask.id for _, ask, _ in failed)]
        self._records.save(record)
        results.unlink(missing_ok=True)
        answered = len(wanted) - len(failed)
        log.info("traces: %s gave %s answers and %s failures", record.name, f"{answered:,}", f"{len(failed):,}")
        for _, ask, failure in failed:
            yield ask, Response(finish_reason="error", error=failure.reason, stale=one.earlier)

    @property
    def _address(self) -> str:
        return self._provider.client.base_url
