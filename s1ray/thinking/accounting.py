"""Counts thinking and answer of a response that exists already, from its token ids."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from s1ray.thinking.counts import Accounting
from s1ray.thinking.forcer import BudgetForcer
from s1ray.thinking.format import TokenizedFormat
from s1ray.thinking.plan import ForcingPlan
from s1ray.thinking.prompt import PromptState, prompt_state
from s1ray.thinking.replaying import replay


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
    the first end trigger; and again from every start delimiter in its answer. What follows a whole end delimiter is the
    answer, and so is a tool call within the thinking; a response that does not think is all answer, one whose end
    delimiter is not complete has none.
    """
    start, end, triggers = tuple(fmt.start), tuple(fmt.end), frozenset(fmt.end_triggers)
    output = tuple(output_ids)
    thinking: list[tuple[int, int]] = []
    answer: list[tuple[int, int]] = []
    begin = thinking_begin(fmt, prompt_state(start, end, triggers, prompt_ids), output)
    at = 0
    while begin is not None:
        stop = next((i for i in range(begin, len(output)) if output[i] in triggers), len(output))
        thinking.append((begin, stop))
        if stop < len(output) and output[stop] in fmt.tool_calls:
            at = stop
        elif output[stop : stop + len(end)] == end:
            at = stop + len(end)
        else:
            return _counted(thinking, answer)
        again = next((i for i in range(at, len(output)) if output[i : i + len(start)] == start), None)
        begin = None
        if again is not None:
            answer.append((at, again))
            begin = again + len(start)
    return _counted(thinking, [*answer, (at, len(output))])


def forced_spans(
    plan: ForcingPlan,
    prompt_ids: Sequence[int],
    output_ids: Sequence[int],
    *,
    room: int | None = None,
    stop_ids: Collection[int] = (),
) -> list[tuple[int, int]]:
    """Where a response that was generated under a plan has tokens that the model did not choose: what of the delimiters
    was forced, inserted waits, the forced beginning or end of the answer.

    Args:
        plan: the plan.
        prompt_ids: the prompt, or enough of its tail.
        output_ids: the response.
        room: as for `BudgetForcer`.
        stop_ids: as for `BudgetForcer`.

    Returns:
        Begin and end of each stretch, in tokens of the output; the end is the first token behind it.
    """
    forcer = BudgetForcer(plan, prompt_ids, room=room, stop_ids=stop_ids, from_ids=True)
    forced: set[int] = set()
    for position, token_id in enumerate(output_ids):
        if forcer.action is not None and forcer.action.force == token_id:
            forced.add(position)
        forcer.observe(token_id)
    if plan.wait_texts:
        # The first token of an inserted text stands where the model wanted to stop.
        forced.update(forcer.swallowed)
    begins = sorted(place for place in forced if place - 1 not in forced)
    ends = sorted(place + 1 for place in forced if place + 1 not in forced)
    return list(zip(begins, ends, strict=True))


def thinking_begin(fmt: TokenizedFormat | ForcingPlan, state: PromptState, output_ids: Sequence[int]) -> int | None:
    """Where the thinking of a free response begins; None: it does not think (or its start is not complete yet)."""
    if state is not PromptState.ABSENT:
        return 0 if state is PromptState.OPEN else None
    begin = 0
    while begin < len(output_ids) and output_ids[begin] in fmt.newline_ids:
        begin += 1
    found = tuple(output_ids[begin : begin + len(fmt.start)]) == tuple(fmt.start)
    return begin + len(fmt.start) if found else None


def _counted(thinking: list[tuple[int, int]], answer: list[tuple[int, int]]) -> Accounting:
    return Accounting(
        thinking_tokens=sum(end - begin for begin, end in thinking),
        answer_tokens=sum(end - begin for begin, end in answer),
        waits=0,
        end_forced=None,
        answered=bool(answer),
        answer_cut=False,
        thinking_spans=tuple(thinking),
        answer_spans=tuple(answer),
    )
