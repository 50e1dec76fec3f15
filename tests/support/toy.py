"""A toy vocabulary and plans in it, for the tests of this room (no tokenizer needed)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from s1ray.thinking.forcer import BudgetForcer, Phase
from s1ray.thinking.plan import ForcingPlan

EOS, TURN, THINK, ANSWER, NEWLINE, WAIT, HMM, COMMA, FINAL, COLON, X, Y = range(12)
VOCAB = 16
"""Ids 12 to 15 are filler; the model's rows may go beyond."""


def toy_plan(**changes: Any) -> ForcingPlan:
    """s1's shape: `TURN THINK ... [NEWLINE] TURN ANSWER [NEWLINE FINAL COLON]`, triggers TURN and EOS."""
    fields: dict[str, Any] = {
        "vocab_size": VOCAB,
        "start": (TURN, THINK),
        "end": (TURN, ANSWER),
        "end_triggers": (EOS, TURN),
        "newline": (NEWLINE,),
        "newline_ids": (NEWLINE,),
        "cut": (TURN, ANSWER, NEWLINE, FINAL, COLON),
        "cut_answer": 2,
        "wait_texts": ((WAIT,),),
        "answer_ban": ((TURN,),),
        "blank_ids": (NEWLINE,),
        "eos": EOS,
    }
    return ForcingPlan(**(fields | changes))


def drive(forcer: BudgetForcer, propose: Callable[[int], int], tokens: int) -> list[int]:
    """Sample then replace, as s1's harness does it: `propose(step)` is the model's own choice.

    A banned proposal is asked again (another step number), as renormalising would. Stops after EOS in the answer.
    """
    output: list[int] = []
    asked = 0
    while len(output) < tokens:
        action, share = forcer.action, 0.0
        token = propose(asked)
        asked += 1
        if action is not None and action.force is not None:
            token = action.force
        elif action is not None:
            never = {*action.exclude, *(action.ban if action.move_to is None else ())}
            while token in never:
                share = max(share, float(token in action.ban))
                token = propose(asked) if asked < 5000 else asked % VOCAB
                asked += 1
            if token in action.ban and action.move_to is not None:
                token, share = action.move_to, 1.0
        was_answering = forcer.phase in (Phase.ANSWER, Phase.CLOSE)
        forcer.observe(token, share)
        output.append(token)
        if token == EOS and was_answering:
            break
    return output
