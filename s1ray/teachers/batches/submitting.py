"""Making batches of asks, within the provider's limits, so that each is paid for once."""

from __future__ import annotations

import secrets
import time
from collections import deque
from dataclasses import dataclass, field

from s1ray.errors import InputError
from s1ray.teachers.base import Ask
from s1ray.teachers.batches.client import NoAnswerError, StatusError
from s1ray.teachers.batches.exchange import Exchange
from s1ray.teachers.batches.provider import Provider
from s1ray.teachers.batches.records import Record, Records

FRAME = 64
"""Bytes of a batch's body besides its requests and what parts them."""


@dataclass
class Pack:
    """Requests that go into one batch."""

    key: str
    path: str = ""
    asks: list[Ask] = field(default_factory=list)
    requests: list[bytes] = field(default_factory=list)
    refused: list[tuple[Ask, str]] = field(default_factory=list)
    """Asks that cannot be put into any batch, and why."""


def pack(fresh: deque[Ask], most: int, provider: Provider, exchange: Exchange) -> Pack:
    """Take asks from the left, as many as go into one batch.

    Args:
        fresh: asks to ask.
        most: requests at most, besides the provider's own limits.
        provider: its limits, and the form of its requests.
        exchange: writes the requests.
    """
    found, size = Pack(secrets.token_hex(8)), FRAME
    while fresh and len(found.asks) < min(most, provider.limits.requests):
        ask = fresh[0]
        try:
            path = exchange.path(ask)
            custom_id = f"{found.key}-{len(found.asks)}"
            request = provider.request(custom_id, path, exchange.body(ask))
        except (InputError, ValueError, TypeError) as error:
            found.refused.append((fresh.popleft(), str(error)))
            continue
        if FRAME + len(request) + 1 > provider.limits.bytes:
            found.refused.append((fresh.popleft(), f"the request has more than {provider.limits.bytes:,} bytes"))
            continue
        if size + len(request) + 1 > provider.limits.bytes:
            break
        size += len(request) + 1
        found.path = path
        found.asks.append(fresh.popleft())
        found.requests.append(request)
    return found


def submit(pack: Pack, provider: Provider, records: Records) -> Record:
    """Create a batch.

    Returns:
        Its record. Without an id: the batch may have been created, or not.

    Raises:
        StatusError, NoAnswerError: it was certainly not created.
        TeacherError: its record could not be written.
    """
    file = provider.upload(pack.key, pack.requests)
    asks = [ask.id for ask in pack.asks]
    record = Record(pack.key, provider.client.base_url, asks, time.time(), file)
    records.save(record)
    try:
        record.batch = provider.create(record, pack.path, pack.requests)
    except StatusError as error:
        if error.status >= 500 or error.status in UNCLEAR:
            return record
        records.delete(record)
        raise
    except NoAnswerError as error:
        if error.arrived:
            return record
        records.delete(record)
        raise
    records.save(record)
    return record


UNCLEAR = frozenset({408, 409})
"""Statuses below 500 of requests that may have been carried out."""
