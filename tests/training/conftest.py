"""A tokenizer and a model small enough to be made on the spot, for the tests of training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.random_qwen import make_random_model

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MakeTokenizer = Callable[[list[str], str | None], "PreTrainedTokenizerBase"]

QWEN_TEMPLATE = (
    "{%- if messages[0]['role'] != 'system' -%}"
    "{{- '<|im_start|>system\\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\\n' -}}"
    "{%- endif -%}"
    "{%- for message in messages -%}"
    "{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"
)
"""What Qwen2.5's template does for conversations without tools."""


def _make_tokenizer(special_tokens: list[str], template: str | None) -> PreTrainedTokenizerBase:
    """Byte-level BPE without merges: every byte is a token, and so is every special token."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={byte: index for index, byte in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(special_tokens)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=special_tokens[0],
        pad_token=special_tokens[0],
        additional_special_tokens=special_tokens,
        chat_template=template,
    )


@pytest.fixture(scope="session")
def make_tokenizer() -> MakeTokenizer:
    return _make_tokenizer


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerBase:
    return _make_tokenizer(["<|im_end|>", "<|im_start|>", "<|endoftext|>"], QWEN_TEMPLATE)


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory, tokenizer: PreTrainedTokenizerBase) -> Path:
    """A random Qwen2 of two layers, with the tokenizer, as a Hugging Face folder."""
    ids = {"eos_token_id": tokenizer.eos_token_id, "bos_token_id": None}
    folder = make_random_model(tmp_path_factory.mktemp("model"), **ids)
    tokenizer.save_pretrained(folder)
    return folder
