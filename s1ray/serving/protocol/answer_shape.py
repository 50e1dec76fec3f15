"""What a request says of its answer's shape: a grammar, tools, or a beginning that the answer has already."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from s1ray.serving.protocol.refusals import FIELD, BadRequestError


@dataclass(frozen=True)
class AnswerShape:
    """What governs an answer besides its budget."""

    grammar: bool
    """A grammar governs all of it: that of a format, or of tools that have to be called."""
    tools: bool
    """It may be a call of a tool."""
    begun: bool
    """The prompt ends in its beginning, which the response continues."""

    @classmethod
    def of(cls, fields: Mapping[str, object]) -> Self:
        """That of a request.

        Args:
            fields: of a chat or a text completion, plain or as models.
        """
        choice, given = fields.get("tool_choice"), fields.get("tools")
        tools = given if isinstance(given, list) and choice != "none" else []
        forced = bool(tools) and choice not in (None, "auto")
        strict = any(_get(_get(tool, "function"), "strict") for tool in tools)
        form = fields.get("response_format")
        constrained = form is not None and _get(form, "type") != "text"
        structured = fields.get("structured_outputs") is not None
        return cls(forced or strict or constrained or structured, bool(tools), _is_begun(fields))

    @property
    def governed(self) -> bool:
        """Whether nothing may be written into the answer."""
        return self.grammar or self.tools

    def check(self, reopen: str) -> None:
        """Refuse what contradicts it.

        Args:
            reopen: the budget's.

        Raises:
            BadRequestError: thinking could not be told from the answer, or a grammar would have no effect.
        """
        if reopen == "allow" and self.governed:
            message = "does not go together with tools or a grammar, which take all behind the first end for the answer"
            raise BadRequestError(f"{FIELD}.reopen", message)
        if self.begun and self.grammar:
            message = "does not go together with a grammar or a forced tool, which govern a whole answer"
            raise BadRequestError("continue_final_message", message)


def _is_begun(fields: Mapping[str, object]) -> bool:
    messages = fields.get("messages")
    if not isinstance(messages, list) or not messages or not fields.get("continue_final_message"):
        return False
    return _get(messages[-1], "role") == "assistant" and bool(_get(messages[-1], "content"))


def _get(part: object, name: str) -> object:
    return part.get(name) if isinstance(part, Mapping) else getattr(part, name, None)
