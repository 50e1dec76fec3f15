"""What a request may ask of its thinking, and what a response says about it: the wire format.

Routes: `/v1/chat/completions`, `/v1/completions` and `/v1/responses` (OpenAI's API), `/v1/messages` and
`/v1/messages/count_tokens` (Anthropic's). All of them take the same fields.

Request, our own names (with the `openai` client: `extra_body={"thinking": {...}}`):

    "thinking": {"max_tokens": 512, "min_tokens": 0, "waits": 1, "wait_text": "Wait", "end_text": null, "grace": 0,
                 "ban": [], "answer_reserve": null, "loops": 0, "effort": null}

All fields are optional; see `ThinkingBudget` for their meaning. `max_tokens: 0` answers at once; "auto" is what the
context and the server's maximum allow, and so is a `max_tokens` that is given as null. In every other field, except
`wait_text`, null is the same as leaving it out. `effort` stands in place of `max_tokens`: a name that the server maps
to a number or to "auto" (`budgets.effort` in its configuration; `/v1/models` shows the map). What is left out comes
from the server's budgets.

Other clients' names for the same fields (aliases):

    thinking: {"type": "enabled", "budget_tokens": N}    Anthropic: max_tokens N; must be less than the response's
    thinking: {"type": "enabled" | "adaptive"}           the server's default
    thinking: {"type": "disabled"}                       max_tokens 0
    thinking: {..., "display": "omitted"}                the thinking is counted, but left out of the response
    output_config: {"effort": NAME}                      Anthropic, /v1/messages only: effort, unless there is a number
    reasoning_effort: NAME                               OpenAI: effort
    reasoning: {"effort": NAME}                          OpenAI (Responses), OpenRouter: effort
    reasoning: {"max_tokens": N}                         OpenRouter: max_tokens
    reasoning: {"enabled": false}                        OpenRouter: max_tokens 0
    reasoning: {"exclude": true}                         OpenRouter: as vLLM's `include_reasoning: false`
    thinking_token_budget: N | -1                        vLLM: max_tokens N; "auto"
    max_tokens_thinking: N | "auto"                      s1's harness: max_tokens
    min_tokens_thinking: N                               s1's harness: min_tokens
    thinking_n_ignore: N                                 s1's harness: waits
    thinking_n_ignore_str: TEXT                          s1's harness: wait_text; without it the harness's other fields
                                                         only suppress the end

`thinking: false`, on `/v1/completions` only, asks for no forcing at all, for a client that forces budgets itself, call
by call (`s1ray.thinking.segmented`); the response has no `thinking` then, and at most as many tokens as may be thought.

They may be mixed, and our own fields may stand next to `type`. Answered with 400 and the field as the client wrote it:
two aliases that disagree, a wrong type, an unknown field of `thinking` or `reasoning`, an unknown field of the
request with "thinking" in its name, an unknown effort, more than the server's maximum, and what cannot be honoured (a
minimum or a reserve for the answer that the response's own limit leaves no room for). All of this is answered before
the request waits for a replica. An effort name is shown to the chat template too, as vLLM does; vLLM's own budget never
acts.

Response, in every choice (of a stream: in the choice's last chunk):

    "thinking": {"thinking_tokens": 512, "answer_tokens": 17, "answer_cut": false, "blocks": 1, "waits": 1,
                 "end_forced": "budget", "limit": 512, "spent": 0,
                 "budget": {"max_tokens": 512, "min_tokens": 0, "waits": 1, "wait_text": "Wait", ...}}

The numbers are counted from token ids. `end_forced` says why the thinking was cut ("budget", "context", "loop"; null:
the model ended it), `limit` how many thinking tokens there could have been by budget and room, `budget` what was
resolved from the request and the server's budgets. `answer_cut` says that the answer reached its maximum or the
response its limit; `finish_reason` is "length" then. `blocks` counts the blocks of thinking (more than one only with
`reopen: "allow"`), `spent` the thinking tokens that were taken off the budget with `scope: "turn"`. Chat messages have
the thinking as `reasoning` (vLLM's name) and `reasoning_content` (the older name, which many clients read), apart from
`content`. A completion's `text` holds both as the model wrote them, delimiters included; its `thinking` object has them
apart, as `text` and `answer`.
`usage.completion_tokens_details.reasoning_tokens` is the sum of the thinking tokens.

A message of `/v1/messages` has the thinking as a block of type "thinking" before the others (its `signature` is opaque
and nothing is signed), and the same accounting object as `usage.output_tokens_details`, of a stream in the event
`message_delta`. Anthropic's own lower bound of 1,024 for `budget_tokens` is not enforced.

A response of `/v1/responses` has the thinking as an item of type "reasoning" before the others, and the accounting
object as its own field `thinking`, of a stream in the last event's response. `reasoning.summary` gives the thinking as
the item's summary, too.

Errors have the form of the route's API: `{"error": {"message", "type", "param", "code"}}` for OpenAI's,
`{"type": "error", "error": {"type", "message", "param"}}` for Anthropic's.
"""

from __future__ import annotations

from pydantic import JsonValue, ValidationError

from s1ray.serving.config import Budgets, Effort
from s1ray.serving.protocol.aliases import FIELD, Aliases, BadRequestError, RequestedThinking
from s1ray.thinking import Accounting, BudgetForcer, ForcingPlan, ThinkingBudget


def resolve_budget(requested: RequestedThinking, budgets: Budgets) -> ThinkingBudget:
    """The budget that a request gets: what it asks for, completed from the server's default, kept under its maximum.

    Its `max_tokens` is a number or "auto", never None.

    Raises:
        BadRequestError: the server does not know the effort, or the request asks for more than the server's maximum.
    """
    budget, limit, aliases = requested.budget, budgets.maximum, requested.aliases
    tokens = budget.max_tokens
    if requested.effort is not None:
        tokens = _effort(requested, requested.effort, budgets)
    for name, number in (("max_tokens", tokens), ("min_tokens", budget.min_tokens)):
        if limit is not None and isinstance(number, int) and number > limit:
            message = f"{number} is more than this server's maximum of {limit} thinking tokens"
            raise BadRequestError(aliases.of(name), message)
    fields = {name: getattr(budget, name) for name in budget.model_fields_set}
    if isinstance(tokens, int):
        fields["max_tokens"] = tokens
    else:
        cap = limit if tokens == "auto" or budgets.default is None else budgets.default
        fields["max_tokens"] = "auto" if cap is None else max(cap, budget.min_tokens)
        if cap is not None:
            # The client could not know how small the server's default is.
            fields["waits"] = budget.waits if fields["max_tokens"] else 0
            fields["grace"] = min(budget.grace, fields["max_tokens"])
    try:
        return ThinkingBudget.model_validate(fields)
    except ValidationError as error:
        # Each field is valid; two of them do not go together.
        raise aliases.error(error.errors(include_url=False)[0]["msg"].removeprefix("Value error, ")) from None


def _effort(requested: RequestedThinking, effort: str, budgets: Budgets) -> Effort:
    """The `max_tokens` that an effort's name stands for."""
    alias = requested.aliases.of("effort")
    if effort not in budgets.effort:
        names = ", ".join(budgets.effort) or "none, this server has no effort map"
        raise BadRequestError(alias, f"unknown effort {effort!r}; this server's are {names}")
    tokens, given = budgets.effort[effort], requested.budget.max_tokens
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
    # At best the prompt is short and has opened the thinking already.
    most = room - 1 if plan is None else BudgetForcer(plan, plan.start, room=room).limit
    if most is not None and budget.min_tokens > most:
        raise BadRequestError(
            aliases.of("min_tokens"),
            f"{budget.min_tokens} is more than the {most} thinking tokens that {whole}, leaves after the forced end "
            "and the reserve for the answer",
        )


def report(accounting: Accounting, budget: ThinkingBudget, spent: int = 0) -> dict[str, JsonValue]:
    """A choice's `thinking` object.

    Args:
        accounting: of the choice.
        budget: what the request got.
        spent: thinking tokens of the turn's earlier messages, which were taken off it.
    """
    return {
        "thinking_tokens": accounting.thinking_tokens,
        "answer_tokens": accounting.answer_tokens,
        "answer_cut": accounting.answer_cut,
        "blocks": len(accounting.thinking_spans),
        "waits": accounting.waits,
        "end_forced": accounting.end_forced,
        "limit": accounting.limit,
        "spent": spent,
        "budget": budget.model_dump(mode="json"),
    }
