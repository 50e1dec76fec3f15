"""config.json and tokenizer_config.json for transformers 4 and 5; the readers themselves are in tests/end_to_end."""

from __future__ import annotations

import pytest
from pydantic import JsonValue

from s1ray.training.model.spellings import Fields, joined_with_base, readable_tokenizer, with_both_spellings

LLAMA3: Fields = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}


def added(config: Fields) -> Fields:
    """What version 4's spelling adds; nothing else may change."""
    found = with_both_spellings(config)
    assert {name: found[name] for name in config} == config
    return {name: value for name, value in found.items() if name not in config}


@pytest.mark.parametrize(
    ("rope", "expected"),
    [
        ({"rope_type": "default", "rope_theta": 1e6}, {"rope_theta": 1e6, "rope_scaling": None}),
        ({"rope_theta": 1e5}, {"rope_theta": 1e5, "rope_scaling": None}),
        (LLAMA3 | {"rope_theta": 5e5}, {"rope_theta": 5e5, "rope_scaling": LLAMA3}),
        (
            {"rope_type": "yarn", "rope_theta": 1e6, "factor": 4.0},
            {"rope_theta": 1e6, "rope_scaling": {"rope_type": "yarn", "factor": 4.0}},
        ),
        (
            {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5},
            {"rope_theta": 1e4, "rope_scaling": None, "partial_rotary_factor": 0.5},
        ),
        (
            {
                "rope_type": "longrope",
                "rope_theta": 1e4,
                "short_factor": [1.0],
                "long_factor": [2.0],
                "original_max_position_embeddings": 4096,
            },
            {
                "rope_theta": 1e4,
                "rope_scaling": {"type": "longrope", "short_factor": [1.0], "long_factor": [2.0]},
                "original_max_position_embeddings": 4096,
            },
        ),
    ],
    ids=["default", "without-type", "llama3", "yarn", "partial", "longrope"],
)
def test_rope_parameters_become_the_older_fields(rope: JsonValue, expected: Fields) -> None:
    assert added({"model_type": "llama", "rope_parameters": rope}) == expected


def test_layers_with_a_rotation_of_their_own() -> None:
    rope: Fields = {
        "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
        "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
    }
    thetas = {"rope_theta": 1e6, "rope_local_base_freq": 1e4}
    scaling = {"rope_type": "linear", "factor": 8.0}
    assert added({"model_type": "gemma3_text", "rope_parameters": rope}) == thetas | {"rope_scaling": scaling}
    assert added({"model_type": "another", "rope_parameters": rope}) == thetas
    assert added({"model_type": "another", "rope_parameters": {**rope, "compressed": {"rope_theta": 1.0}}}) == {}


def test_other_renamed_fields() -> None:
    assert added({"dtype": "bfloat16"}) == {"torch_dtype": "bfloat16"}
    assert added({"num_local_experts": 8}) == {"num_experts": 8}
    neox: Fields = {"model_type": "gpt_neox", "rope_parameters": {"rope_theta": 1e5, "partial_rotary_factor": 0.25}}
    assert added(neox) == {"rotary_emb_base": 1e5, "rotary_pct": 0.25, "rope_scaling": None}
    inner = with_both_spellings({"text_config": {"rope_parameters": {"rope_theta": 1e5}}})["text_config"]
    assert isinstance(inner, dict)
    assert inner["rope_theta"] == 1e5


def test_what_both_readers_need_is_there_already() -> None:
    config: Fields = {"rope_parameters": {"rope_theta": 1e6, "rope_type": "default"}, "rope_theta": 1e6, "dtype": "x"}
    assert with_both_spellings(with_both_spellings(config)) == with_both_spellings(config)


def test_the_base_keeps_its_own_spelling() -> None:
    written: Fields = {
        "architectures": ["LlamaForCausalLM"],
        "dtype": "float32",
        "model_type": "llama",
        "rope_parameters": LLAMA3 | {"rope_theta": 5e5},
        "transformers_version": "5.23.0",
    }
    base: Fields = {
        "_name_or_path": "somewhere",
        "architectures": ["LlamaModel"],
        "auto_map": {"AutoConfig": "own.py"},
        "its_own": 1,
        "model_type": "llama",
        "quantization_config": {"bits": 4},
        "rope_scaling": {"type": "llama3", **LLAMA3},
        "torch_dtype": "bfloat16",
        "transformers_version": "4.43.0",
    }
    found = joined_with_base(written, base)
    assert found == with_both_spellings(written) | {"rope_scaling": base["rope_scaling"], "its_own": 1}
    assert list(found) == sorted(found)
    assert found["torch_dtype"] == found["dtype"] == "float32"
    for other in (None, base | {"model_type": "llava"}):
        assert joined_with_base(written, other) == with_both_spellings(written)


def test_a_tokenizer_of_version_5_is_mended_and_another_one_left_alone() -> None:
    published: Fields = {
        "tokenizer_class": "Qwen2Tokenizer",
        "additional_special_tokens": ["<a>"],
        "chat_template": "...",
        "extra_special_tokens": {"image_token": "<i>"},
    }
    assert readable_tokenizer(published) == published
    saved: Fields = {
        "backend": "tokenizers",
        "eos_token": "<e>",
        "extra_special_tokens": ["<a>"],
        "is_local": True,
        "tokenizer_class": "TokenizersBackend",
    }
    assert readable_tokenizer(saved) == {
        "additional_special_tokens": ["<a>"],
        "eos_token": "<e>",
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
