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
) -> Accounting:
    """Count a response that was generated under a plan.

    Everything but `waits` follows from the ids alone. A "Wait" that the model wrote itself where one could have been
    inserted looks like an inserted one; pass the engine's `swallowed` positions for the exact number, or take it as an
    upper bound. Without a wait text, suppressed stops leave no trace: the number is then exact where the model ended
    its thinking itself, and otherwise a lower bound.
    """
    return replay(plan, prompt_ids, output_ids, swallowed=swallowed).accounting()


def account_unforced(
    fmt: TokenizedFormat | ForcingPlan, prompt_ids: Sequence[int], output_ids: Sequence[int]
) -> Accounting:
    """Count a response that nothing was forced on.

    It thinks where the prompt ends inside thinking or its first ids (line breaks aside) are the start delimiter, until
    the first end trigger. What follows the whole end delimiter is the answer; a response that does not think is all
    answer, one whose end delimiter is not complete has none.
    """
    start, end = list(fmt.start), list(fmt.end)
    triggers, newlines = frozenset(fmt.end_triggers), frozenset(fmt.newline_ids)
    output = list(output_ids)
    begin = 0
    if prompt_state(start, end, triggers, newlines, prompt_ids) is not PromptState.OPEN:
        while begin < len(output) and output[begin] in newlines:
            begin += 1
        if output[begin : begin + len(start)] != start:
            return _split(output, 0, 0, 0, answered=True)
        begin += len(start)
    stop = next((i for i in range(begin, len(output)) if output[i] in triggers), len(output))
    answered = output[stop : stop + len(end)] == end
    return _split(output, begin, stop, stop + len(end) if answered else len(output), answered=answered)


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
