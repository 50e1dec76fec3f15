"""Resolves what a request says about its thinking, once, before it waits for a replica.

Whatever is wrong with a request by its own text is refused here, so that it neither waits in the queue nor wakes a
model that is scaled to zero. A replica gets the resolved budget and checks only what needs its tokenizer or its engine.

The resolved budget also sets a request's place in the queue, by a deadline: when it arrived, plus some patience for
every token that it may think. So a short request passes long ones that arrived a little earlier, and a long one is
passed only by requests that arrive before its deadline: it never waits for ever.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from s1ray.config import Config
from s1ray.serving.config import Budgets
from s1ray.serving.protocol.aliases import SHOWN, Aliases, RequestedThinking, read_request
from s1ray.serving.protocol.answer_shape import AnswerShape
from s1ray.serving.protocol.budgets import GrantedBudget, check_room, resolve_budget
from s1ray.serving.protocol.refusals import FIELD, BadRequestError
from s1ray.serving.protocol.strategies import STRATEGY_ARG, RequestStrategy
from s1ray.thinking import ThinkingBudget
from s1ray.thinking.plan import EXTRA_ARG

PATIENCE_S = 0.005
"""Seconds of patience for a token. A budget of 32,000 tokens lets shorter requests pass for 160 seconds, about a
tenth of the time that it takes."""

MAX_PATIENCE_S = 160.0
"""The longest time for which later requests may pass, whatever the budget: clients wait that long for a first token."""

UNKNOWN_CONTEXT = 32_768
"""Assumed for a model whose context only its replicas know."""


class ModelLimits(Config):
    """What the HTTP workers must know of a model."""

    budgets: Budgets
    context: int | None = None
    """Tokens of prompt and response together, where the configuration says."""


class KeyMaximumError(BadRequestError):
    """A budget that the server would grant, but not with this API key; answered with 403."""


@dataclass(frozen=True)
class ResolvedThinking:
    """What a replica must know of a request's thinking."""

    budget: ThinkingBudget
    """What the request gets. Where nothing is forced, its `max_tokens` limits the response."""
    aliases: Aliases = field(default_factory=Aliases)
    """How the client wrote the budget's fields, for errors that only the replica can find."""
    clamped_from: Mapping[str, int] = field(default_factory=dict)
    """What the client asked for where the budget is its maximum instead, by the budget's field."""
    template: Mapping[str, bool] = field(default_factory=dict)
    """Variables for the chat template that follow from the request's fields."""
    effort: str | None = None
    """The name that the client gave, which chat templates may show."""
    hidden: bool = False
    """The thinking is counted, but left out of the response."""
    unforced: bool = False
    """Nothing is forced or counted: the client forces budgets itself, or only wants its prompt back."""
    strategy: RequestStrategy | None = None
    """What is done with several responses, or with one as it comes."""


def resolve(
    fields: Mapping[str, object], limits: ModelLimits, key_maximum: int | None = None, *, completion: bool = False
) -> ResolvedThinking:
    """Resolve the thinking of one request.

    Args:
        fields: all fields of the request.
        limits: the model's.
        key_maximum: thinking tokens at most by the client's API key.
        completion: whether the response is one text, with the thinking in it.

    Raises:
        BadRequestError: a field is unknown or wrong, contradicts another, or cannot be honoured.
        KeyMaximumError: it asks for more than its key allows, and `budgets.over_maximum` refuses that.
    """
    requested = read_request(fields)
    extra = fields.get("vllm_xargs")
    for name in (EXTRA_ARG, STRATEGY_ARG):
        if isinstance(extra, Mapping) and name in extra:
            raise BadRequestError(f"vllm_xargs.{name}", f"is the server's own; use `{FIELD}`")
    if requested.unforced and not completion:
        raise BadRequestError(FIELD, "false is for /v1/completions, with prompts in token ids; chat takes a budget")
    if requested.unforced or _only_echoes(requested, fields, completion=completion):
        cap = limits.budgets.within(key_maximum).maximum
        return ResolvedThinking(ThinkingBudget(max_tokens="auto" if cap is None else cap), unforced=True)
    granted = _grant(requested, limits.budgets, key_maximum)
    if fields.get("echo"):
        message = f"with a thinking budget only max_tokens 0 echoes; or give `{FIELD}: false`"
        raise BadRequestError("echo", message if completion else "is for /v1/completions; leave it out")
    if fields.get("use_beam_search"):
        raise BadRequestError("use_beam_search", "beam search takes no thinking budget; leave it out")
    if completion and requested.hidden_by is not None:
        message = "a completion's text holds both thinking and answer; ask for a chat completion"
        raise BadRequestError(requested.hidden_by, message)
    AnswerShape.of(fields).check(granted.budget.reopen)
    if requested.strategy is not None:
        requested.strategy.check(fields)
        requested.strategy.check_budget(granted.budget)
    check_room(granted.budget, requested.aliases, max_tokens=max_tokens(fields), context=limits.context)
    hidden = requested.hidden_by is not None or fields.get(SHOWN) is False
    return ResolvedThinking(
        granted.budget,
        requested.aliases,
        granted.clamped_from,
        requested.template,
        requested.effort,
        hidden and not completion,
        strategy=requested.strategy,
    )


def _only_echoes(requested: RequestedThinking, fields: Mapping[str, object], *, completion: bool) -> bool:
    """Whether a request only wants its prompt back."""
    echoes = completion and fields.get("echo") and fields.get("max_tokens") == 0
    return bool(echoes) and requested.strategy is None


def _grant(requested: RequestedThinking, budgets: Budgets, key_maximum: int | None) -> GrantedBudget:
    try:
        return resolve_budget(requested, budgets.within(key_maximum))
    except BadRequestError as error:
        # Raises the server's own error where the key is not at fault.
        resolve_budget(requested, budgets)
        message = f"more thinking tokens than this API key's maximum of {key_maximum}"
        raise KeyMaximumError(error.field, message) from None


def max_tokens(fields: Mapping[str, object]) -> int | None:
    """Tokens that a request wants its response to have at most."""
    limit = fields.get("max_completion_tokens") or fields.get("max_tokens")
    return limit if isinstance(limit, int) else None


def sequences(fields: Mapping[str, object], strategy: RequestStrategy | None = None) -> int:
    """Responses that the engine makes for a request at the same time: its prompts, times `n`, times the strategy's."""
    prompt, number = fields.get("prompt"), fields.get("n")
    several = isinstance(prompt, list) and bool(prompt) and not isinstance(prompt[0], int)
    prompts = len(prompt) if several and isinstance(prompt, list) else 1
    each = 1 if strategy is None else strategy.sequences
    return prompts * ((isinstance(number, int) and number) or 1) * each


def thinking_tokens(thinking: ResolvedThinking, fields: Mapping[str, object], limits: ModelLimits) -> int:
    """Thinking tokens that each response to a request may need at most."""
    room, tokens = limits.context or UNKNOWN_CONTEXT, thinking.budget.max_tokens
    if (limit := max_tokens(fields)) is not None:
        room = min(room, limit)
    return max(0, min(tokens, room)) if isinstance(tokens, int) else max(0, room)


def deadline(arrived: float, thinking: int) -> float:
    """A request's place in the queue: the earliest goes first. In seconds since the epoch.

    Args:
        arrived: when it arrived.
        thinking: tokens that its longest response may think; its responses are generated at the same time.
    """
    return arrived + min(MAX_PATIENCE_S, PATIENCE_S * thinking)
