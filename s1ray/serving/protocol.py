"""What a request may ask of its thinking, and what a response tells about it: the wire format, apart from any server.

Request (chat and completions; with the `openai` client: `extra_body={"thinking": {...}}`):

    "thinking": {"max_tokens": 512, "min_tokens": 0, "waits": 1, "wait_text": "Wait", "end_text": null}

All fields are optional; see `ThinkingBudget` for their meaning. `max_tokens: 0` answers at once. What is left out comes
from the server's budgets.

Response, in every choice (of a stream: in the choice's last chunk):

    "thinking": {"thinking_tokens": 512, "answer_tokens": 17, "waits": 1, "end_forced": "budget",
                 "budget": {"max_tokens": 512, "min_tokens": 0, "waits": 1, "wait_text": "Wait", "end_text": null}}

The numbers are counted from token ids. Chat messages have the thinking as `reasoning` (vLLM's name) and
`reasoning_content` (the older name, which many clients read), apart from `content`. A completion's `text` holds both as
the model wrote them, delimiters included; its `thinking` object has them apart, as `text` and `answer`.
`usage.completion_tokens_details.reasoning_tokens` is the sum of the thinking tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from s1ray.serving.config import Budgets
from s1ray.thinking import Accounting, ThinkingBudget

FIELD = "thinking"
"""The request's and the choice's key."""


class BadRequestError(ValueError):
    """A request that cannot be served as it is; answered with 400.

    Attributes:
        field: the request's field that is wrong, dotted.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field


def requested_budget(thinking: object) -> ThinkingBudget:
    """Read the `thinking` field of a request; None asks for nothing.

    Raises:
        BadRequestError: it is no object, or a field of it is unknown or wrong.
    """
    if thinking is None:
        return ThinkingBudget()
    if isinstance(thinking, ThinkingBudget):
        return thinking
    if not isinstance(thinking, Mapping):
        kind = type(thinking).__name__
        raise BadRequestError(FIELD, f'must be an object such as {{"max_tokens": 512}}, not {kind}')
    try:
        return ThinkingBudget.model_validate(dict(thinking))
    except ValidationError as error:
        raise _as_bad_request(error) from None


def _as_bad_request(error: ValidationError) -> BadRequestError:
    problem = error.errors(include_url=False)[0]
    message = problem["msg"].removeprefix("Value error, ")
    names = list(ThinkingBudget.model_fields)
    if problem["type"] == "extra_forbidden":
        return BadRequestError(f"{FIELD}.{problem['loc'][0]}", f"unknown field; the fields are {', '.join(names)}")
    if not problem["loc"]:
        name, separator, rest = message.partition(": ")
        if separator and name in names:
            return BadRequestError(f"{FIELD}.{name}", rest)
        return BadRequestError(FIELD, message)
    return BadRequestError(f"{FIELD}.{problem['loc'][0]}", f"{message} (got {problem['input']!r:.100})")


def resolve_budget(requested: ThinkingBudget, budgets: Budgets) -> ThinkingBudget:
    """The budget that a request gets: what it asks for, filled up from the server's default and kept under its maximum.

    Raises:
        BadRequestError: it asks for more than the server's maximum.
    """
    limit = budgets.maximum
    for name in ("max_tokens", "min_tokens"):
        asked = getattr(requested, name)
        if limit is not None and asked is not None and asked > limit:
            message = f"{asked} is more than this server's maximum of {limit} thinking tokens"
            raise BadRequestError(f"{FIELD}.{name}", message)
    if requested.max_tokens is not None:
        return requested
    asks_for_no_cap = "max_tokens" in requested.model_fields_set
    cap = limit if budgets.default is None or asks_for_no_cap else budgets.default
    if cap is None:
        return requested
    cap = max(cap, requested.min_tokens)
    # The request could not know that there is nothing to wait for.
    return requested.model_copy(update={"max_tokens": cap, "waits": requested.waits if cap else 0})


def report(accounting: Accounting, budget: ThinkingBudget) -> dict[str, Any]:
    """A choice's `thinking` object."""
    return {
        "thinking_tokens": accounting.thinking_tokens,
        "answer_tokens": accounting.answer_tokens,
        "waits": accounting.waits,
        "end_forced": accounting.end_forced,
        "limit": accounting.limit,
        "budget": budget.model_dump(mode="json"),
    }
