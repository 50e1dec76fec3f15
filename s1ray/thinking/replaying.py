"""A response that exists already, followed by the state machine that forced it."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from s1ray.thinking.forcer import BudgetForcer
from s1ray.thinking.plan import ForcingPlan


def replay(
    plan: ForcingPlan,
    prompt_ids: Sequence[int],
    output_ids: Sequence[int],
    *,
    swallowed: Collection[int] | None = None,
    room: int | None = None,
    stop_ids: Collection[int] = (),
    seed: int = 0,
) -> BudgetForcer:
    """A forcer brought to the end of an output that exists already.

    Args:
        plan: the plan that the output was generated under.
        prompt_ids: the prompt, or enough of its tail.
        output_ids: the response so far.
        swallowed: the positions at which stops were swallowed, from `BudgetForcer.swallowed`. None: not known, then
            every wait that could be an inserted one counts as such.
        room: as for `BudgetForcer`.
        stop_ids: as for `BudgetForcer`.
        seed: as for `BudgetForcer`.
    """
    blind = swallowed is None
    forcer = BudgetForcer(plan, prompt_ids, room=room, stop_ids=stop_ids, seed=seed, from_ids=blind)
    swallowed = None if swallowed is None else frozenset(swallowed)
    for position, token_id in enumerate(output_ids):
        share = None if swallowed is None else float(position in swallowed)
        forcer.observe(token_id, share)
    return forcer
