"""Every family of transformers is trained exactly as it is served, or refused in words before a worker starts."""

from __future__ import annotations

import re

import pytest

from benchmarks.training.families import COMMON, TOLERANCE, VARIANTS, families, judge

LIMITED = r"has a loss of .*; it can be with max_length and micro_batch_tokens of at most 5 \("
PADDED = "has a loss of .*; with packing: false it can be"
REFUSED_PACKED = {
    "bloom": "has a loss of .* on examples in one packed row, and of .* on each alone",
    "doge": "DogeAttention makes an attention mask of its own",
    "falcon": "its attention is of its own making",
    "falcon, no ALiBi": "its attention is of its own making",
    "gemma2": "asks attention for softcap",
    "gpt_oss": "asks attention for s_aux",
    "lfm2": PADDED,
    "llama4_text": LIMITED + "attention_chunk_size 5",
    "minimax": PADDED,
    "mpt": "its layers need a mask",
    "nemotron": "NemotronAttention does not get the boundaries",
    "phimoe, sliding windows": LIMITED + "sliding_window 5",
    "qwen2_moe, sliding windows": LIMITED + "sliding_window 5",
    "qwen3_next": PADDED,
    "stablelm": "StableLmAttention does not get the boundaries",
}
"""Families that are not trained in packed rows, and the words that say why."""


def check(family: str, *, packing: bool) -> str | None:
    verdict = judge(family, packing=packing)
    if verdict.refused is None:
        assert verdict.difference is not None
        assert verdict.difference <= TOLERANCE
    else:
        assert "\n" not in verdict.refused
        assert len(verdict.refused) > 20
    return verdict.refused


@pytest.mark.parametrize("family", [*COMMON, *VARIANTS])
def test_a_family_that_people_use_is_trained_in_packed_rows_as_it_is_served_or_refused(family: str) -> None:
    refused = check(family, packing=True)
    if family in REFUSED_PACKED:
        assert refused is not None
        assert re.search(REFUSED_PACKED[family], refused)
    else:
        assert refused is None


def test_a_family_whose_config_has_two_decoders_is_refused_in_words() -> None:
    refused = check("musicgen", packing=True)
    assert refused is not None
    assert "transformers cannot make a causal language model of its config" in refused


@pytest.mark.slow
@pytest.mark.parametrize("packing", [True, False], ids=["packed", "padded"])
@pytest.mark.parametrize("family", families())
def test_every_family_is_trained_as_it_is_served_or_refused(family: str, packing: bool) -> None:
    check(family, packing=packing)
