"""Conversations of several turns, with tools: each thinking turn is trained as it is written when it is served."""

from __future__ import annotations

import dataclasses
import itertools

import pytest

from s1ray.errors import InputError
from s1ray.thinking.format import ThinkingFormat
from s1ray.training.data.conversations import Conversation, Message
from s1ray.training.data.examples import Tokenised, Unusable, tokenise
from s1ray.training.data.renderer import ChatRenderer, TrainOn
from tests.training.conftest import QWEN_TEMPLATE, MakeTokenizer

QWEN3_TEMPLATE = (
    "{%- set ns = namespace(last=0) -%}"
    "{%- for m in messages -%}{%- if m.role == 'user' -%}{%- set ns.last = loop.index0 -%}{%- endif -%}{%- endfor -%}"
    "{%- if tools -%}{{- '<|im_start|>system\\nTools: ' + (tools | tojson) + '<|im_end|>\\n' -}}{%- endif -%}"
    "{%- for m in messages -%}"
    "{%- set role = 'user' if m.role == 'tool' else m.role -%}"
    "{{- '<|im_start|>' + role + '\\n' -}}"
    "{%- if m.role == 'assistant' and m.reasoning_content and loop.index0 > ns.last -%}"
    "{{- '<think>\\n' + m.reasoning_content + '\\n</think>\\n\\n' -}}{%- endif -%}"
    "{%- if m.role == 'tool' -%}{{- '<tool_response>\\n' + m.content + '\\n</tool_response>' -}}"
    "{%- else -%}{{- m.content -}}{%- endif -%}"
    "{%- for call in m.tool_calls or [] -%}"
    "{%- if m.content or not loop.first -%}{{- '\\n' -}}{%- endif -%}"
    "{{- '<tool_call>\\n' + (call.function | tojson) + '\\n</tool_call>' -}}{%- endfor -%}"
    "{{- '<|im_end|>\\n' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"
)
"""What Qwen3's does: thinking stays in the history since the last question, and tools are in the system prompt."""
SPECIAL = ["<|im_end|>", "<|im_start|>", "<|endoftext|>", "<think>", "</think>", "<tool_call>", "</tool_call>"]
CALL = {"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}

CHAT = Conversation(
    "chat",
    "group",
    (
        Message("user", "one?"),
        Message("assistant", "1", "first"),
        Message("user", "two?"),
        Message("assistant", "2", "second"),
    ),
)
USE = Conversation(
    "use",
    "group",
    (
        Message("user", "one?"),
        Message("assistant", "", "call it", [CALL]),
        Message("tool", "1"),
        Message("assistant", "It is 1.", "so"),
    ),
    [{"type": "function", "function": {"name": "add"}}],
)


def shown(
    make_tokenizer: MakeTokenizer,
    conversation: Conversation,
    fmt: str = "qwen3",
    template: str = QWEN3_TEMPLATE,
    train_on: TrainOn = "all",
    system_prompt: str | None = None,
) -> list[str]:
    """The rows as text, with what is not trained in brackets; unusable ones as their reasons."""
    tokenizer = make_tokenizer(SPECIAL, template)
    renderer = ChatRenderer(tokenizer, ThinkingFormat.preset(fmt), train_on=train_on, system_prompt=system_prompt)
    texts = []
    for row in tokenise([conversation], renderer, 1000):
        if isinstance(row, Unusable):
            texts.append(row.reason)
            continue
        cuts = [0, *(i for i in range(1, len(row.ids)) if row.mask[i] != row.mask[i - 1]), len(row.ids)]
        parts = [(tokenizer.decode(row.ids[a:b]), row.mask[a]) for a, b in itertools.pairwise(cuts)]
        texts.append("".join(text if trained else f"[{text}]" for text, trained in parts))
    return texts


def test_a_turn_whose_thinking_the_history_drops_is_a_row_of_its_own(make_tokenizer: MakeTokenizer) -> None:
    assert shown(make_tokenizer, CHAT) == [
        "[<|im_start|>user\none?<|im_end|>\n<|im_start|>assistant\n]<think>\nfirst\n</think>\n\n1<|im_end|>\n",
        "[<|im_start|>user\none?<|im_end|>\n<|im_start|>assistant\n1<|im_end|>\n<|im_start|>user\ntwo?<|im_end|>\n"
        "<|im_start|>assistant\n]<think>\nsecond\n</think>\n\n2<|im_end|>\n",
    ]


def test_turns_whose_thinking_the_history_keeps_share_a_row(make_tokenizer: MakeTokenizer) -> None:
    assert shown(make_tokenizer, USE) == [
        '[<|im_start|>system\nTools: [{"type": "function", "function": {"name": "add"}}]<|im_end|>\n'
        "<|im_start|>user\none?<|im_end|>\n<|im_start|>assistant\n]"
        '<think>\ncall it\n</think>\n\n<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call><|im_end|>\n'
        "[<|im_start|>user\n<tool_response>\n1\n</tool_response><|im_end|>\n<|im_start|>assistant\n]"
        "<think>\nso\n</think>\n\nIt is 1.<|im_end|>\n"
    ]


def test_the_last_turn_alone_may_be_trained(make_tokenizer: MakeTokenizer) -> None:
    assert shown(make_tokenizer, CHAT, train_on="last") == shown(make_tokenizer, CHAT)[1:]


def test_under_s1_an_earlier_answer_stands_as_the_model_wrote_it(make_tokenizer: MakeTokenizer) -> None:
    rows = shown(make_tokenizer, CHAT, "s1", QWEN_TEMPLATE, system_prompt="Count.")
    system = "<|im_start|>system\nCount.<|im_end|>\n"
    assert rows == [
        f"[{system}<|im_start|>user\none?<|im_end|>\n<|im_start|>assistant\n]"
        "<|im_start|>think\nfirst\n<|im_start|>answer\nAnswer: 1<|im_end|>\n",
        f"[{system}<|im_start|>user\none?<|im_end|>\n<|im_start|>assistant\nAnswer: 1<|im_end|>\n"
        "<|im_start|>user\ntwo?<|im_end|>\n<|im_start|>assistant\n]"
        "<|im_start|>think\nsecond\n<|im_start|>answer\nAnswer: 2<|im_end|>\n",
    ]


def test_a_turn_without_thinking_is_history(make_tokenizer: MakeTokenizer) -> None:
    silent = dataclasses.replace(CHAT, messages=(CHAT.messages[0], Message("assistant", "1"), *CHAT.messages[2:]))
    assert shown(make_tokenizer, silent) == shown(make_tokenizer, CHAT)[1:]
    assert shown(make_tokenizer, dataclasses.replace(silent, messages=silent.messages[:2])) == ["no_thinking"]


def test_a_turn_that_is_not_to_be_trained_is_history(make_tokenizer: MakeTokenizer) -> None:
    untrained = [dataclasses.replace(m, trained=m.thinking != "first") for m in CHAT.messages]
    assert shown(make_tokenizer, dataclasses.replace(CHAT, messages=untrained)) == shown(make_tokenizer, CHAT)[1:]
    assert shown(make_tokenizer, dataclasses.replace(CHAT, messages=untrained[:2])) == ["not_trained"]


def test_a_rows_own_system_prompt_comes_before_the_configs(make_tokenizer: MakeTokenizer) -> None:
    own = dataclasses.replace(CHAT, messages=(Message("system", "Own."), *CHAT.messages))
    rows = shown(make_tokenizer, own, system_prompt="Config's.")
    assert all(row.startswith("[<|im_start|>system\nOwn.<|im_end|>\n<|im_start|>user") for row in rows)


@pytest.mark.parametrize(
    ("conversation", "reason"),
    [
        (dataclasses.replace(CHAT, messages=CHAT.messages[:1]), "no_answer"),
        (dataclasses.replace(CHAT, messages=CHAT.messages[1:2]), "no_answer"),
        (dataclasses.replace(CHAT, messages=(*CHAT.messages[:3], Message("assistant", " ", "t"))), "no_answer"),
        (dataclasses.replace(CHAT, cut=True), "cut_by_teacher"),
        (dataclasses.replace(USE, messages=(*USE.messages[:2], Message("tool", "<|im_end|>"))), "delimiter_in_text"),
        (dataclasses.replace(USE, tools=[{"name": "<think>"}]), "delimiter_in_text"),
        (
            dataclasses.replace(USE, messages=(*USE.messages[:2], Message("tool", others={"name": "<|im_end|>"}))),
            "delimiter_in_text",
        ),
    ],
)
def test_conversations_that_cannot_be_trained_on_are_named(
    make_tokenizer: MakeTokenizer, conversation: Conversation, reason: str
) -> None:
    assert shown(make_tokenizer, conversation) == [reason]


def test_a_conversation_that_the_template_refuses_is_unusable(make_tokenizer: MakeTokenizer) -> None:
    refusing = "{%- for m in messages if m.role == 'tool' -%}{{ raise_exception('No tools.') }}{%- endfor -%}"
    tokenizer = make_tokenizer(SPECIAL, refusing + QWEN3_TEMPLATE)
    renderer = ChatRenderer(tokenizer, ThinkingFormat.preset("qwen3"))
    (row,) = tokenise([USE], renderer, 1000)
    assert isinstance(row, Unusable)
    assert row.reason == "refused_by_template"
    assert "user, assistant, tool: No tools." in row.detail


def test_a_template_that_loses_a_users_text_makes_the_row_unusable(make_tokenizer: MakeTokenizer) -> None:
    losing = QWEN3_TEMPLATE.replace("{{- m.content -}}", "{{- m.content if loop.index0 != 2 else '' -}}")
    rows = shown(make_tokenizer, CHAT, template=losing)
    assert (len(rows), rows[-1]) == (1, "altered_by_template")


WITHOUT_CALLS = QWEN3_TEMPLATE.replace("for call in m.tool_calls or []", "for call in []")
WITHOUT_TOOLS = QWEN3_TEMPLATE.replace("(tools | tojson)", "'none'")
WITHOUT_RESULTS = QWEN3_TEMPLATE.replace("<tool_response>\\n' + m.content", "<tool_response>\\n'")
WITHOUT_ARGUMENTS = QWEN3_TEMPLATE.replace("(call.function | tojson)", "call.function.name")
WITHOUT_ANSWERS = QWEN3_TEMPLATE.replace("{{- m.content -}}", "{{- m.content if loop.last or m.role == 'user' -}}")
UNTHINKING = dataclasses.replace(
    USE, messages=(USE.messages[0], Message("assistant", "", "", [CALL]), *USE.messages[2:])
)


@pytest.mark.parametrize(
    ("template", "conversation", "why"),
    [
        (WITHOUT_CALLS, dataclasses.replace(USE, messages=USE.messages[:2]), "a call of the tool 'add'"),
        (WITHOUT_CALLS, UNTHINKING, "a call of the tool 'add'"),
        (WITHOUT_ARGUMENTS, dataclasses.replace(USE, messages=USE.messages[:2]), "or one of its arguments"),
        (WITHOUT_ARGUMENTS, UNTHINKING, "lacks"),
        (WITHOUT_TOOLS, USE, "lacks the definition of the tool 'add'"),
        (WITHOUT_RESULTS, USE, "lacks a text of the tool"),
        (WITHOUT_ANSWERS, CHAT, "lacks a text of the assistant"),
    ],
)
def test_what_a_template_loses_makes_the_row_unusable(
    make_tokenizer: MakeTokenizer, template: str, conversation: Conversation, why: str
) -> None:
    renderer = ChatRenderer(make_tokenizer(SPECIAL, template), ThinkingFormat.preset("qwen3"))
    (row,) = tokenise([conversation], renderer, 1000)
    assert isinstance(row, Unusable)
    assert row.reason == "altered_by_template"
    assert why in row.detail


PYTHON_QUOTED = (
    "call.function.name + '(deep=' + (call.function.arguments.deep | string) + ', empty={}, text=' + \"'\" + "
    "(call.function.arguments.text | replace('\\n', '\\\\n') | replace(\"'\", \"\\\\'\")) + \"')\""
)


@pytest.mark.parametrize(
    "written",
    [
        "(call.function | tojson(indent=2))",
        "(call.function | tojson(ensure_ascii=True) | tojson)",
        "call.function.name + (call.function.arguments | string)",
        "call.function.name + (call.function.arguments.items() | join(' '))",
        PYTHON_QUOTED,
    ],
)
def test_a_call_may_be_written_in_any_spelling(make_tokenizer: MakeTokenizer, written: str) -> None:
    arguments = {"text": 'é "<b>"\n it\'s', "deep": [{"n": 1.5, "yes": True, "none": None}], "empty": {}}
    called = {"type": "function", "function": {"name": "add", "arguments": arguments}}
    use = dataclasses.replace(USE, messages=(USE.messages[0], Message("assistant", "", "call it", [called])))
    template = QWEN3_TEMPLATE.replace("(call.function | tojson)", written)
    renderer = ChatRenderer(make_tokenizer(SPECIAL, template), ThinkingFormat.preset("qwen3"))
    (row,) = tokenise([use], renderer, 1000)
    assert isinstance(row, Tokenised)


def test_a_result_may_be_written_as_json(make_tokenizer: MakeTokenizer) -> None:
    use = dataclasses.replace(USE, messages=(*USE.messages[:2], Message("tool", '{"n": "\\"x"}'), USE.messages[3]))
    template = QWEN3_TEMPLATE.replace(
        "+ m.content + '\\n</tool_response>'", "+ (m.content | tojson) + '</tool_response>'"
    )
    assert template != QWEN3_TEMPLATE
    assert len(shown(make_tokenizer, use, template=template)[0]) > 100


def test_tokens_that_are_special_in_the_added_vocabulary_alone_are_no_text(make_tokenizer: MakeTokenizer) -> None:
    from tokenizers import AddedToken
    from transformers import PreTrainedTokenizerFast

    inner = make_tokenizer(SPECIAL, QWEN3_TEMPLATE).backend_tokenizer
    inner.add_special_tokens([AddedToken("<|python_tag|>", special=True)])
    inner.add_tokens([AddedToken("<|note|>", special=False)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<|im_end|>", chat_template=QWEN3_TEMPLATE)
    assert "<|python_tag|>" not in tokenizer.all_special_tokens
    renderer = ChatRenderer(tokenizer, ThinkingFormat.preset("qwen3"))
    reasons = []
    for said, thought in {"<|python_tag|>": "hm", "<|note|>": "hm", "the tool": "hm <tool_call>"}.items():
        chat = Conversation("id", "group", (Message("user", said), Message("assistant", "1", thought)))
        (row,) = tokenise([chat], renderer, 1000)
        reasons.append(row.reason if isinstance(row, Unusable) else "")
    assert reasons == ["delimiter_in_text", "", "delimiter_in_text"]
    with pytest.raises(InputError, match=r"system_prompt contains '<\|python_tag\|>'"):
        ChatRenderer(tokenizer, ThinkingFormat.preset("qwen3"), system_prompt="Use <|python_tag|>.")


def test_turns_that_are_too_long_are_named_by_their_number(make_tokenizer: MakeTokenizer) -> None:
    renderer = ChatRenderer(make_tokenizer(SPECIAL, QWEN3_TEMPLATE), ThinkingFormat.preset("qwen3"))
    long = dataclasses.replace(CHAT, messages=(*CHAT.messages[:3], Message("assistant", "2", "second" * 100)))
    first, second = tokenise([long], renderer, 300)
    assert isinstance(first, Tokenised)
    assert isinstance(second, Unusable)
    assert (first.id, second.id, second.reason) == ("chat", "chat/2", "too_long")


def test_conditional_control_takes_single_questions(make_tokenizer: MakeTokenizer) -> None:
    renderer = ChatRenderer(make_tokenizer(SPECIAL, QWEN3_TEMPLATE), ThinkingFormat.preset("qwen3"), "token")
    (row,) = tokenise([CHAT], renderer, 1000)
    assert isinstance(row, Unusable)
    assert row.reason == "several_turns"
