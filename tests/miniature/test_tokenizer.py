"""The tokenizer: special tokens, single digits, round trips; training it again gives the shipped one."""

from __future__ import annotations

import json
import string
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from s1ray.miniature import BASE_MODEL_DIR
from s1ray.miniature.tokenizer import join_spaces_last, save_tokenizer, train_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

SPACE = "\u0120"
"""How byte-level BPE writes a space."""


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(BASE_MODEL_DIR)


def test_special_tokens_are_qwens(tokenizer: PreTrainedTokenizerFast) -> None:
    assert tokenizer.eos_token == "<|im_end|>"
    assert tokenizer.pad_token == "<|fim_pad|>"
    for token in ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|fim_pad|>"):
        ids = tokenizer(token)["input_ids"]
        assert len(ids) == 1
        assert ids[0] in tokenizer.all_special_ids


@pytest.mark.parametrize("word", ["think", "answer", "Wait", "Hmm", "Alternatively", "Final", " Answer", "\n"])
def test_words_that_are_forced_are_single_tokens(tokenizer: PreTrainedTokenizerFast, word: str) -> None:
    assert len(tokenizer(word)["input_ids"]) == 1


def test_digits_are_always_single_tokens(tokenizer: PreTrainedTokenizerFast) -> None:
    tokens = tokenizer.convert_ids_to_tokens(tokenizer("2024+7=2031, 10110 is 22")["input_ids"])
    assert all(len(token) == 1 for token in tokens if any(character.isdigit() for character in token))


@given(text=st.text())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_survives_a_round_trip_up_to_unicode_normalization(
    tokenizer: PreTrainedTokenizerFast, text: str
) -> None:
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == unicodedata.normalize("NFC", text)


@given(text=st.text())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_transformers_reads_the_file_as_it_stands(tokenizer: PreTrainedTokenizerFast, text: str) -> None:
    """Version 5 replaces parts of a Qwen2 tokenizer by its own: they must be the same as ours."""
    raw = Tokenizer.from_file(str(BASE_MODEL_DIR / "tokenizer.json"))
    assert tokenizer(text)["input_ids"] == raw.encode(text).ids


def test_a_letter_is_the_same_token_in_question_and_working(tokenizer: PreTrainedTokenizerFast) -> None:
    for letter in string.ascii_uppercase:
        ids = [tokenizer(text)["input_ids"] for text in (f"{letter}>", f" {letter}>", f":{letter}>", f"\n{letter}>")]
        assert all(found[-2:] == ids[0] for found in ids)


def test_words_merge_with_the_space_before_them_last() -> None:
    vocabulary = {"S": 0, "e": 1, "t": 2, SPACE: 3, SPACE + "S": 4, "et": 5, SPACE + "Set": 6}
    ids, merges = join_spaces_last(vocabulary, [(SPACE, "S"), ("e", "t"), (SPACE + "S", "et")])
    assert merges == [("e", "t"), ("S", "et"), (SPACE, "Set")]
    assert ids == {"S": 0, "e": 1, "t": 2, SPACE: 3, "Set": 4, "et": 5, SPACE + "Set": 6}


def test_the_chat_template_is_chatml_without_a_default_system_prompt(tokenizer: PreTrainedTokenizerFast) -> None:
    turns = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "So"},
        {"role": "user", "content": "A"},
    ]
    text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    assert text == (
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nSo<|im_end|>\n"
        "<|im_start|>user\nA<|im_end|>\n<|im_start|>assistant\n"
    )
    system = [{"role": "system", "content": "Be brief."}, *turns[:1]]
    assert tokenizer.apply_chat_template(system, tokenize=False).startswith("<|im_start|>system\nBe brief.<|im_end|>\n")


def test_training_again_gives_the_shipped_tokenizer(tmp_path: Path) -> None:
    seed = json.loads((BASE_MODEL_DIR / "TRAINING.json").read_text())["recipe"]["seed"]
    save_tokenizer(train_tokenizer(seed), tmp_path)
    assert (tmp_path / "tokenizer.json").read_bytes() == (BASE_MODEL_DIR / "tokenizer.json").read_bytes()
