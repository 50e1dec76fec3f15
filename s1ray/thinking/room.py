"""What a response has room for: the tokens kept for its answer, and the end that fits before it."""

from __future__ import annotations

from s1ray.thinking.plan import ForcingPlan


def default_reserve(room: int) -> int:
    """Tokens kept for the answer of a response of at most `room` tokens, where the request does not say."""
    return min(1024, room // 8)


def reserve_of(plan: ForcingPlan, room: int) -> int:
    """Tokens kept for the answer of a response of at most `room` tokens: one at least, and no more than it may have."""
    reserve = default_reserve(room) if plan.answer_reserve is None else plan.answer_reserve
    if plan.answer_reserve is None and plan.answer_max_tokens is not None:
        reserve = min(reserve, plan.answer_max_tokens)
    return max(1, reserve)


def fitting_end(plan: ForcingPlan, begun: int, room: int | None) -> tuple[tuple[int, ...], tuple[int, ...], int]:
    """What is forced where the thinking is cut, less what leaves no token for the answer.

    Args:
        plan: the request's.
        begun: tokens that open the thinking.
        room: tokens that the whole response may have. None: no limit known.

    Returns:
        The line break, the end with the beginning of the answer, and how many of its ids come before the answer.
    """
    forced, most = len(plan.cut) - plan.cut_answer, plan.answer_max_tokens
    left = None if room is None else room - begun - 1
    if (left is None or len(plan.newline) + len(plan.cut) <= left) and (most is None or forced < most):
        return plan.newline, plan.cut, plan.cut_answer
    if left is None or len(plan.newline) + plan.cut_answer <= left:
        return plan.newline, plan.cut[: plan.cut_answer], plan.cut_answer
    return (), plan.end, len(plan.end)
