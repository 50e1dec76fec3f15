"""What came of a batch: the file of its results, read line by line."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping

from s1ray.generation.answers import UnusableError, decode
from s1ray.storage import Location
from s1ray.teachers.base import Ask, Response
from s1ray.teachers.batches.exchange import Exchange, Failure
from s1ray.teachers.batches.provider import Provider, State
from s1ray.teachers.batches.records import Record

log = logging.getLogger("s1ray")


def outcomes(
    file: Location, record: Record, wanted: Mapping[str, Ask], state: State, provider: Provider, exchange: Exchange
) -> Iterator[tuple[str, Ask, Response | Failure]]:
    """What came of the wanted asks of a batch, each once: those with a result first, then those without.

    Args:
        file: the results.
        record: the batch.
        wanted: asks by id.
        state: of the batch, which has ended.
        provider: knows the form of the lines.
        exchange: reads the answers.

    Yields:
        The custom id of an ask, the ask, and what came of it.
    """
    left = {record.custom_id(place): wanted[ask] for place, ask in enumerate(record.asks) if ask in wanted}
    ours = {record.custom_id(place) for place in range(len(record.asks))}
    damaged = strange = 0
    with file.open("rb") as stream:
        for line in stream:
            if not line.strip():
                continue
            try:
                result = provider.result(decode(provider.client.redaction.body(line)))
            except (UnusableError, RecursionError):
                damaged += 1
                continue
            strange += result.custom_id not in ours
            if (ask := left.pop(result.custom_id, None)) is not None:
                yield result.custom_id, ask, exchange.outcome(ask, result)
    if damaged or strange:
        log.warning(
            "traces: %s: of its results, %d lines cannot be read and %d are of no request of ours",
            *(record.name, damaged, strange),
        )
    missing = Failure("lost", "its result is missing or damaged")
    if state.cut and not damaged:
        missing = Failure("failed", f"the batch ended before it was asked: {state.words}")
    for custom_id, ask in left.items():
        yield custom_id, ask, missing
