"""In fp32 on the CPU: however the examples are laid out, loss and gradients are the same."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from s1ray.training.data.batching import lay_out
from s1ray.training.data.collate import IGNORE, Dataset, collate
from s1ray.training.model import attention
from s1ray.training.model.loss import CrossEntropyHead, LossModel

if TYPE_CHECKING:
    from transformers import PreTrainedModel

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    draw = np.random.default_rng(0)
    lengths = [40, 7, 23, 64, 12, 5, 31, 50]
    tokens = [draw.integers(0, 270, size=length) for length in lengths]
    masks = [np.arange(length) >= length // 3 for length in lengths]
    return Dataset([str(i) for i in range(len(lengths))], tokens, masks)


def load(folder: Path, implementation: str) -> PreTrainedModel:
    attention.register()
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation=implementation)


def reference_loss(model: PreTrainedModel, dataset: Dataset, index: int) -> torch.Tensor:
    """The plain way: one example at a time, torch's attention, all logits, torch's cross-entropy."""
    logits = model(input_ids=torch.from_numpy(dataset.tokens[index]).unsqueeze(0)).logits[0]
    return torch.nn.functional.cross_entropy(
        logits, torch.from_numpy(dataset.labels[index]), ignore_index=IGNORE, reduction="sum"
    )


@pytest.fixture(scope="module")
def reference(model_folder: Path, dataset: Dataset) -> tuple[float, dict[str, torch.Tensor]]:
    model = load(model_folder, "sdpa")
    loss = sum(reference_loss(model, dataset, index) for index in range(len(dataset)))
    assert isinstance(loss, torch.Tensor)
    loss.backward()
    return loss.item(), {f"{name}": p.grad for name, p in model.named_parameters()}


@pytest.mark.parametrize("packing", [True, False], ids=["packed", "padded"])
@pytest.mark.parametrize(("num_workers", "limit"), [(1, 1000), (1, 64), (2, 80), (3, 200)])
@pytest.mark.parametrize("chunk", [4096, 7])
def test_loss_and_gradients_are_those_of_single_examples(
    model_folder: Path,
    dataset: Dataset,
    reference: tuple[float, dict[str, torch.Tensor]],
    packing: bool,
    num_workers: int,
    limit: int,
    chunk: int,
) -> None:
    model = LossModel(load(model_folder, attention.SEGMENTS), logits_chunk=chunk)
    layout = lay_out(
        dataset.lengths, range(len(dataset)), num_workers=num_workers, micro_batch_tokens=limit, packing=packing
    )
    total = 0.0
    for batch in itertools.chain.from_iterable(layout):
        loss = model(**collate(dataset, batch, packing=packing, flash=False, device=CPU))
        loss.backward()
        total += loss.item()
    expected_loss, expected = reference
    assert total == pytest.approx(expected_loss, rel=1e-5)
    found = {name.removeprefix("model."): p.grad for name, p in model.model.named_parameters()}
    assert {n.removeprefix("model.") for n in expected} == set(found)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name.removeprefix("model.")], gradient, rtol=1e-4, atol=1e-4)


def test_an_empty_micro_batch_gives_no_loss_and_zero_gradients_for_every_weight(
    model_folder: Path, dataset: Dataset
) -> None:
    model = LossModel(load(model_folder, attention.SEGMENTS), logits_chunk=16)
    for packing in (True, False):
        loss = model(**collate(dataset, (), packing=packing, flash=False, device=CPU))
        loss.backward()
        assert loss.item() == 0
    assert all(p.grad is not None and not p.grad.any() for p in model.parameters())


def test_sliding_window_attention_equals_a_masked_one() -> None:
    torch.manual_seed(0)
    query, key, value = (torch.randn(1, heads, 20, 8) for heads in (4, 2, 2))
    found, _ = attention.segment_attention(
        torch.nn.Module(), query, key, value, None, segments=(0, 12, 20), sliding_window=5
    )
    position = torch.arange(20)
    segment = (position >= 12).long()
    distance = position[:, None] - position[None, :]
    mask = (segment[:, None] == segment[None, :]) & (distance >= 0) & (distance < 5)
    expected = torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, enable_gqa=True)
    torch.testing.assert_close(found, expected.transpose(1, 2))


@pytest.mark.parametrize("rows", [0, 1, 5, 16])
def test_cross_entropy_in_chunks_equals_torchs_own(rows: int) -> None:
    torch.manual_seed(0)
    linear = torch.nn.Linear(8, 50, bias=False)
    hidden = torch.randn(rows, 8, requires_grad=True)
    targets = torch.randint(0, 50, (rows,))
    expected = torch.nn.functional.cross_entropy(linear(hidden), targets, reduction="sum")
    (expected * 0.3).backward()
    assert hidden.grad is not None
    assert linear.weight.grad is not None
    gradients = hidden.grad.clone(), linear.weight.grad.clone()
    hidden.grad = linear.weight.grad = None
    loss = CrossEntropyHead(linear, chunk=5)(hidden, targets)
    (loss * 0.3).backward()
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close((hidden.grad, linear.weight.grad), gradients)


def test_the_factor_of_a_bf16_loss_is_not_rounded() -> None:
    torch.manual_seed(0)
    linear = torch.nn.Linear(8, 20, bias=False).bfloat16()
    head, targets = CrossEntropyHead(linear, 4), torch.arange(6)
    gradients = []
    for factor in (1.0, 257.0):  # In bf16 it would be 256 or 258.
        hidden = torch.linspace(-1, 1, 48).view(6, 8).bfloat16().requires_grad_()
        (head(hidden, targets) * factor).backward()
        gradients.append(hidden.grad)
    once, scaled = gradients
    assert once is not None
    torch.testing.assert_close(scaled, (once.float() * 257.0).bfloat16(), rtol=0, atol=0)


def test_attention_of_bf16_models_on_cpu_runs_in_fp32() -> None:
    torch.manual_seed(0)
    query, key, value = (torch.randn(1, 2, 9, 8).bfloat16() for _ in range(3))
    bounds = (0, 4, 9)
    found, _ = attention.segment_attention(torch.nn.Module(), query, key, value, None, segments=bounds)
    expected, _ = attention.segment_attention(
        torch.nn.Module(), query.float(), key.float(), value.float(), None, segments=bounds
    )
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found, expected.bfloat16(), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({}, "Identity does not get the boundaries"),
        ({"segments": (0, 3), "softcap": 50.0}, "Identity asks attention for softcap"),
        ({"segments": (0, 3), "s_aux": torch.zeros(2)}, "Identity asks attention for s_aux"),
        ({"segments": (0, 3), "is_causal": False}, "Identity attends to later tokens"),
        ({"segments": (0, 3), "attention_mask": torch.zeros(1, 1, 3, 3)}, "Identity makes an attention mask"),
    ],
)
def test_attention_refuses_what_it_would_have_to_ignore(arguments: dict[str, Any], problem: str) -> None:
    query = torch.zeros(1, 2, 3, 8)
    with pytest.raises(attention.AttentionError, match=problem):
        attention.segment_attention(torch.nn.Identity(), query, query, query, **({"attention_mask": None} | arguments))


def test_flash_attention_refuses_a_call_without_boundaries() -> None:
    query = torch.zeros(1, 2, 3, 8)
    with pytest.raises(attention.AttentionError, match="Identity does not get the boundaries"):
        attention.flash_attention(torch.nn.Identity(), query, query, query, None)
