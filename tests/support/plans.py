"""A vocabulary of seven ids, and a plan in it, for tests of the accounting."""

from __future__ import annotations

from s1ray.thinking import ForcingPlan

EOS, TURN, THINK, ANSWER, NEWLINE, WAIT, X = range(7)
PLAN = ForcingPlan(
    vocab_size=8,
    start=(TURN, THINK),
    end=(TURN, ANSWER),
    end_triggers=(EOS, TURN),
    newline=(NEWLINE,),
    newline_ids=(NEWLINE,),
    cut=(TURN, ANSWER),
    cut_answer=2,
    max_tokens=6,
    waits=1,
    wait_texts=((WAIT,),),
)
