"""What one request may be, whoever sends it: its size, its number of responses, and its time."""

from __future__ import annotations

from pydantic import Field

from s1ray.config import Config


class Limits(Config):
    """Limits of a single request."""

    request_bytes: int = Field(default=4 * 2**20, ge=1024)
    """Bytes of a request's body at most; more is answered with 413. A prompt of 128,000 tokens is about half a MiB."""
    request_timeout_s: float = Field(default=60.0, gt=0)
    """Seconds that a client may take to send its request's body."""
    sequences: int = Field(default=64, ge=1)
    """Responses that one request may ask for: its prompts, times `n`. Each takes a place in the engine's batch."""
    first_token_timeout_s: float | None = Field(default=600.0, gt=0)
    """Seconds until a stream begins, waiting in the queue included; then 503. None: no limit."""
    total_timeout_s: float | None = Field(default=3600.0, gt=0)
    """Seconds until a response is complete; then 504, or an error event in a stream. None: no limit."""
    stream_interval_ms: float = Field(default=20.0, ge=0)
    """A stream's first tokens are sent at once; later ones together, at most this often. Each event costs two
    processes' time. 0: every token by itself."""
    stream_parts_per_s: float | None = Field(default=None, gt=0)
    """Parts that a replica's streams send in a second, all together: of many streams each sends its tokens in larger
    groups. None: 50 for each core of its machine, which takes about a tenth of them. No stream waits longer than
    a second for it."""
    stalled_after_s: float = Field(default=120.0, gt=0)
    """Seconds without an answer from an engine's scheduler, which answers between two steps, after which its replica
    is replaced."""
