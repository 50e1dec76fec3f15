from __future__ import annotations

import sys
from collections.abc import Iterator
from types import ModuleType

import pytest
import torch

from s1ray.thinking.vllm.eager import MODULES, NAME, count_ranks_eagerly


@pytest.fixture
def sampler() -> Iterator[ModuleType]:
    """vLLM's sampler, which is afterwards as it was."""
    sampler = pytest.importorskip("vllm.v1.sample.sampler")
    before = {name: getattr(sys.modules[name], NAME) for name in MODULES}
    yield sampler
    for name, function in before.items():
        setattr(sys.modules[name], NAME, function)


def test_the_installed_vllm_counts_ranks_uncompiled(sampler: ModuleType) -> None:
    compiled = getattr(sampler, NAME)
    assert hasattr(compiled, "_torchdynamo_orig_callable"), "vLLM no longer compiles it: nothing is left to replace"
    assert count_ranks_eagerly() == list(MODULES)
    ranks = getattr(sampler, NAME)(torch.tensor([[0.1, 0.5, 0.4], [1.0, 1.0, 2.0]]), torch.tensor([[0.4], [1.0]]))
    assert ranks.tolist() == [2, 3]
    assert not hasattr(getattr(sampler, NAME), "_torchdynamo_orig_callable")


def test_a_vllm_without_the_function_is_left_alone(sampler: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in MODULES:
        monkeypatch.delattr(sys.modules[name], NAME)
    assert count_ranks_eagerly() == []
