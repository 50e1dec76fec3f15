"""Which JSON values can be sent to an engine: Python reads more than a message to another process can hold."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import LiteralString

Path = tuple[int | str, ...]


def unsendable(data: object) -> Iterator[tuple[Path, object, LiteralString]]:
    """The values in a request's JSON that cannot be sent: where they are, what they are, and what is wrong."""
    left: list[tuple[Path, object]] = [((), data)]
    while left:
        where, value = left.pop()
        if isinstance(value, dict):
            left += ((where, key) for key in value)
            left += (((*where, key), inner) for key, inner in value.items())
        elif isinstance(value, list):
            left += (((*where, index), inner) for index, inner in enumerate(value))
        elif isinstance(value, str):
            try:
                value.encode()
            except UnicodeEncodeError:
                yield where, value, "text must not hold half of a surrogate pair"
        elif isinstance(value, int):
            if not -(2**63) <= value < 2**63:
                yield where, value, "the number does not fit into 64 bits"
        elif isinstance(value, float) and not math.isfinite(value):
            yield where, value, "must be a finite number"
