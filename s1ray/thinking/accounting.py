"""Counts thinking and answer of a response that exists already, from its token ids."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from s1ray.thinking.forcer import Accounting, PromptState, prompt_state, replay
from s1ray.thinking.format import TokenizedFormat
from s1ray.thinking.plan import ForcingPlan


def account(
    plan: ForcingPlan,
    prompt_ids: Sequence[int],
    output_ids: Sequence[int],
    *,
    swallowed: Collection[int] | None = None,
    room: int | None = None,
) -> Accounting:
    """Count a response that was generated under a plan.

    Everything but `waits` follows from the ids alone. A "Wait" that the model wrote itself where one could have been
    inserted looks like an inserted one; pass the engine's `swallowed` positions for the exact number, or take it as an
    upper bound. `room` is what `BudgetForcer` takes: without it a cut by the context is taken for none. Without a wait
    text, suppressed stops leave no trace: the number is then exact where the model ended
    its thinking itself, and otherwise a lower bound.
    """
    return replay(plan, prompt_ids, output_ids, swallowed=swallowed, room=room).accounting()


def account_unforced(
    fmt: TokenizedFormat | ForcingPlan, prompt_ids: Sequence[int], output_ids: Sequence[int]
) -> Accounting:
    """Count a response that nothing was forced on.

    It thinks where the prompt ends inside thinking or its first ids (line breaks aside) are the start delimiter, until
    the first end trigger. What follows the whole end delimiter is the answer, and so is a tool call within the
    thinking; a response that does not think is all answer, one whose end delimiter is not complete has none.
    """
    end, triggers = list(fmt.end), frozenset(fmt.end_triggers)
    output = list(output_ids)
    begin = thinking_begin(fmt, prompt_state(fmt.start, fmt.end, triggers, prompt_ids), output)
    if begin is None:
        return _split(output, 0, 0, 0, answered=True)
    stop = next((i for i in range(begin, len(output)) if output[i] in triggers), len(output))
    if stop < len(output) and output[stop] in fmt.tool_calls:
        return _split(output, begin, stop, stop, answered=True)
    answered = output[stop : stop + len(end)] == end
    return _split(output, begin, stop, stop + len(end) if answered else len(output), answered=answered)


def thinking_begin(fmt: TokenizedFormat | ForcingPlan, state: PromptState, output_ids: Sequence[int]) -> int | None:
    """Where the thinking of a free response begins; None: it does not think (or its start is not complete yet)."""
    if state is not PromptState.ABSENT:
        return 0 if state is PromptState.OPEN else None
    begin = 0
    while begin < len(output_ids) and output_ids[begin] in fmt.newline_ids:
        begin += 1
    found = tuple(output_ids[begin : begin + len(fmt.start)]) == tuple(fmt.start)
    return begin + len(fmt.start) if found else None


def _split(output: list[int], begin: int, stop: int, answer: int, *, answered: bool) -> Accounting:
    return Accounting(
        thinking_tokens=stop - begin,
        answer_tokens=len(output) - answer,
        waits=0,
        end_forced=None,
        answered=answered,
        thinking_span=(begin, stop),
        answer_begin=answer,
    )
