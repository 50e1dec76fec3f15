"""How asks become requests of a batch, and what is in its results becomes responses."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from s1ray.generation.answers import UnusableError
from s1ray.generation.base import Call, GenerationRequest, Usage
from s1ray.generation.wires import Wire
from s1ray.generation.wires.base import refusal
from s1ray.thinking.format import ThinkingFormat

if TYPE_CHECKING:
    from s1ray.teachers.batches.provider import Result
from s1ray.teachers.base import Ask, Response
from s1ray.teachers.language_models import response_of


@dataclass(frozen=True)
class Failure:
    """A request without an answer that is of use."""

    outcome: Literal["failed", "lost"]
    reason: str
    usage: Usage | None = None

    def call(self, ask: Ask, key: str) -> Call:
        """For the ledger.

        Args:
            ask: that it was made for.
            key: the request's custom id.
        """
        return Call(ask.id, 1, self.outcome, self.usage, self.reason, key)


@dataclass(frozen=True)
class Exchange:
    """What calls one by one and batches have in common."""

    wire: Wire
    model: str
    extra_body: Mapping[str, object]
    thinking_format: ThinkingFormat | None
    retried_reasons: Collection[str]
    """Finish reasons, ours or the provider's, of answers that are asked again."""
    request: Callable[[Ask], GenerationRequest]
    """What an ask asks for."""

    def path(self, ask: Ask) -> str:
        """Where its request would go on its own, behind the base address."""
        return self.wire.path(self.request(ask))

    def body(self, ask: Ask) -> Mapping[str, Any]:
        """Its request.

        Raises:
            InputError: the API has no way to say it.
        """
        return self.wire.body(self.request(ask), self.model, self.extra_body)

    def outcome(self, ask: Ask, result: Result) -> Response | Failure:
        """What a result is for its ask."""
        if result.answer is None:
            why = result.problem or "no reason is given"
            return self._refusal(ask, why) if result.refused else Failure("failed", why)
        usage = None
        try:
            usage = self.wire.usage(result.answer)
            completion = self.wire.completion(self.request(ask), result.answer, self.thinking_format)
        except (UnusableError, RecursionError) as error:
            if isinstance(error, UnusableError) and error.refused:
                return self._refusal(ask, str(error), usage)
            told = isinstance(error, UnusableError) and error.told
            return Failure("lost" if usage is None and not told else "failed", str(error), usage)
        if not {completion.finish_reason, completion.raw_finish_reason}.isdisjoint(self.retried_reasons):
            return Failure("failed", f"it ended with {completion.raw_finish_reason!r}", usage)
        return replace(response_of(completion), usage=usage)

    def _refusal(self, ask: Ask, reason: str, usage: Usage | None = None) -> Response:
        # What a filter stops is not counted, so it has cost nothing.
        return replace(response_of(refusal(self.request(ask), reason)), usage=usage or Usage())
