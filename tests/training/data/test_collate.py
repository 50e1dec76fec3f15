"""Micro-batches as tensors: packed, in parts, and empty."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from s1ray.training.data.collate import IGNORE, Dataset, collate

CPU = torch.device("cpu")
TENSORS: tuple[Literal["input_ids", "labels", "position_ids"], ...] = ("input_ids", "labels", "position_ids")


def make_dataset(lengths: list[int]) -> Dataset:
    draw = np.random.default_rng(0)
    tokens = [draw.integers(1, 100, size=length) for length in lengths]
    return Dataset([str(i) for i in range(len(lengths))], tokens, [np.arange(length) >= 1 for length in lengths])


@given(lengths=st.lists(st.integers(2, 30), min_size=1, max_size=5), parts=st.integers(1, 4), flash=st.booleans())
def test_the_parts_of_a_shared_row_make_up_the_row(lengths: list[int], parts: int, flash: bool) -> None:
    dataset = make_dataset(lengths)
    batch = range(len(lengths))
    whole = collate(dataset, batch, packing=True, flash=flash, device=CPU)
    shares = [collate(dataset, batch, packing=True, flash=flash, device=CPU, part=(i, parts)) for i in range(parts)]
    total = sum(lengths)
    assert len({share["input_ids"].shape for share in shares}) == 1
    for name in TENSORS:
        assert torch.equal(torch.cat([share[name] for share in shares], dim=1)[:, :total], whole[name])
    assert (torch.cat([share["labels"] for share in shares], dim=1)[:, total:] == IGNORE).all()
    for share in shares:
        found, expected = (inputs["cu_seq_lens_q"] if flash else inputs["segments"] for inputs in (share, whole))
        bounds = [int(bound) for bound in found]
        assert bounds[: len(lengths) + 1] == [int(bound) for bound in expected]
        assert bounds[-1] == parts * shares[0]["input_ids"].shape[1]


def test_an_empty_micro_batch_has_a_part_for_each_worker() -> None:
    dataset = make_dataset([])
    shares = [collate(dataset, (), packing=True, flash=False, device=CPU, part=(i, 4)) for i in range(4)]
    assert all(share["input_ids"].shape == (1, 1) for share in shares)
    assert all((share["labels"] == IGNORE).all() for share in shares)


def test_a_packed_row_never_trains_one_example_to_begin_the_next() -> None:
    dataset = make_dataset([40, 7, 23])
    inputs = collate(dataset, (0, 1, 2), packing=True, flash=False, device=CPU)
    ends = [bound - 1 for bound in inputs["segments"][1:]]
    assert inputs["labels"][0, ends].tolist() == [IGNORE] * 3
    assert inputs["position_ids"][0, 40:47].tolist() == list(range(7))


def test_flash_attention_gets_the_same_boundaries_in_its_own_keywords() -> None:
    dataset = make_dataset([40, 7, 23])
    inputs = collate(dataset, (0, 1, 2), packing=True, flash=True, device=CPU)
    assert inputs["cu_seq_lens_q"].tolist() == [0, 40, 47, 70]
    assert inputs["cu_seq_lens_q"].dtype == torch.int32
    assert (inputs["max_length_q"], inputs["max_length_k"]) == (40, 40)


def test_padded_rows_have_boundaries_too() -> None:
    dataset = make_dataset([3, 7, 5])
    assert collate(dataset, range(3), packing=False, flash=False, device=CPU)["segments"] == (0, 7)
    inputs = collate(dataset, range(3), packing=False, flash=True, device=CPU)
    assert inputs["cu_seq_lens_q"].tolist() == inputs["cu_seq_lens_k"].tolist() == [0, 7, 14, 21]
    assert inputs["max_length_q"] == inputs["max_length_k"] == 7
