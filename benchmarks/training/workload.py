"""The training data, rows with lengths in proportion to those of s1K, and the model.

Three numbers of s1K's traces are published: 4.7 million tokens in 1,000 traces, most of them around 5,300 tokens long,
none longer than 8,200. A triangular distribution from 600 over 5,300 to 8,200 has all three (its mean is 4,700), so
lengths are drawn from it, divided by `SCALE` so that a CPU can train on them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from pydantic import JsonValue

MIN_LENGTH, MODE, MAX_LENGTH = 600, 5300, 8200
"""Tokens of s1K's traces."""
SCALE = 16
PROMPT = 20
"""Tokens before the trained part of a row."""
GLOBAL_BATCH = 16
"""Rows per optimizer step, as in s1."""


@dataclass(frozen=True)
class ModelSize:
    """A Qwen2 with random weights."""

    vocabulary: int = 4096
    hidden_size: int = 128
    intermediate_size: int = 384
    layers: int = 4
    heads: int = 4
    key_value_heads: int = 2

    def describe(self) -> dict[str, JsonValue]:
        """For the results file."""
        return asdict(self)


def draw_lengths(rows: int, seed: int = 0) -> list[int]:
    """Tokens of each row: a prompt and a scaled trace."""
    draw = np.random.default_rng(seed)
    traces = draw.triangular(MIN_LENGTH / SCALE, MODE / SCALE, MAX_LENGTH / SCALE, size=rows)
    return [PROMPT + round(length) for length in traces]


def make_rows(lengths: Sequence[int], vocabulary: int, seed: int = 0) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Random tokens and loss masks of rows of these lengths."""
    draw = np.random.default_rng(seed)
    tokens = [draw.integers(0, vocabulary, size=length) for length in lengths]
    return tokens, [np.arange(length) >= PROMPT for length in lengths]


def write_model(size: ModelSize, folder: Path) -> None:
    """Write the model as a Hugging Face folder."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=size.vocabulary,
        hidden_size=size.hidden_size,
        intermediate_size=size.intermediate_size,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.key_value_heads,
        tie_word_embeddings=True,
        max_position_embeddings=2 * MAX_LENGTH // SCALE,
    )
    Qwen2ForCausalLM(config).save_pretrained(folder)
