"""The scripted engine, which doubles as a check of the request type and of the counting from ids."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from s1ray.generation import GenerationError, GenerationRequest
from s1ray.generation.scripted import Script, ScriptedGenerator
from s1ray.schemas import Completion
from s1ray.thinking import ThinkingBudget, ThinkingFormat


class WordTokenizer:
    """A tokenizer of whole words, for formats whose delimiters are words of their own."""

    name_or_path = "words"

    def __init__(self, words: list[str]) -> None:
        self.words = words
        self.eos_token_id = 0

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        ids, rest = [], text
        while rest:
            word = max((w for w in self.words if rest.startswith(w)), key=len)
            ids.append(self.words.index(word))
            rest = rest[len(word) :]
        return ids

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool) -> str:
        special = set(self.get_added_vocab().values()) if skip_special_tokens else set()
        return "".join(self.words[i] for i in token_ids if i not in special)

    def convert_ids_to_tokens(self, ids: Sequence[int]) -> list[str | None]:
        return [self.words[i] for i in ids]

    def get_added_vocab(self) -> dict[str, int]:
        return {word: i for i, word in enumerate(self.words) if word.startswith("<")}

    def __len__(self) -> int:
        return len(self.words)


TOKENIZER = WordTokenizer(["<eos>", "<think>", "</think>", "\n", "\n\n", "Wait", "step ", "4", "Final Answer:", "Q"])
TOKENIZED = ThinkingFormat.preset("qwen3").resolve(TOKENIZER)
STEP, END, EOS, FOUR = 6, 2, 0, 7


def steps_then_stop(steps: int) -> Script:
    """Thinks `steps` steps, tries to stop, and after a wait one step later again; answers "4"."""

    def script(request: GenerationRequest, output: Sequence[int]) -> Sequence[int]:
        output = list(output)
        if END in output:
            return [EOS] if FOUR in output[output.index(END) :] else [FOUR]
        since = output[len(output) - 1 - output[::-1].index(5) :] if 5 in output else output
        return [STEP, EOS] if since.count(STEP) < (1 if 5 in output else steps) else [END, STEP]

    return script


def complete(budget: ThinkingBudget | None, *, steps: int = 3, **request: Any) -> Completion:
    generator = ScriptedGenerator(TOKENIZED, steps_then_stop(steps), eos_token_id=EOS)
    return asyncio.run(generator.complete(GenerationRequest(id="q", prompt_ids=[9], budget=budget, **request)))


def test_without_a_budget_nothing_is_forced() -> None:
    row = complete(None)
    assert (row.thinking, row.thinking_tokens, row.waits, row.end_forced) == ("", 0, 0, None)


def test_a_free_thinking_ends_by_itself() -> None:
    row = complete(ThinkingBudget())
    assert (row.thinking, row.answer, row.finish_reason) == ("step step step ", "4", "stop")
    assert (row.prompt_tokens, row.thinking_tokens, row.answer_tokens) == (1, 3, 2)
    assert row.output_ids == [1, STEP, STEP, STEP, END, FOUR, EOS]


def test_the_maximum_cuts_and_asks_for_the_final_answer() -> None:
    row = complete(ThinkingBudget(max_tokens=2))
    assert (row.thinking, row.answer) == ("step step ", "Final Answer:4")
    assert (row.thinking_tokens, row.end_forced) == (2, "budget")


def test_waits_lengthen_the_thinking() -> None:
    row = complete(ThinkingBudget(waits=2))
    assert row.thinking == "step step step Waitstep Waitstep "
    assert (row.waits, row.thinking_tokens) == (2, 7)


def test_a_response_that_runs_out_of_tokens_says_so() -> None:
    row = complete(ThinkingBudget(answer_reserve=0), steps=9, max_tokens=7)
    assert (row.finish_reason, row.thinking, row.answer) == ("length", "step ", "Final Answer:4")
    assert row.end_forced == "context"


def test_a_prompt_that_fills_the_context_is_an_error() -> None:
    generator = ScriptedGenerator(TOKENIZED, steps_then_stop(1), eos_token_id=EOS, context=1)
    with pytest.raises(GenerationError, match="no room"):
        asyncio.run(generator.complete(GenerationRequest(id="q", prompt_ids=[9])))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "either messages or prompt_ids"),
        ({"messages": [], "prompt_ids": [1]}, "either messages or prompt_ids"),
        ({"prompt_ids": []}, "prompt_ids is empty"),
        ({"prompt_ids": [1], "max_tokens": 0}, "max_tokens"),
    ],
)
def test_requests_that_make_no_sense_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GenerationRequest(id="q", **fields)
