"""The texts of a response that thinks more than once, made from its ids as they come."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from s1ray.models import resolve_model
from s1ray.serving.replica.live_texts import LiveTexts
from s1ray.thinking import BudgetForcer, ThinkingBudget, ThinkingFormat, make_plan

TOKENIZER = AutoTokenizer.from_pretrained(resolve_model("miniature-base"))
FORMAT = ThinkingFormat.preset("s1").resolve(TOKENIZER)
PLAN = make_plan(FORMAT, ThinkingBudget(reopen="allow"))
WORDS = st.sampled_from(["So 14", "\nSo 15\n", " 14", "\n", "Wait", "Final Answer: 3"])
BLOCK = st.lists(WORDS, min_size=1, max_size=4).map("".join)


@given(st.lists(st.tuples(BLOCK, BLOCK), min_size=1, max_size=3), st.lists(st.integers(1, 5), max_size=40))
def test_a_stream_of_several_blocks_says_what_the_whole_response_does(
    blocks: list[tuple[str, str]], sizes: list[int]
) -> None:
    text = "".join(f"<|im_start|>think\n{a}\n<|im_start|>answer\n{b}" for a, b in blocks) + "<|im_end|>"
    ids = list(FORMAT.encode(text))
    forcer = BudgetForcer(PLAN, FORMAT.encode("What?"), from_ids=True)
    live = LiveTexts(forcer, TOKENIZER.backend_tokenizer)
    thinking = answer = ""
    at, size = 0, iter(sizes)
    while at < len(ids):
        count = next(size, 3)
        more_thinking, more_answer = live.observe(ids[at : at + count])
        thinking, answer, at = thinking + more_thinking, answer + more_answer, at + count
    answer += live.finish()
    counted = forcer.accounting()
    assert len(counted.thinking_spans) == len(blocks)
    whole = FORMAT.texts(counted.thinking_of(ids), counted.answer_of(ids))
    assert (thinking, answer) == whole
