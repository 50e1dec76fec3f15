"""What a request may ask of its thinking, and what a response says about it: the wire format.

Routes: `/v1/chat/completions`, `/v1/completions` and `/v1/responses` (OpenAI's API), `/v1/messages` and
`/v1/messages/count_tokens` (Anthropic's). All of them take the same fields.

Request, our own names (with the `openai` client: `extra_body={"thinking": {...}}`):

    "thinking": {"max_tokens": 512, "min_tokens": 0, "waits": 1, "wait_text": "Wait", "end_text": null, "grace": 0,
                 "ban": [], "answer_reserve": null, "answer_max_tokens": null, "reopen": "forbid", "scope": "response",
                 "stop": false, "loops": 0, "effort": null, "strategy": null}
    "answer": {"max_tokens": 256}                        the same as thinking.answer_max_tokens

All fields are optional; see `ThinkingBudget` for their meaning. `max_tokens: 0` answers at once; "auto" is what the
context and the server's maximum allow, and so is a `max_tokens` that is given as null. In every other field, except
`wait_text`, null is the same as leaving it out. `effort` stands in place of `max_tokens`: a name that the server maps
to a number or to "auto" (`budgets.effort` in its configuration; `/v1/models` shows the map). The names of the public
APIs (none, minimal, low, medium, high, xhigh, max) always map to something. What is left out comes from the server's
budgets. `strategy` names a test-time strategy (`strategies.py`), which makes several responses out of one request, each
under this budget, and gives one of them.

More than the server's maximum, or than the API key's, is clamped to it; the response says so. (With
`budgets.over_maximum: refuse` it is answered with 400, or with 403 where only the key is in the way.)

Other clients' names for the same fields (aliases):

    thinking: {"type": "enabled", "budget_tokens": N}    Anthropic: max_tokens N; must be less than the response's
    thinking: {"type": "enabled" | "adaptive" | "auto"}  the server's default
    thinking: {"type": "disabled"}                       max_tokens 0
    thinking: {..., "display": "omitted"}                the thinking is counted, but left out of the response
    thinking: {"keep": "all" | "none"}                   Moonshot: the chat template is asked to keep the thinking of
                                                         earlier turns, or not to
    thinking: {"clear_thinking": false | true}           z.ai: the same
    output_config: {"effort": NAME}                      Anthropic, /v1/messages only: effort, unless there is a number
    reasoning_effort: NAME                               OpenAI: effort
    reasoning: {"effort": NAME}                          OpenAI (Responses), OpenRouter: effort
    reasoning: {"max_tokens": N}                         OpenRouter: max_tokens
    reasoning: {"enabled": false}                        OpenRouter: max_tokens 0
    reasoning: {"exclude": true}                         OpenRouter: as vLLM's `include_reasoning: false`
    reasoning: {"summary" | "generate_summary": NAME}    OpenAI: accepted; the thinking itself is shown
    think: false | true | NAME                           Ollama: max_tokens 0; the server's default; effort
    chat_template_kwargs: {"enable_thinking": false}     Qwen's and GLM's chat templates: max_tokens 0; true: the
                                                         server's default. The template gets it, too
    chat_template_kwargs: {"thinking": false}            DeepSeek's and Kimi's: the same
    thinking_token_budget: N | -1                        vLLM: max_tokens N; "auto"
    reasoning_budget: N | -1                             llama.cpp: the same
    max_tokens_thinking: N | "auto"                      s1's harness: max_tokens
    min_tokens_thinking: N                               s1's harness: min_tokens
    thinking_n_ignore: N                                 s1's harness: waits
    thinking_n_ignore_str: TEXT                          s1's harness: wait_text; without it the harness's other fields
                                                         only suppress the end

`thinking: false`, on `/v1/completions` only, asks for no forcing at all, for a client that forces budgets itself, call
by call (`s1ray.thinking.segmented`); the response has no `thinking` then, and at most as many tokens as may be thought.

They may be mixed, and our own fields may stand next to `type`. Answered with 400 and the field as the client wrote it:
two aliases that disagree, a wrong type, an unknown field of `thinking`, `answer` or `reasoning`, an unknown field of
the request with "think" or "reason" in its name, an unknown effort, and what cannot be honoured (a minimum or a reserve
for the answer that the response's own limit leaves no room for). All of this is answered before the request waits for a
replica. An effort name is shown to the chat template too, as vLLM does; vLLM's own budget never acts.

Whether the prompt holds the thinking of earlier turns is the chat template's choice. `keep` and `clear_thinking` reach
it as the variables `preserve_thinking` (Kimi's and Qwen's) and `clear_thinking` (GLM's); a template that knows neither
does what it always does, which for most is to drop the thinking before the last user message. Counting tokens takes no
notice of them.

Response, in every choice (of a stream: in the choice's last chunk):

    "thinking": {"thinking_tokens": 512, "answer_tokens": 17, "answer_cut": false, "blocks": 1, "waits": 1,
                 "end_forced": "budget", "limit": 512, "spent": 0,
                 "budget": {"max_tokens": 512, "min_tokens": 0, "waits": 1, "wait_text": "Wait", ...}}

The numbers are counted from token ids. `end_forced` says why the thinking was cut ("budget", "context", "loop",
"early_exit"; null: the model ended it), `limit` how many thinking tokens there could have been by budget and room,
`budget` what was resolved from the request and the server's budgets. `clamped_from` is there only where the request
asked for more than a maximum: the numbers that it asked for, as in `{"max_tokens": 50000}`. `answer_cut` says that the
answer reached its maximum or the response its limit; `finish_reason` is "length" then. `blocks` counts the blocks of
thinking (more than one only with `reopen: "allow"`), `spent` the thinking tokens that were taken off the budget with
`scope: "turn"`. Chat messages have the thinking as `reasoning` (vLLM's name) and `reasoning_content` (the older name,
which many clients read), apart from `content`. A completion's `text` holds both as the model wrote them, delimiters
included; its `thinking` object has them apart, as `text` and `answer`.
`usage.completion_tokens_details.reasoning_tokens` is the sum of the thinking tokens.

A message of `/v1/messages` has the thinking as a block of type "thinking" before the others (its `signature` is opaque
and nothing is signed), and the same accounting object as `usage.output_tokens_details`, of a stream in the event
`message_delta`. Anthropic's own lower bound of 1,024 for `budget_tokens` is not enforced.

A response of `/v1/responses` has the thinking as an item of type "reasoning" before the others, and the accounting
object as its own field `thinking`, of a stream in the last event's response. `reasoning.summary` gives the thinking as
the item's summary, too.

Errors have the form of the route's API: `{"error": {"message", "type", "param", "code"}}` for OpenAI's,
`{"type": "error", "error": {"type", "message", "param"}}` for Anthropic's. A stream that has begun ends with one as its
last event; it begins with its first token, or after `limits.keep_alive_s` seconds with a comment (Anthropic's: a ping).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import JsonValue, ValidationError

from s1ray.serving.config import Budgets, Effort
from s1ray.serving.protocol.aliases import Aliases, RequestedThinking
from s1ray.serving.protocol.refusals import FIELD, BadRequestError
from s1ray.thinking import Accounting, BudgetForcer, ForcingPlan, ThinkingBudget


@dataclass(frozen=True)
class GrantedBudget:
    """What a request gets."""

    budget: ThinkingBudget
    """Its `max_tokens` is a number or "auto", never None."""
    clamped_from: Mapping[str, int] = field(default_factory=dict)
    """The numbers that were asked for and are more than the maximum, by the budget's field."""


def resolve_budget(requested: RequestedThinking, budgets: Budgets) -> GrantedBudget:
    """The budget that a request gets: what it asks for, completed from the server's default, kept under its maximum.

    Raises:
        BadRequestError: the server does not know the effort, the request contradicts itself, or it asks for more than
            a maximum that refuses (`budgets.over_maximum`).
    """
    maximum, aliases = budgets.maximum, requested.aliases
    clamped_from = _over(requested.budget, maximum)
    for name, number in clamped_from.items():
        if budgets.over_maximum == "refuse":
            message = f"{number} is more than this server's maximum of {maximum} thinking tokens"
            raise BadRequestError(aliases.of(name), message)
    budget = requested.budget.model_copy(update=dict.fromkeys(clamped_from, maximum))
    tokens = budget.max_tokens
    if requested.effort is not None:
        tokens = _effort(requested, requested.effort, budget, budgets)
    fields = {name: getattr(budget, name) for name in budget.model_fields_set}
    if isinstance(tokens, int):
        fields["max_tokens"], ours = tokens, tokens == maximum
    else:
        cap = maximum if tokens == "auto" or budgets.default is None else budgets.default
        fields["max_tokens"], ours = "auto" if cap is None else max(cap, budget.min_tokens), cap is not None
    if ours:
        # The client could not know how small the server's number is.
        fields["waits"] = budget.waits if fields["max_tokens"] else 0
        fields["grace"] = min(budget.grace, fields["max_tokens"])
    try:
        return GrantedBudget(ThinkingBudget.model_validate(fields), clamped_from)
    except ValidationError as error:
        # Each field is valid; two of them do not go together.
        raise aliases.error(error.errors(include_url=False)[0]["msg"].removeprefix("Value error, ")) from None


def _over(budget: ThinkingBudget, maximum: int | None) -> dict[str, int]:
    """The numbers of a budget that are more than the maximum."""
    numbers = {"max_tokens": budget.max_tokens, "min_tokens": budget.min_tokens}
    return {name: n for name, n in numbers.items() if maximum is not None and isinstance(n, int) and n > maximum}


def _effort(requested: RequestedThinking, effort: str, budget: ThinkingBudget, budgets: Budgets) -> Effort:
    """The `max_tokens` that an effort's name stands for."""
    alias = requested.aliases.of("effort")
    if effort not in budgets.effort:
        raise BadRequestError(alias, f"unknown effort {effort!r}; this server's are {', '.join(budgets.effort)}")
    tokens, given = budgets.effort[effort], budget.max_tokens
    if given is not None and given != tokens:
        other = requested.aliases.of("max_tokens")
        message = f"{effort!r} is {tokens!r} here and contradicts {other}, {given!r}; give one of the two"
        raise BadRequestError(alias, message)
    return tokens


def check_room(
    budget: ThinkingBudget,
    aliases: Aliases,
    *,
    max_tokens: int | None,
    context: int | None,
    plan: ForcingPlan | None = None,
) -> None:
    """Refuse a budget that cannot be kept, whatever the model writes.

    Args:
        budget: the request's.
        aliases: how the client wrote it.
        max_tokens: tokens that the request wants its response to have at most.
        context: tokens that prompt and response may have together; None: not known.
        plan: `budget` in ids, which says how many tokens the forced end takes. None: not known.

    Raises:
        BadRequestError: the budget, its minimum or its reserve for the answer do not fit.
    """
    thinking = budget.max_tokens
    if (
        aliases.get("max_tokens") == f"{FIELD}.budget_tokens"
        and max_tokens is not None
        and isinstance(thinking, int)
        and thinking >= max_tokens
    ):
        message = f"{thinking} must be less than the response's max_tokens, {max_tokens}"
        raise BadRequestError(aliases.of("max_tokens"), message)
    room = min((limit for limit in (max_tokens, context) if limit is not None), default=None)
    if room is None:
        return
    whole = f"the response's max_tokens, {room}" if room == max_tokens else f"the context of {room} tokens"
    if budget.answer_reserve is not None and budget.answer_reserve >= room:
        raise BadRequestError(aliases.of("answer_reserve"), f"{budget.answer_reserve} must be less than {whole}")
    if budget.min_tokens == 0:
        return
    # At best the prompt is short and has opened the thinking already.
    most = room - 1 if plan is None else BudgetForcer(plan, plan.start, room=room).limit
    if most is not None and budget.min_tokens > most:
        raise BadRequestError(
            aliases.of("min_tokens"),
            f"{budget.min_tokens} is more than the {most} thinking tokens that {whole}, leaves after the forced end "
            "and the reserve for the answer",
        )


def report(
    accounting: Accounting, budget: ThinkingBudget, spent: int = 0, clamped_from: Mapping[str, int] | None = None
) -> dict[str, JsonValue]:
    """A choice's `thinking` object.

    Args:
        accounting: of the choice.
        budget: what the request got.
        spent: thinking tokens of the turn's earlier messages, which were taken off it.
        clamped_from: what it asked for where it got a maximum instead.
    """
    waited: dict[str, JsonValue] = (
        {"wait_spans": [list(each) for each in accounting.wait_spans]} if accounting.waits else {}
    )
    clamped: dict[str, JsonValue] = {"clamped_from": dict(clamped_from)} if clamped_from else {}
    return {
        "thinking_tokens": accounting.thinking_tokens,
        "answer_tokens": accounting.answer_tokens,
        "answer_cut": accounting.answer_cut,
        "blocks": len(accounting.thinking_spans),
        "waits": accounting.waits,
        **waited,
        "end_forced": accounting.end_forced,
        "limit": accounting.limit,
        "spent": spent,
        "budget": budget.model_dump(mode="json"),
        **clamped,
    }
