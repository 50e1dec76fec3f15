"""The parsers as vLLM's server uses them: through its own DelegatingParser, streaming and not."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vllm.parser.parser_manager import ParserManager
from vllm.reasoning import ReasoningParserManager

from s1ray.thinking import ThinkingFormat, account_unforced
from s1ray.thinking.format import PRESETS
from s1ray.thinking.vllm.reasoning_parser import parser_name, plugin_file, register
from tests.thinking.test_format import ByteLevel

TOKENIZER = ByteLevel("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>")
REQUEST = SimpleNamespace(tools=None, tool_choice="none", include_reasoning=True)


def encode(text: str) -> list[int]:
    return TOKENIZER.encode(text, add_special_tokens=False)


def parser(name: str) -> Any:
    return ParserManager.get_parser(reasoning_parser_name=name)(TOKENIZER)


def whole(name: str, prompt: str, text: str) -> tuple[str, str]:
    made = parser(name)
    made.is_reasoning_end(encode(prompt))
    reasoning, content, _ = made.parse(text, REQUEST)
    return reasoning or "", content or ""


def stream(name: str, prompt: str, chunks: list[str], prompt_checked: bool = True) -> tuple[str, str]:
    made = parser(name)
    thinking = answer = ""
    for i, chunk in enumerate(chunks):
        delta = made.parse_delta(
            chunk, encode(chunk), REQUEST, encode(prompt) if prompt_checked else None, finished=i == len(chunks) - 1
        )
        if delta is not None:
            thinking, answer = thinking + (delta.reasoning or ""), answer + (delta.content or "")
    return thinking, answer


def pieces(text: str, seed: int) -> list[str]:
    rng, cuts = random.Random(seed), []
    while text:
        size = rng.choice([1, 1, 2, 3, 9])
        cuts.append(text[:size])
        text = text[size:]
    return cuts or [""]


OPENING = {"s1": "<|im_start|>assistant\n<|im_start|>think", "qwen3": "<|im_start|>assistant\n<think>"}
parts = st.lists(
    st.sampled_from(["a", " b", "\n", "\n\n", "<", "<|im", "</", "th", "<|im_start|>", "answer", "</think>", "?"]),
    max_size=8,
).map("".join)


@pytest.mark.parametrize("name", ["s1", "qwen3"])
@given(thinking=parts, answer=parts, opened=st.booleans(), cut=st.integers(0, 60), seed=st.integers(0, 99))
@settings(max_examples=150, deadline=None)
def test_a_stream_gives_what_the_whole_response_gives(
    name: str, thinking: str, answer: str, opened: bool, cut: Any, seed: int
) -> None:
    fmt = PRESETS[name]
    text = f"{'' if opened else fmt.start}\n{thinking}\n{fmt.end}\n{answer}"[: cut if cut < 50 else None]
    prompt = OPENING[name] if opened else "<|im_start|>assistant\n"
    assert stream(parser_name(fmt), prompt, pieces(text, seed)) == whole(parser_name(fmt), prompt, text)


@pytest.mark.parametrize(
    ("prompt", "text", "thinking", "answer"),
    [
        ("<|im_start|>assistant\n", "<|im_start|>think\nT\n<|im_start|>answer\nA", "T", "A"),
        (OPENING["s1"], "\nT\n<|im_start|>answer\nFinal Answer: A", "T", "Final Answer: A"),
        (OPENING["s1"], "\nstill thinking\n<|im", "still thinking\n<|im", ""),
        ("<|im_start|>assistant\n", "plain answer", "", "plain answer"),
        ("<|im_start|>assistant\n<|im_start|>answer\n", "A", "", "A"),
        ("<|im_start|>assistant\n", "<|im_start|>think\n\n<|im_start|>answer\nA", "", "A"),
    ],
)
def test_s1_is_split_wherever_the_thinking_was_opened(prompt: str, text: str, thinking: str, answer: str) -> None:
    assert whole("s1ray_s1", prompt, text) == (thinking, answer)
    assert stream("s1ray_s1", prompt, list(text)) == (thinking, answer)


def test_delimiters_stay_in_the_text_that_the_parser_reads() -> None:
    request = SimpleNamespace(skip_special_tokens=True, spaces_between_special_tokens=True)
    adjusted = parser("s1ray_s1").reasoning_parser.adjust_request(request)
    assert (adjusted.skip_special_tokens, adjusted.spaces_between_special_tokens) == (False, False)


@given(thinking=parts, answer=parts, opened=st.booleans())
@settings(max_examples=80, deadline=None)
def test_reasoning_tokens_are_counted_from_ids_in_streams_too(thinking: str, answer: str, opened: bool) -> None:
    fmt = PRESETS["s1"]
    prompt = encode(OPENING["s1"] if opened else "<|im_start|>assistant\n")
    ids = encode(f"{'' if opened else fmt.start}\n{thinking}\n{fmt.end}\n{answer}")
    expected = account_unforced(fmt.resolve(TOKENIZER), prompt, ids).thinking_tokens
    made = parser("s1ray_s1")
    made.is_reasoning_end(prompt)
    assert made.count_reasoning_tokens(ids) == expected
    streamed = parser("s1ray_s1")
    counts = []
    for i in range(len(ids)):
        piece = TOKENIZER.decode([ids[i]], skip_special_tokens=False)
        streamed.parse_delta(piece, [ids[i]], REQUEST, prompt, finished=False)
        counts.append(streamed.count_reasoning_tokens(tuple(ids[: i + 1])))
    assert counts == sorted(counts)
    assert not counts or counts[-1] == expected


def test_the_end_is_seen_by_its_ids() -> None:
    reasoning = parser("s1ray_s1").reasoning_parser
    ids = encode("<|im_start|>think\nT\n<|im_start|>answer\nA")
    at = len(encode("<|im_start|>think\nT\n<|im_start|>answer"))
    seen = [reasoning.is_reasoning_end_streaming(ids[:i], ids[i - 1 : i]) for i in range(1, len(ids) + 1)]
    assert seen.index(True) == at - 1
    assert seen.count(True) == 1
    assert reasoning.is_reasoning_end_streaming(ids, ids[2:])
    assert reasoning.extract_content_ids(ids) == ids[at:]


def test_a_custom_format_gets_a_parser_and_a_plugin_for_the_engines_process(monkeypatch: pytest.MonkeyPatch) -> None:
    fmt = ThinkingFormat(name="mine", start="<think>", end="</think>", end_triggers=("<|im_end|>",))
    assert register(fmt) == "s1ray_mine"
    assert whole("s1ray_mine", "", "<think>T</think>A") == ("T", "A")
    # The engine's process has never heard of it, and imports the plugin.
    monkeypatch.delitem(ReasoningParserManager.reasoning_parsers, "s1ray_mine")
    ReasoningParserManager.import_reasoning_parser(plugin_file(fmt))
    assert ReasoningParserManager.get_reasoning_parser("s1ray_mine").thinking_format == fmt


def test_presets_need_no_file_of_their_own() -> None:
    assert plugin_file(PRESETS["s1"]).endswith("reasoning_parser.py")
