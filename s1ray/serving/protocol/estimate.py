"""How much thinking a request may need, before anybody has thought: for admission, and for the order of the queue.

The order is by a deadline of its own for each request: when it came, plus some patience for every token that it may
think. So a short request passes long ones that came a little earlier, and a long one is passed only by those that come
before its deadline: it never waits for ever, whatever else arrives.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from s1ray.config import Config
from s1ray.serving.config import Budgets
from s1ray.serving.protocol.budgets import BadRequestError, read_request, resolve_budget

PATIENCE_S = 0.005
"""Seconds of patience for a token. A budget of 32,000 tokens lets shorter requests pass for 160 seconds, about a
tenth of the time that it takes."""

MAX_PATIENCE_S = 160.0
"""Nobody is passed for longer, whatever he asks for: a client waits so long for a first token, but not for ever."""

UNKNOWN_CONTEXT = 32_768
"""What a model may think whose context only its replicas know."""


class ModelLimits(Config):
    """What the HTTP workers must know of a model."""

    budgets: Budgets
    context: int | None = None
    """Tokens of prompt and response together, where the configuration says."""


def sequences(body: Any) -> int:
    """Responses that a request asks for: its prompts, times `n`."""
    prompt = getattr(body, "prompt", None)
    several = isinstance(prompt, list) and bool(prompt) and not isinstance(prompt[0], int)
    return (len(prompt) if several and prompt is not None else 1) * (getattr(body, "n", None) or 1)


def thinking_tokens(spelled: Mapping[str, Any], body: Any, terms: ModelLimits, maximum: int | None = None) -> int:
    """Thinking tokens that a response to a request may need at most.

    Args:
        spelled: the request's fields about thinking.
        body: the request.
        terms: the model's.
        maximum: thinking tokens that the client's key allows.

    Returns:
        The estimate; 0 for a request that its replica is going to refuse.
    """
    budgets = terms.budgets.within(maximum)
    try:
        asked = read_request(spelled)
        tokens = resolve_budget(asked, budgets).max_tokens
    except BadRequestError:
        return 0
    room = terms.context or UNKNOWN_CONTEXT
    limit = getattr(body, "max_completion_tokens", None) or getattr(body, "max_tokens", None)
    if isinstance(limit, int):
        room = min(room, limit)
    if asked.unforced or not isinstance(tokens, int):
        tokens = budgets.maximum if budgets.maximum is not None else room
    return max(0, min(tokens, room))


def deadline(arrived: float, thinking: int) -> float:
    """A request's place in the queue: the earliest goes first. In seconds since the epoch.

    Args:
        arrived: when it came.
        thinking: tokens that its longest response may think; several responses are worked on at the same time.
    """
    return arrived + min(MAX_PATIENCE_S, PATIENCE_S * thinking)
