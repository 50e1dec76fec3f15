"""Test-time strategies of one request: `thinking.strategy`, an object with exactly one key, the strategy's name.

    "thinking": {"max_tokens": 512, "strategy": {"votes": {"n": 8}}}

A strategy makes several requests to the engine out of one, all of them under the request's own budget. What it did
stands in the response's `thinking.strategy`:

    {"name": "votes", "calls": 8, "prompt_tokens": ..., "thinking_tokens": ..., "answer_tokens": ..., ...}

The numbers are sums over all requests to the engine, whether their response was used or not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, ClassVar, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, ValidationError, model_validator

from s1ray.serving.protocol.answer_shape import AnswerShape
from s1ray.serving.protocol.refusals import FIELD, BadRequestError, shown
from s1ray.thinking import ThinkingBudget
from s1ray.thinking.early_exit import EarlyExit
from s1ray.thinking.schedule import Schedule
from s1ray.voting.confidence import TOP_LOGPROBS, WINDOW

STRATEGY: Final = f"{FIELD}.strategy"
"""The request's field."""

STRATEGY_ARG: Final = "s1ray_strategy"
"""Key of `vllm_xargs` under which the server names a request's strategy to its engine."""

MAX_VOTES = 1024
"""Responses to one request, however much a server allows (`limits.sequences`)."""

LEAST_TEMPERATURE = 1e-5
"""Below it, an engine gives the likeliest token."""

Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]


class RequestStrategy(BaseModel):
    """Base of every strategy."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: ClassVar[str]
    """The key that selects it."""

    @property
    def sequences(self) -> int:
        """Responses that the engine works on at the same time, at most."""
        return 1

    def check(self, fields: Mapping[str, object]) -> None:
        """Refuse what does not go together with it.

        Args:
            fields: all fields of the request.

        Raises:
            BadRequestError: a field contradicts the strategy.
        """

    def check_budget(self, budget: ThinkingBudget) -> None:
        """Refuse a budget, the server's defaults in it, that does not go together with it.

        Raises:
            BadRequestError: names the budget's field.
        """


class Votes(RequestStrategy):
    """Several responses at once, of which the most common answer is given: self-consistency (arXiv 2203.11171)."""

    name: ClassVar[str] = "votes"

    n: Annotated[StrictInt, Field(ge=2, le=MAX_VOTES)] = 8
    """Responses that are begun."""
    weights: Literal["none", "confidence", "lowest_group", "tail", "self_certainty", "inverse_entropy"] = "none"
    """What a vote weighs. none: one; confidence, lowest_group, tail: DeepConf's mean confidence, that of the lowest
    group of tokens, and of the last (arXiv 2508.15260, section 3.1); self_certainty: arXiv 2502.18581; inverse_entropy:
    arXiv 2511.02309. Tokens that the model has not chosen do not count."""
    first: Annotated[StrictInt, Field(ge=1)] | None = None
    """short-m@k (arXiv 2505.17813): the responses that end first decide, this many of them. None: all vote."""
    stop_early: StrictBool = True
    """Stop the others as soon as they cannot change which answer wins."""
    lead_probability: Annotated[Number, Field(gt=0.5, lt=1)] | None = None
    """Adaptive-Consistency's Beta criterion (arXiv 2305.11860): stop the others as soon as the leading answer is the
    model's most frequent with this probability; the paper takes 0.95. None: not looked at."""
    temperature: Annotated[Number, Field(gt=0, le=2)] | None = None
    """Of all responses, in place of the request's."""
    window: Annotated[StrictInt, Field(ge=1, le=2**20)] = WINDOW
    """Tokens of a group and of the tail."""
    top_logprobs: Annotated[StrictInt, Field(ge=2, le=TOP_LOGPROBS)] = TOP_LOGPROBS
    """Candidates at each token from which confidence, certainty and entropy are computed."""
    stop_below: Number | None = None
    """DeepConf online: a response is stopped, and has no vote, once a group's confidence is below this. None: no
    threshold, or that of `warmup`."""
    warmup: Annotated[StrictInt, Field(ge=2)] | None = None
    """DeepConf online: so many responses come first; the lowest group of those that are kept is the others' threshold.
    The paper takes 16."""
    keep: Annotated[Number, Field(gt=0, le=1)] | None = None
    """Share of the first responses that is kept, by their lowest groups; the others do not vote. The paper takes 0.1
    (DeepConf-low) and 0.9 (DeepConf-high). None: 0.9."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name in ("first", "warmup"):
            value: int | None = getattr(self, name)
            if value is not None and value >= self.n:
                raise ValueError(f"{name}: {value} of n = {self.n} responses is no choice; it must be smaller")
        if self.warmup is None:
            if self.keep is not None:
                raise ValueError("keep: says how many of the warmup's responses are kept; give warmup, too")
        elif self.stop_below is not None or self.first is not None:
            other = "stop_below" if self.stop_below is not None else "first"
            raise ValueError(f"warmup: does not go together with {other}; give one of the two")
        return self

    @property
    def kept_share(self) -> float:
        """`keep`, with its default."""
        return 0.9 if self.keep is None else self.keep

    @property
    def sequences(self) -> int:
        """All responses."""
        return self.n

    @property
    def reads_logprobs(self) -> bool:
        """Whether the engine has to send log-probabilities."""
        return self.weights != "none" or self.stop_below is not None or self.warmup is not None

    def check(self, fields: Mapping[str, object]) -> None:
        """Refuse what does not go together with a vote."""
        if fields.get("n") not in (None, 1):
            raise BadRequestError("n", f"does not go together with {STRATEGY}.votes, whose n says how many there are")
        prompt = fields.get("prompt")
        if isinstance(prompt, list) and len(prompt) != 1 and not all(isinstance(part, int) for part in prompt):
            raise BadRequestError("prompt", f"{STRATEGY}.votes takes one prompt")
        if fields.get("tools") and fields.get("tool_choice") != "none":
            raise BadRequestError("tools", f"do not go together with {STRATEGY}.votes: a call is no answer to vote on")
        for name in ("prompt_logprobs", "continue_final_message"):
            if fields.get(name) not in (None, False):
                raise BadRequestError(name, f"does not go together with {STRATEGY}.votes; leave it out")
        temperature = fields.get("temperature")
        if self.temperature is None and isinstance(temperature, int | float) and temperature < LEAST_TEMPERATURE:
            message = f"at {temperature:g} all responses of {STRATEGY}.votes are the same; give one above 0"
            raise BadRequestError("temperature", message)


class EarlyExitStrategy(EarlyExit, RequestStrategy):
    """The thinking ends as soon as trial answers are confident (DEER, arXiv 2504.15895) or stay the same (Dynasor,
    arXiv 2412.20993).
    """

    name: ClassVar[str] = "early_exit"

    def check(self, fields: Mapping[str, object]) -> None:
        """Refuse what does not go together with an early exit."""
        alias = f"{STRATEGY}.{self.name}"
        if fields.get("messages") is None:
            raise BadRequestError(alias, "is for chats; ask for a chat completion")
        if fields.get("n") not in (None, 1):
            raise BadRequestError("n", f"does not go together with {alias}, which gives one response")
        shape = AnswerShape.of(fields)
        if shape.governed:
            message = f"does not go together with {alias}: a trial answer is text"
            raise BadRequestError("tools" if shape.tools else "response_format", message)
        for name in ("logprobs", "prompt_logprobs"):
            if fields.get(name) not in (None, False):
                raise BadRequestError(name, f"does not go together with {alias}; leave it out")

    def check_budget(self, budget: ThinkingBudget) -> None:
        """Refuse a model that thinks again behind its exit."""
        if budget.reopen == "allow":
            message = f"does not go together with {STRATEGY}.{self.name}, which ends the only block of thinking"
            raise BadRequestError(f"{FIELD}.reopen", message)


class ScheduleStrategy(Schedule, RequestStrategy):
    """AlphaOne's schedule of slow and fast thinking (arXiv 2505.24863)."""

    name: ClassVar[str] = "schedule"

    def check_budget(self, budget: ThinkingBudget) -> None:
        """Refuse other waits beside the schedule's."""
        for name in ("waits", "min_tokens"):
            if getattr(budget, name):
                message = f"does not go together with {STRATEGY}.{self.name}, which says when to wait; leave one out"
                raise BadRequestError(f"{FIELD}.{name}", message)


STRATEGIES: Mapping[str, type[RequestStrategy]] = {
    strategy.name: strategy for strategy in (Votes, EarlyExitStrategy, ScheduleStrategy)
}
"""The strategies, by their keys."""


def read_strategy(value: object) -> RequestStrategy | None:
    """Read `thinking.strategy`.

    Args:
        value: the field; None: there is none.

    Raises:
        BadRequestError: it is no object with exactly one strategy, or a field of the strategy is unknown or wrong.
    """
    if value is None:
        return None
    example = '{"votes": {"n": 8}}'
    if not isinstance(value, Mapping):
        raise BadRequestError(STRATEGY, f"must be an object such as {example}, not {shown(value)}")
    for name in value:
        if name not in STRATEGIES:
            raise BadRequestError(f"{STRATEGY}.{name}", f"unknown strategy; there are {', '.join(STRATEGIES)}")
    if len(value) != 1:
        problem = f"has {', '.join(value)}; give one of them" if value else f"is empty; give one, as in {example}"
        raise BadRequestError(STRATEGY, problem)
    [(name, settings)] = value.items()
    alias = f"{STRATEGY}.{name}"
    if not isinstance(settings, Mapping):
        raise BadRequestError(alias, f"must be an object, which may be empty, not {shown(settings)}")
    known = STRATEGIES[name].model_fields
    for field, given in settings.items():
        if field not in known:
            raise BadRequestError(f"{alias}.{field}", f"unknown field; the fields are {', '.join(known)}")
        if isinstance(given, float) and not math.isfinite(given):
            raise BadRequestError(f"{alias}.{field}", f"must be a number, not {given}")
    try:
        return STRATEGIES[name].model_validate({field: given for field, given in settings.items() if given is not None})
    except ValidationError as error:
        raise _refusal(alias, error) from None


def _refusal(alias: str, error: ValidationError) -> BadRequestError:
    """The first problem, under the field as the client wrote it."""
    problem = error.errors(include_url=False)[0]
    message = problem["msg"].removeprefix("Value error, ")
    if problem["loc"]:
        return BadRequestError(f"{alias}.{problem['loc'][0]}", f"{message} (got {shown(problem['input'])})")
    field, separator, rest = message.partition(": ")
    return BadRequestError(f"{alias}.{field}", rest) if separator else BadRequestError(alias, message)
