"""Stop strings beside vLLM's own detokenizer, on the miniature's tokenizer."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer
from vllm import SamplingParams
from vllm.v1.engine import output_processor
from vllm.v1.engine.detokenizer import IncrementalDetokenizer

from s1ray.errors import InputError
from s1ray.models import resolve_model
from s1ray.thinking import ThinkingBudget, ThinkingFormat, make_plan
from s1ray.thinking.plan import EXTRA_ARG
from s1ray.thinking.vllm import stops

TOKENIZER = AutoTokenizer.from_pretrained(resolve_model("miniature-base"))
FORMAT = ThinkingFormat.preset("s1").resolve(TOKENIZER)
CONTEXT = 1024
THINKING = "<|im_start|>think\nSo 14\nSo 15\n"
OWN_END = "<|im_start|>answer\n"
CUT = "\n<|im_start|>answer\nFinal Answer:"


def detokenizer(stop: list[str], budget: ThinkingBudget | None = None, **sampling: Any) -> IncrementalDetokenizer:
    plan = make_plan(FORMAT, budget or ThinkingBudget())
    params = SamplingParams(
        stop=stop, extra_args={EXTRA_ARG: plan.to_json()}, max_tokens=500, skip_special_tokens=False, **sampling
    )
    request: Any = SimpleNamespace(request_id="r", sampling_params=params, prompt_token_ids=FORMAT.encode("What?"))
    return stops.follow(IncrementalDetokenizer.from_new_request(TOKENIZER, request), request, CONTEXT)


def write(follower: IncrementalDetokenizer, text: str, sizes: list[int]) -> tuple[str | None, str]:
    ids = list(FORMAT.encode(text))
    shown = ""
    size = iter(sizes)
    while ids:
        count = next(size, 1)
        piece, ids = ids[:count], ids[count:]
        found = follower.update(piece, False)
        shown += follower.get_next_output_text(found is not None or not ids, True)
        if found is not None:
            return found, shown
    return None, shown


@given(st.lists(st.integers(1, 7), max_size=30))
def test_a_line_break_stops_the_answer_and_not_the_thinking(sizes: list[int]) -> None:
    found, shown = write(detokenizer(["\n"]), THINKING + OWN_END + "14\nSo 15\n", sizes)
    assert found == "\n"
    assert shown == THINKING + OWN_END + "14"


def test_the_forced_beginning_of_the_answer_stops_nothing() -> None:
    budget = ThinkingBudget(max_tokens=len(FORMAT.encode("\nSo 14")))
    found, shown = write(detokenizer([":", "Answer"], budget), "<|im_start|>think\nSo 14" + CUT + " 14: yes", [])
    assert found == ":"
    assert shown.endswith("Final Answer: 14")


def test_the_earliest_of_several_stops_it_and_can_be_kept() -> None:
    follower = detokenizer(["15", "4"], include_stop_str_in_output=True)
    assert write(follower, THINKING + OWN_END + "2 4 15", []) == ("4", THINKING + OWN_END + "2 4")


def test_vllms_own_behaviour_is_an_option() -> None:
    found, shown = write(detokenizer(["\n"], ThinkingBudget(stop=True)), THINKING, [])
    assert (found, shown) == ("\n", "<|im_start|>think")


def test_a_request_without_stop_strings_is_left_to_vllm() -> None:
    assert not isinstance(detokenizer([]), stops.AnswerStops)


@pytest.fixture
def untouched() -> Iterator[None]:
    before = output_processor.IncrementalDetokenizer
    yield
    output_processor.IncrementalDetokenizer = before


@pytest.mark.usefixtures("untouched")
def test_installing_twice_is_once_and_another_vllm_is_refused() -> None:
    stops.install(100)
    stops.install(200)
    assert output_processor.IncrementalDetokenizer.context == 200
    output_processor.IncrementalDetokenizer = object
    with pytest.raises(InputError, match="stop strings"):
        stops.install(100)
