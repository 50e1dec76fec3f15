"""From the token ids of a response to its `Completion` row: for engines that give ids."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from s1ray.schemas import Completion
from s1ray.thinking.accounting import account, account_unforced
from s1ray.thinking.format import TokenizedFormat
from s1ray.thinking.marks import wait_characters
from s1ray.thinking.plan import ForcingPlan


def completion_from_ids(
    request_id: str,
    tokenized: TokenizedFormat,
    plan: ForcingPlan | None,
    prompt_ids: Sequence[int],
    output_ids: Sequence[int],
    finish_reason: str,
    *,
    swallowed: Collection[int] | None = None,
    room: int | None = None,
) -> Completion:
    """Split and count a response.

    Args:
        request_id: becomes the row's id.
        tokenized: the model's thinking format.
        plan: what the response was generated under; None: nothing was forced.
        prompt_ids: the prompt.
        output_ids: the response, its final EOS included.
        finish_reason: "stop" or "length".
        swallowed: positions of swallowed stops where the engine knows them (see `account`).
        room: tokens that the response might have had.
    """
    if plan is None:
        counted = account_unforced(tokenized, prompt_ids, output_ids)
    else:
        counted = account(plan, prompt_ids, output_ids, swallowed=swallowed, room=room)
    if counted.answer_cut:
        finish_reason = "length"  # an engine that met the forced EOS calls it a stop
    thinking, answer = tokenized.texts(counted.thinking_of(output_ids), counted.answer_of(output_ids))
    spans = counted.wait_spans
    return Completion(
        id=request_id,
        thinking=thinking,
        answer=answer,
        prompt_tokens=len(prompt_ids),
        thinking_tokens=counted.thinking_tokens,
        answer_tokens=counted.answer_tokens,
        waits=counted.waits,
        end_forced=counted.end_forced,
        answer_cut=finish_reason == "length",
        finish_reason=finish_reason,
        output_ids=list(output_ids),
        wait_positions=[place for span in spans for place in span] or None,
        wait_spans=wait_characters(tokenized, output_ids, counted.thinking_spans, spans, thinking) or None,
    )
