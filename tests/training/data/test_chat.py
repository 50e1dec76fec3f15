"""Chat templates are judged by the text that they write: what could not be served as it was trained is refused."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from s1ray.errors import InputError
from s1ray.thinking.format import ThinkingFormat
from s1ray.training.data.examples import build_examples
from s1ray.training.data.renderer import ChatRenderer
from tests.support.training_runs import trace
from tests.training.conftest import QWEN_TEMPLATE, MakeTokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SPECIAL = ["<|im_end|>", "<|im_start|>", "<|endoftext|>", "<think>", "</think>"]
TURNS = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
HEADER = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
OPENED = "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"


Renders = Callable[..., ChatRenderer]


@pytest.fixture(scope="module")
def renders(make_tokenizer: MakeTokenizer) -> Renders:
    def make(template: str, fmt: str = "s1", system_prompt: str | None = None) -> ChatRenderer:
        tokenizer = make_tokenizer([*SPECIAL, "<eos>"], template)
        return ChatRenderer(tokenizer, ThinkingFormat.preset(fmt), system_prompt=system_prompt)

    return make


@pytest.mark.parametrize(
    ("template", "fmt", "why"),
    [
        (TURNS + OPENED, "s1", r"opens the assistant's turn with .*<think>.*thinking format 's1' opens it with"),
        (TURNS + OPENED.replace("<think>", "<thought>"), "qwen3", "opens the assistant's turn with .*<thought>"),
        (TURNS + OPENED.replace("<think>\n", "</think>"), "qwen3", "opens the assistant's turn with .*</think>"),
        (TURNS + OPENED.replace("<think>", "<think>\n\n</think>"), "qwen3", "opens the assistant's turn with"),
        (TURNS + "<|im_start|>assistant\n<think>\n", "s1", "opens the assistant's turn with"),
        (TURNS, "s1", r"ignores add_generation_prompt: '<\|im_start\|>assistant'"),
        (TURNS + HEADER.replace("assistant", "model"), "s1", "opens a turn that the model writes with"),
        (TURNS.replace("{{ m.content }}", "{{ m.content }}{{ m.content }}") + HEADER, "s1", "text 2 times"),
        (TURNS.replace("{{ m.content }}", "{{ m.role }}") + HEADER, "s1", "user's text 0 times"),
        (TURNS.replace("{{ m.content }}", "{{ m.content | upper }}") + HEADER, "s1", "user's text 0 times"),
        (
            TURNS.replace("{{ m.content }}", "{{ m.content if m.role == 'user' else '' }}") + HEADER,
            "s1",
            "leaves out the assistant's message",
        ),
        (TURNS.replace("<|im_end|>", "") + HEADER, "s1", "no end-of-turn token"),
        (TURNS + "<|im_start|>assistant\n", "s1", "ignores add_generation_prompt: it opens a turn"),
        (TURNS.replace("{{ m.content }}", "[{{ m.content }}") + HEADER, "s1", "writes '\\[' before the assistant's"),
    ],
)
def test_what_could_not_be_served_as_trained_is_refused(renders: Renders, template: str, fmt: str, why: str) -> None:
    with pytest.raises(InputError, match=why):
        renders(template, fmt)


def test_the_thinking_that_the_template_opens_is_the_prompts(renders: Renders) -> None:
    text = renders(TURNS + OPENED, "qwen3").render("Q", "hm", "4")
    assert text.prompt == "<|im_start|>user\nQ<|im_end|>\n<|im_start|>assistant\n<think>\n"
    assert text.response == "hm\n</think>\n\n4<|im_end|>\n"


def test_an_empty_thinking_in_the_history_is_no_matter(renders: Renders) -> None:
    """Qwen3's template puts one into turns that it is given without thinking."""
    shown = "{% if m.role == 'assistant' %}<think>\n\n</think>\n\n{% endif %}{{ m.content }}"
    text = renders(TURNS.replace("{{ m.content }}", shown) + HEADER, "qwen3").render("Q", "hm", "4")
    assert text.prompt.endswith("<|im_start|>assistant\n")
    assert text.response == "<think>\nhm\n</think>\n\n4<|im_end|>\n"


@pytest.mark.parametrize("beyond", ["<|endoftext|>", "\n", "Knowledge ends here."])
def test_what_follows_the_end_of_the_last_turn_is_no_part_of_a_row(renders: Renders, beyond: str) -> None:
    last = "{% if not add_generation_prompt %}" + beyond.replace("\n", "{{ '\\n' }}") + "{% endif %}"
    assert renders(TURNS + last + HEADER).turn_end == "<|im_end|>\n"


def test_a_line_break_that_only_the_next_turn_brings_is_not_trained(renders: Renders) -> None:
    between = "{% for m in messages %}{% if not loop.first %}{{ '\\n' }}{% endif %}"
    template = TURNS.replace("{% for m in messages %}", between).replace("<|im_end|>\n", "<|im_end|>")
    assert renders(template + HEADER.replace("<|im_start|>", "{{ '\\n' }}<|im_start|>")).turn_end == "<|im_end|>"


def test_a_template_that_needs_no_header_is_taken(make_tokenizer: MakeTokenizer) -> None:
    """Mistral's: the user's turn ends where the assistant's begins, with or without add_generation_prompt."""
    template = (
        "{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }}[/INST]{% else %} {{ m.content }}</s>"
        "{% endif %}{% endfor %}"
    )
    tokenizer = make_tokenizer(["</s>", "[INST]", "[/INST]", "<think>", "</think>"], template)
    text = ChatRenderer(tokenizer, ThinkingFormat.preset("deepseek_r1")).render("Q", "hm", "4")
    assert text.prompt == "[INST] Q[/INST]"
    assert text.response == "<think>\nhm\n</think>\n\n4</s>"


def test_the_answers_channel_may_be_the_formats_end(make_tokenizer: MakeTokenizer) -> None:
    """In the manner of gpt-oss: thinking and answer are channels of the turn."""
    template = (
        "{% for m in messages %}<|start|>{{ m.role }}{% if m.role == 'assistant' %}<|channel|>final{% endif %}"
        "<|message|>{{ m.content }}{{ '<|return|>' if m.role == 'assistant' else '<|end|>' }}{% endfor %}"
        "{% if add_generation_prompt %}<|start|>assistant{% endif %}"
    )
    special = ["<|return|>", "<|start|>", "<|channel|>", "<|message|>", "<|end|>"]
    fmt = ThinkingFormat(
        name="harmony",
        start="<|channel|>analysis<|message|>",
        end="<|end|><|start|>assistant<|channel|>final<|message|>",
        answer_separator="",
    )
    text = ChatRenderer(make_tokenizer(special, template), fmt).render("Q", "hm", "4")
    assert text.prompt == "<|start|>user<|message|>Q<|end|><|start|>assistant"
    assert text.response == f"{fmt.start}\nhm\n{fmt.end}4<|return|>"


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ("{{ raise_exception('Only two roles are known') }}", "Only two roles are known"),
        ("{{ messages[0].content.nothing.at_all }}", "has no attribute 'nothing'"),
        ("{{ 1 / 0 }}", "division by zero"),
        ("{% if %}", "Expected an expression"),
    ],
)
def test_errors_of_a_template_are_one_line_that_names_it(renders: Renders, broken: str, said: str) -> None:
    with pytest.raises(InputError, match=r"the chat template of .* cannot render a conversation of user: ") as raised:
        renders(broken + TURNS + HEADER)
    assert said in str(raised.value)
    assert "give a tokenizer with another template" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_system_prompt_replaces_the_templates_own(tokenizer: PreTrainedTokenizerBase) -> None:
    renderer = ChatRenderer(tokenizer, ThinkingFormat.preset("s1"), system_prompt="Count.")
    assert renderer.render("Q", "hm", "4").prompt == (
        "<|im_start|>system\nCount.<|im_end|>\n<|im_start|>user\nQ<|im_end|>\n<|im_start|>assistant\n"
    )


def test_a_system_prompt_that_the_template_leaves_out_or_refuses_is_refused(renders: Renders) -> None:
    without = "{% set messages = messages | rejectattr('role', 'equalto', 'system') | list %}"
    with pytest.raises(InputError, match="leaves out the system prompt"):
        renders(without + TURNS + HEADER, system_prompt="Count.")
    refusing = "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    with pytest.raises(InputError, match="conversation of system, user: System role not supported"):
        renders(refusing + TURNS + HEADER, system_prompt="Count.")


DATED = "<|im_start|>system\nToday is {{ strftime_now('%d %B %Y') }}.<|im_end|>\n" + QWEN_TEMPLATE.replace(
    "messages[0]['role'] != 'system'", "false"
)


def test_a_template_writes_the_date_that_it_is_told(make_tokenizer: MakeTokenizer) -> None:
    tokenizer = make_tokenizer(SPECIAL, DATED)
    renderer = ChatRenderer(tokenizer, ThinkingFormat.preset("s1"), date=datetime.date(2025, 2, 3))
    assert "Today is 03 February 2025." in renderer.render("Q", "hm", "4").prompt
    assert renderer.template.uses_date


def test_a_date_that_cannot_be_fixed_is_refused(renders: Renders) -> None:
    with pytest.raises(InputError, match="computes the format of the date"):
        renders("{% set form = '%Y' %}{{ strftime_now(form) }}" + TURNS + HEADER)


def test_a_template_without_date_asks_for_none(tokenizer: PreTrainedTokenizerBase) -> None:
    assert not ChatRenderer(tokenizer, ThinkingFormat.preset("s1")).template.uses_date


@pytest.mark.parametrize("filter_", ["replace('B', 'd')", "trim | truncate(30, true)", "lower"])
def test_a_row_whose_text_the_template_alters_is_unusable(renders: Renders, filter_: str) -> None:
    renderer = renders(TURNS.replace("{{ m.content }}", "{{ m.content | " + filter_ + " }}") + HEADER)
    rows = [trace("short", "s1", "hm", "4"), trace("long", "What is a Big number that is not so Big?", "hm", "4")]
    examples, (unusable,) = build_examples(rows, renderer, 1000)
    assert [example.id for example in examples] == ["short"]
    assert (unusable.id, unusable.reason) == ("long", "altered_by_template")
