"""pyarrow's client of S3, which asks again as often as it should, in every process.

Two traps of pyarrow 26: its "standard" way to ask again pays for each time from a budget that nothing fills up, so a
process never asks again after about a hundred times; and a client that is sent to another process (Ray Train's) forgets
how it was to ask.

Imports pyarrow at the top: for processes that reach a store only.
"""

from __future__ import annotations

from typing import Any

from pyarrow import fs

ATTEMPTS = 12
"""Of each request; each pause is twice as long as the one before, about 50 s in all."""


class PatientS3FileSystem(fs.S3FileSystem):  # type: ignore[misc]
    """As pyarrow's, with `ATTEMPTS`."""

    def __init__(self, **options: Any) -> None:
        """Take pyarrow's options but `retry_strategy`."""
        super().__init__(retry_strategy=fs.AwsDefaultS3RetryStrategy(max_attempts=ATTEMPTS - 1), **options)

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, super().__reduce__()[1]


def _again(options: dict[str, Any]) -> PatientS3FileSystem:
    return PatientS3FileSystem(**options)
