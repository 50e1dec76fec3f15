"""What every wire format does: write a request, and read an answer.

    body = wire.body(request, "some-model", {})
    answer = ...  # POST base_url + wire.path(request), with wire.headers(key); or one line of a provider's batch
    completion = wire.completion(request, answer, None)

Answers are a stranger's: whatever is in them gives a completion or an UnusableError, and never anything else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from s1ray.generation.answers import UnusableError, mapping
from s1ray.generation.base import GenerationRequest, Usage
from s1ray.schemas import Completion
from s1ray.thinking.format import ThinkingFormat


class Wire(Protocol):
    """A wire format. Instances hold settings of the format at most, and nothing of one request."""

    def path(self, request: GenerationRequest) -> str:
        """Where a request goes, behind the base address (which ends in `/v1`)."""

    def headers(self, api_key: str | None) -> dict[str, str]:
        """Headers of every call, besides the content's type.

        Args:
            api_key: None: no key is sent.
        """

    def body(self, request: GenerationRequest, model: str, extra: Mapping[str, object]) -> dict[str, Any]:
        """The request as a JSON object.

        Args:
            request: what to ask.
            model: its name there.
            extra: further fields, which win over the request's.

        Raises:
            InputError: the API has no way to say what the request asks for, or refuses it for certain.
        """

    def completion(
        self, request: GenerationRequest, answer: Mapping[str, Any], thinking_format: ThinkingFormat | None
    ) -> Completion:
        """What an answer says.

        Args:
            request: what was asked.
            answer: the body of a response, as a JSON object.
            thinking_format: splits thinking from answer where both come in one text. None: such a text is all answer.

        Raises:
            UnusableError: the answer is of no use, or tells of an error.
        """

    def usage(self, answer: Mapping[str, Any]) -> Usage | None:
        """The provider's count of tokens. None: there is none.

        Raises:
            UnusableError: a count is no number.
        """


def bearer(api_key: str | None) -> dict[str, str]:
    """The header that carries a key in OpenAI's formats."""
    return {} if api_key is None else {"Authorization": f"Bearer {api_key}"}


def counts(answer: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The object `usage` of an answer. None: it has none.

    Raises:
        UnusableError: it is something else.
    """
    found = mapping(answer.get("usage"), "usage")
    return found or None


def items(value: object, field: str) -> list[Mapping[str, Any]]:
    """A list of objects; None is an empty one.

    Raises:
        UnusableError: it is something else.
    """
    if value is None:
        return []
    if not isinstance(value, list):
        raise UnusableError(f"{field} is not a list")
    return [mapping(item, f"{field}[{place}]") for place, item in enumerate(value)]
