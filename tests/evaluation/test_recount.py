from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from s1ray.evaluation.recount import Recount, Recounted
from s1ray.evaluation.strategies.cost import Metered
from s1ray.generation import GenerationRequest
from s1ray.generation.scripted import ScriptedGenerator
from s1ray.schemas import Completion
from s1ray.thinking import ThinkingBudget
from tests.support.scripted_model import EOS, FORMAT, TOKENIZER, TURN

recount = Recount(FORMAT)
NEWLINE = FORMAT.newline[0]
LETTERS = st.sampled_from([TURN, EOS, NEWLINE, *range(10, 14)])


def ids(text: str) -> list[int]:
    return TOKENIZER.encode(text, add_special_tokens=False)


@settings(deadline=None)
@given(
    st.lists(LETTERS, max_size=40),
    st.one_of(st.none(), st.integers(0, 20)),
    st.integers(0, 3),
    st.sampled_from(["Wait", None, "\n"]),
)
def test_it_agrees_with_the_forcer_on_everything_that_the_forcer_makes(
    wanted: list[int], maximum: int | None, waits: int, wait_text: str | None
) -> None:
    def script(request: GenerationRequest, output: Sequence[int]) -> list[int]:
        proposed = wanted[len(output) % len(wanted)] if wanted else TURN
        return [EOS if len(output) > 60 else proposed, 11, 12]

    budget = ThinkingBudget(max_tokens=maximum, waits=0 if maximum == 0 else waits, wait_text=wait_text)
    generator = ScriptedGenerator(FORMAT, script, eos_token_id=EOS)
    request = GenerationRequest(id="q", prompt_ids=[20], budget=budget, max_tokens=120)
    completion = asyncio.run(generator.complete(request))
    assert completion.output_ids is not None
    counted = recount.thinking_tokens(
        completion.output_ids, completion.thinking_tokens, forced=completion.end_forced is not None
    )
    assert counted == completion.thinking_tokens
    from_positions = recount.marked(dataclasses.replace(completion, wait_spans=None))
    assert from_positions.wait_spans == completion.wait_spans
    spans = completion.wait_spans or []
    marked = [completion.thinking[b:e] for b, e in zip(spans[::2], spans[1::2], strict=True)]
    assert len(marked) == completion.waits
    shown = (wait_text or "").strip("\n")
    assert {text.strip("\n") for text in marked} <= {shown, ""}, "the marked text is the inserted one, and no other"


def test_positions_that_do_not_fit_the_text_mark_nothing() -> None:
    output = ids("<|im_start|>thinkabcWaitdef<|im_start|>answer\n1")
    completion = Completion(
        id="q",
        thinking="another text",
        answer="1",
        prompt_tokens=1,
        thinking_tokens=10,
        answer_tokens=1,
        waits=1,
        output_ids=output,
        wait_positions=[4, 5],
    )
    assert recount.marked(completion).wait_spans is None


def test_it_is_not_fooled_by_a_server_that_claims_to_have_kept_the_budget() -> None:
    runaway = ids("<|im_start|>think" + "x" * 30 + "<|im_start|>answer\nAnswer: 1<|im_end|>")
    assert recount.thinking_tokens(runaway, 8, forced=True) == 30


def test_thinking_that_never_ends_is_counted_to_the_end() -> None:
    assert recount.thinking_tokens(ids("<|im_start|>think" + "x" * 30), 8, forced=True) == 30


def test_thinking_that_the_prompt_has_opened_counts_from_the_first_id() -> None:
    assert recount.thinking_tokens(ids("xxxx<|im_start|>answer\n1"), 4, forced=False) == 4


def test_a_line_break_before_a_forced_end_is_the_models_or_ours_as_the_server_says() -> None:
    output = ids("<|im_start|>thinkxxx\n<|im_start|>answer\nFinal Answer: 1")
    assert recount.thinking_tokens(output, 3, forced=True) == 3
    assert recount.thinking_tokens(output, 4, forced=True) == 4
    assert recount.thinking_tokens(output, 3, forced=False) == 4
    assert recount.thinking_tokens(output, 2, forced=True) == 4


def test_the_cost_of_a_servers_strategy_has_the_second_count_of_the_response_that_it_gave() -> None:
    class Server:
        async def complete(self, request: GenerationRequest) -> Completion:
            output = ids("<|im_start|>thinkabcdef<|im_start|>answer\n1")
            account = {"name": "votes", "calls": 2, "prompt_tokens": 8, "thinking_tokens": 9, "answer_tokens": 4}
            return Completion(
                id="q",
                thinking="abcdef",
                answer="1",
                prompt_tokens=4,
                thinking_tokens=2,
                answer_tokens=2,
                output_ids=output,
                strategy=account,
            )

        async def close(self) -> None:
            pass

    meter = Metered(Recounted(Server(), recount))
    request = GenerationRequest(id="q", prompt_ids=[20], budget=ThinkingBudget(max_tokens=2))
    completion = asyncio.run(meter.complete(request))
    assert completion.thinking_tokens == 6, "the server claims to have kept the budget"
    assert meter.cost.thinking_tokens == 9 - 2 + 6
