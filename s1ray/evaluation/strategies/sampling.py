"""How the responses of an eval run are drawn."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from s1ray.config import Config


class Sampling(Config):
    """How tokens are drawn, for thinking and answer alike."""

    temperature: float = Field(default=0.0, ge=0)
    top_p: float = Field(default=1.0, gt=0, le=1)
    top_k: int | None = Field(default=None, ge=1)
    """Sample among so many tokens. None: not said; s1ray's server and vLLM then take all of them."""
    samples: int = Field(default=1, ge=1)
    """Samples per question; more than one needs a temperature above 0."""
    answer_tokens: int = Field(default=2048, ge=1)
    """Tokens of an answer at most, the same in every arm however long the thinking was: where thinking is forced to an
    end, a model may go on thinking in its answer. The default is about three times the mean answer of models of s1's
    size (655 to 755 tokens). The report says how many answers were cut, and warns above 1 %."""

    @model_validator(mode="after")
    def _samples_differ(self) -> Self:
        if self.samples > 1 and self.temperature == 0:
            raise ValueError(f"samples is {self.samples}, but at temperature 0 they would all be the same")
        return self
