"""A model's context and heads are those that vLLM derives."""

from __future__ import annotations

from typing import Any

import pytest

from s1ray.miniature import BASE_MODEL_DIR
from s1ray.serving.check.checkpoint import (
    cache_bytes_per_token,
    context_length,
    parallel_problem,
    text_config,
    weight_problem,
)
from s1ray.serving.check.tokenizer import FileTokenizer
from s1ray.thinking.format import PRESETS


@pytest.mark.parametrize(
    ("config", "tokens"),
    [
        ({}, None),
        ({"max_position_embeddings": 32768}, 32768),
        ({"n_positions": 1024, "max_seq_len": 512}, 512),
        ({"max_position_embeddings": 8192, "model_max_length": 131072}, 131072),
        ({"max_position_embeddings": 4096, "rope_scaling": None}, 4096),
        ({"max_position_embeddings": 4096, "rope_scaling": {"type": "linear", "factor": 4.0}}, 16384),
        (
            {
                "max_position_embeddings": 40960,
                "rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768},
            },
            131072,
        ),
        ({"max_position_embeddings": 131072, "rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, 131072),
        ({"max_position_embeddings": 131072, "rope_scaling": {"type": "longrope", "factor": 32}}, 131072),
        ({"max_position_embeddings": 2048, "rope_parameters": {"rope_type": "default", "rope_theta": 1e4}}, 2048),
        (
            {
                "max_position_embeddings": 64,
                "rope_parameters": {"full_attention": {"rope_type": "linear", "factor": 2}},
            },
            128,
        ),
        ({"max_position_embeddings": 131072, "model_type": "gemma3_text", "rope_scaling": {"factor": 8}}, 131072),
        ({"text_config": {"max_position_embeddings": 77}}, 77),
    ],
)
def test_the_context_is_what_the_config_allows(config: dict[str, Any], tokens: int | None) -> None:
    assert context_length(text_config(config)) == tokens


def test_overrides_count() -> None:
    overrides = {"rope_scaling": {"rope_type": "linear", "factor": 2.0}}
    assert context_length(text_config({"max_position_embeddings": 2048}, overrides)) == 4096


@pytest.mark.parametrize(
    ("heads", "kv_heads", "workers", "fits"),
    [
        (40, 8, 4, True),
        (40, 8, 8, True),
        (40, 8, 3, False),
        (48, 8, 16, True),
        (48, 8, 12, False),
        (None, None, 7, True),
    ],
)
def test_heads_are_divided_as_vllm_does(heads: int | None, kv_heads: int | None, workers: int, fits: bool) -> None:
    config = {"num_attention_heads": heads, "num_key_value_heads": kv_heads}
    assert (parallel_problem(config, workers) is None) == fits


def test_the_cache_of_a_token() -> None:
    config = {"num_hidden_layers": 64, "num_attention_heads": 40, "num_key_value_heads": 8, "hidden_size": 5120}
    assert cache_bytes_per_token(config, 2) == 262_144
    assert cache_bytes_per_token(config | {"kv_lora_rank": 512}, 2) is None
    assert cache_bytes_per_token(config | {"layer_types": ["full_attention", "sliding_attention"]}, 2) is None


def test_the_packaged_model_is_whole() -> None:
    assert weight_problem(BASE_MODEL_DIR) is None


def test_a_tokenizers_file_gives_the_ids_that_transformers_gives() -> None:
    from transformers import AutoTokenizer

    slow, fast = AutoTokenizer.from_pretrained(BASE_MODEL_DIR), FileTokenizer(BASE_MODEL_DIR)
    expected, found = PRESETS["s1"].resolve(slow), PRESETS["s1"].resolve(fast)
    assert (found.start, found.end, found.newline_ids) == (expected.start, expected.end, expected.newline_ids)
    # Without the end of sequence, which a check does not need.
    assert found.end_triggers | {slow.eos_token_id} == expected.end_triggers
    assert len(fast) == len(slow)
