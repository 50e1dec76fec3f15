"""The field `batch` of teachers behind an API."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from s1ray.config import Config


class BatchConfig(Config):
    """How questions are asked through the provider's batch API."""

    requests: int = Field(default=10_000, ge=1, le=100_000)
    """Requests of one batch at most. A batch is smaller where the provider's own limits say so (OpenAI: 50,000 and
    200 MB, Anthropic: 100,000 and 256 MB)."""
    at_once: int = Field(default=10, ge=1)
    """Batches that wait for their answers at once."""
    poll: float = Field(default=30, gt=0, le=86_400)
    """Seconds between the first two looks at a batch; later ones are up to twenty times as far apart."""
    hours: float = Field(default=30, gt=0, le=10_000)
    """Hours that one run waits for a batch; then it ends in words, and the next one waits on. Providers give up after
    24 themselves."""
    price_share: float = Field(default=0.5, ge=0, le=1)
    """What a token costs in a batch, as a share of `prices`."""
    lost: Literal["stop", "ask_again"] = "stop"
    """Batches that the provider does not have any more, with their answers: stop, as the key or the address may be
    those of another account, or ask again, which may be paid twice."""
