"""What a request is refused with when it cannot be served as it is."""

from __future__ import annotations

from typing import Final

from s1ray.errors import InputError

FIELD: Final = "thinking"
"""The key of our own object in a request, and of the accounting in a choice."""


MOST_SHOWN = 200
"""Letters of a field's name: a client may write megabytes of one, and log and answer must not."""


class BadRequestError(InputError):
    """A request that cannot be served as it is; answered with 400.

    Attributes:
        field: the request's field that is wrong, dotted, as the client wrote it; of a very long one the beginning.
    """

    def __init__(self, field: str, message: str) -> None:
        self.field = field if len(field) <= MOST_SHOWN else f"{field[:MOST_SHOWN]}..."
        super().__init__(f"{self.field}: {message}")


def shown(value: object) -> str:
    """A value of a request, for a message."""
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:100]}..."
