"""What asking a teacher costs at most, before anything is asked."""

from __future__ import annotations

from s1ray.teachers.base import Teacher


def costs_at_most(teacher: Teacher, asks: int, prompt_tokens: int | None = None) -> list[str]:
    """Tokens, and with prices money, as phrases; none where nobody knows.

    Args:
        teacher: who is asked.
        asks: how often.
        prompt_tokens: of all prompts together, at most. None: not known.
    """
    if (tokens := teacher.max_response_tokens) is None:
        return []
    lines = [f"at most {asks * tokens:,} tokens generated"]
    if (prices := teacher.price_list) is not None:
        money = prices.money_at_most(prompt_tokens or 0, asks * tokens)
        share = f" ({prices.share:g} of the list prices)" if prices.share != 1 else ""
        more = "calls that have to be repeated" if prompt_tokens is not None else "prompts and repeated calls"
        lines.append(f"at most {money:,.2f} {prices.currency}{share}, and more for {more}")
        if (limit := teacher.spending_limit) is not None and limit < money:
            lines.append(f"max_spend ends the run at {limit:,.2f} {prices.currency}")
    return lines
