from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from s1ray.schemas import Example, Trace
from s1ray.thinking.format import ThinkingFormat
from s1ray.training.data.conditional_control import Control, upper_bound
from s1ray.training.data.examples import Unusable, UnusableRows, build_examples, explain
from s1ray.training.data.renderer import ChatRenderer
from tests.support.training_runs import changed, trace
from tests.training.conftest import MakeTokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TRACE = trace("abc-0", "How many?", "  Let me see.\n\nTwo and two.\n", "It is 4.\n")
PROMPT = (
    "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n"
    "<|im_start|>user\nHow many?<|im_end|>\n"
    "<|im_start|>assistant\n"
)
RESPONSE = "<|im_start|>think\nLet me see.\n\nTwo and two.\n<|im_start|>answer\nAnswer: It is 4.<|im_end|>\n"


@pytest.fixture(scope="module")
def renderer(tokenizer: PreTrainedTokenizerBase) -> ChatRenderer:
    return ChatRenderer(tokenizer, ThinkingFormat.preset("s1"))


def build(renderer: ChatRenderer, max_length: int = 1000, **changes: str) -> tuple[list[Example], list[Unusable]]:
    return build_examples([changed(TRACE, **changes)], renderer, max_length)


def test_the_text_is_s1s_and_the_loss_is_on_the_whole_assistant_turn(
    renderer: ChatRenderer, tokenizer: PreTrainedTokenizerBase
) -> None:
    (example,), unusable = build(renderer)
    assert unusable == []
    assert tokenizer.decode(example.input_ids) == PROMPT + RESPONSE
    trained = [token for token, mask in zip(example.input_ids, example.loss_mask, strict=True) if mask]
    assert tokenizer.decode(trained) == RESPONSE
    assert example.loss_mask == sorted(example.loss_mask)


def test_end_of_turn_is_trained_although_it_is_the_padding_token_too(
    renderer: ChatRenderer, tokenizer: PreTrainedTokenizerBase
) -> None:
    (example,), _ = build(renderer)
    assert tokenizer.pad_token_id == tokenizer.eos_token_id
    ends = [i for i, token in enumerate(example.input_ids) if token == tokenizer.eos_token_id]
    assert [example.loss_mask[i] for i in ends] == [False, False, True]


def test_prompt_and_response_tokenised_apart_equal_the_whole_text(
    renderer: ChatRenderer, tokenizer: PreTrainedTokenizerBase
) -> None:
    (example,), _ = build(renderer)
    assert example.input_ids == tokenizer(PROMPT + RESPONSE, add_special_tokens=False)["input_ids"]


def test_an_answer_that_says_answer_gets_no_second_prefix(
    renderer: ChatRenderer, tokenizer: PreTrainedTokenizerBase
) -> None:
    (example,), _ = build(renderer, attempt="So the Answer: 4")
    assert "<|im_start|>answer\nSo the Answer: 4<|im_end|>" in tokenizer.decode(example.input_ids)


def test_a_row_is_never_cut_but_reported_with_its_id(renderer: ChatRenderer) -> None:
    (example,), _ = build(renderer)
    length = len(example.input_ids)
    assert build(renderer, max_length=length)[0] == [example]
    examples, (row,) = build(renderer, max_length=length - 1)
    assert examples == []
    assert (row.id, row.reason) == ("abc-0", "too_long")
    assert str(length) in row.detail
    assert str(length - 1) in row.detail


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"finish_reason": "length"}, "cut_by_teacher"),
        ({"thinking": " \n"}, "no_thinking"),
        ({"attempt": ""}, "no_answer"),
        ({"thinking": "so <|im_start|>answer\n4"}, "delimiter_in_text"),
        ({"attempt": "4<|im_end|>"}, "delimiter_in_text"),
        ({"question": "What does <|im_start|> do?"}, "delimiter_in_text"),
    ],
)
def test_rows_that_cannot_be_trained_on_whole_are_named(
    renderer: ChatRenderer, changes: dict[str, str], reason: str
) -> None:
    examples, (row,) = build(renderer, 1000, **changes)
    assert examples == []
    assert (row.id, row.reason) == ("abc-0", reason)


def test_examples_keep_the_order_of_the_traces(renderer: ChatRenderer) -> None:
    traces = [changed(TRACE, id=str(i), attempt="" if i % 7 == 0 else "4") for i in range(600)]
    examples, unusable = build_examples(traces, renderer, 1000)
    assert [example.id for example in examples] == [str(i) for i in range(600) if i % 7]
    assert [row.id for row in unusable] == [str(i) for i in range(0, 600, 7)]
    text = explain(UnusableRows(unusable))
    assert "86 unusable row(s): 86 no_answer" in text
    assert "... and 76 more" in text


DEEPSEEK_TEMPLATE = (
    "{%- for message in messages -%}"
    "{%- if message.role == 'user' -%}{{- '<User>' + message.content -}}{%- else -%}"
    "{{- '<Assistant>' + message.content.split('</think>')[-1] + '<eos>' -}}{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<Assistant><think>\\n' -}}{%- endif -%}"
)


def test_thinking_that_the_template_has_opened_is_not_trained_to_open_again(make_tokenizer: MakeTokenizer) -> None:
    tokenizer = make_tokenizer(["<eos>", "<think>", "</think>", "<User>", "<Assistant>"], DEEPSEEK_TEMPLATE)
    text = ChatRenderer(tokenizer, ThinkingFormat.preset("deepseek_r1")).render("Q", "hm", "4")
    assert text.prompt == "<User>Q<Assistant><think>\n"
    assert text.response == "hm\n</think>\n\n4<eos>"


def test_a_template_without_end_of_turn_is_refused(make_tokenizer: MakeTokenizer) -> None:
    template = (
        "{% for m in messages %}{{ m.role + ': ' + m.content }}{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    tokenizer = make_tokenizer(["<|im_end|>", "<|im_start|>"], template)
    with pytest.raises(ValueError, match="no end-of-turn token"):
        ChatRenderer(tokenizer, ThinkingFormat.preset("s1"))


def test_a_tokenizer_without_chat_template_is_refused(make_tokenizer: MakeTokenizer) -> None:
    with pytest.raises(ValueError, match="has no chat template"):
        ChatRenderer(make_tokenizer(["<|im_end|>", "<|im_start|>"], None), ThinkingFormat.preset("s1"))


STEPPED = changed(TRACE, thinking="One.\n\nTwo,\nstill two.\n\n \n\nThree.\n", attempt="4")


def rendered(tokenizer: PreTrainedTokenizerBase, control: Control, trace: Trace, name: str = "s1") -> tuple[str, str]:
    renderer = ChatRenderer(tokenizer, ThinkingFormat.preset(name), control)
    (example,), _ = build_examples([trace], renderer, 1000)
    first = example.loss_mask.index(True)
    assert all(example.loss_mask[first:])
    return tokenizer.decode(example.input_ids[:first]), tokenizer.decode(example.input_ids[first:])


def test_token_conditional_control_asks_for_the_next_power_of_two(tokenizer: PreTrainedTokenizerBase) -> None:
    prompt, response = rendered(tokenizer, "token", STEPPED)
    length = len(STEPPED.thinking.strip())  # in this tokenizer a character is a token
    assert 16 < length <= 32
    assert prompt == PROMPT.replace("How many?", "How many?\n\nThink for up to 32 tokens.")
    assert response == f"<|im_start|>think\n{STEPPED.thinking.strip()}\n<|im_start|>answer\nAnswer: 4<|im_end|>\n"


def test_step_conditional_control_counts_down_and_has_no_think_block(tokenizer: PreTrainedTokenizerBase) -> None:
    prompt, response = rendered(tokenizer, "step", STEPPED)
    assert prompt == PROMPT.replace("How many?", "How many?\n\nThink for up to 4 steps.")
    assert response == (
        "<|im_start|>4 steps left\nOne.\n<|im_start|>3 steps left\nTwo,\nstill two.\n<|im_start|>2 steps left\nThree.\n"
        "<|im_start|>answer\nAnswer: 4<|im_end|>\n"
    )


@pytest.mark.parametrize(("length", "bound"), [(1, 1), (2, 2), (3, 4), (4, 4), (5, 8), (1024, 1024), (1025, 2048)])
def test_lengths_are_rounded_up_to_powers_of_two(length: int, bound: int) -> None:
    assert upper_bound(length) == bound


def test_steps_need_delimiters_that_share_a_control_token(make_tokenizer: MakeTokenizer) -> None:
    tokenizer = make_tokenizer(["<eos>", "<think>", "</think>", "<User>", "<Assistant>"], DEEPSEEK_TEMPLATE)
    with pytest.raises(ValueError, match=r"'deepseek_r1'.*no common control token"):
        ChatRenderer(tokenizer, ThinkingFormat.preset("deepseek_r1"), "step")
    # The thinking is opened in the prompt, where the steps would have to begin.
    prompt, response = rendered(tokenizer, "token", TRACE, "deepseek_r1")
    assert prompt == "<User>How many?\n\nThink for up to 32 tokens.<Assistant><think>\n"
    assert response.startswith("Let me see.")


LLAMA_TEMPLATE = (
    "{{- '<|begin_of_text|>' -}}"
    "{%- for message in messages -%}"
    "{{- '<|start_header_id|>' + message.role + '<|end_header_id|>\\n\\n' + message.content | trim + '<|eot_id|>' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' -}}{%- endif -%}"
)


def test_another_family_needs_no_more_than_four_strings(make_tokenizer: MakeTokenizer) -> None:
    reserved = "<|reserved_special_token_0|>"
    special = ["<|eot_id|>", "<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", reserved]
    tokenizer = make_tokenizer(special, LLAMA_TEMPLATE)
    llama = ThinkingFormat(
        name="llama",
        start=f"{reserved}think",
        end=f"{reserved}answer",
        end_triggers=(reserved, "<|eot_id|>"),
        answer_prefix="Answer: ",
    )
    text = ChatRenderer(tokenizer, llama).render("How many?", "Two\n", " 4")
    header = "<|start_header_id|>{}<|end_header_id|>\n\n"
    assert text.prompt == f"<|begin_of_text|>{header.format('user')}How many?<|eot_id|>{header.format('assistant')}"
    assert text.response == f"{reserved}think\nTwo\n{reserved}answer\nAnswer:  4<|eot_id|>"
    assert ChatRenderer(tokenizer, llama, "step").render("Q", "a\n\nb", "4").response == (
        f"{reserved}2 steps left\na\n{reserved}1 steps left\nb\n{reserved}answer\nAnswer: 4<|eot_id|>"
    )
