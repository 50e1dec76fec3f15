"""What an eval config says of every request, whatever strategy makes it: a system message, top_k."""

from __future__ import annotations

import dataclasses

from s1ray.errors import InputError
from s1ray.generation import GenerationRequest, Generator
from s1ray.schemas import Completion


class Instructed:
    """A generator whose requests have a system message and a top_k.

    Args:
        generator: the model's; it stays its owner's to close.
        system_prompt: comes first in each request's messages. None: none.
        top_k: of requests that do not say another. None: not said.
    """

    def __init__(self, generator: Generator, system_prompt: str | None, top_k: int | None) -> None:
        self._generator, self._system_prompt, self._top_k = generator, system_prompt, top_k

    async def complete(self, request: GenerationRequest) -> Completion:
        """Generate one response.

        Raises:
            GenerationError: it could not be had.
            InputError: a strategy made a prompt of token ids, in which a system message has no place.
        """
        if request.top_k is None and request.temperature != 0:
            request = dataclasses.replace(request, top_k=self._top_k)
        if self._system_prompt is not None:
            if request.messages is None:
                raise InputError(
                    f"request {request.id!r}: its strategy makes a prompt of token ids, which can have no "
                    "system_prompt; leave that out of the benchmark"
                )
            system = {"role": "system", "content": self._system_prompt}
            request = dataclasses.replace(request, messages=[system, *request.messages])
        return await self._generator.complete(request)

    async def close(self) -> None:
        """Nothing: the generator belongs to the run."""
