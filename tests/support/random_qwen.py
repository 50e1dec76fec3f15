"""A Qwen2 with random weights: some ten thousand, unless a test asks for more."""

from __future__ import annotations

from pathlib import Path

from pydantic import JsonValue


def make_random_model(folder: Path, *, dtype: str = "float32", max_shard_size: str = "1GB", **shape: JsonValue) -> Path:
    """Write it into the folder, the same weights for the same shape; no tokenizer."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    small: dict[str, JsonValue] = {
        "vocab_size": 272,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "tie_word_embeddings": True,
        "max_position_embeddings": 512,
    }
    network = Qwen2ForCausalLM(Qwen2Config(**(small | shape)))
    network.to(getattr(torch, dtype)).save_pretrained(folder, max_shard_size=max_shard_size)
    return folder
