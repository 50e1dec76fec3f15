from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from types import ModuleType

import pytest

from s1ray.thinking.vllm.eager import MODULES, NAME, count_ranks_eagerly


@pytest.fixture
def sampler() -> Iterator[ModuleType]:
    """vLLM's sampler, which is afterwards as it was."""
    sampler = pytest.importorskip("vllm.v1.sample.sampler")
    before = {name: getattr(sys.modules[name], NAME) for name in MODULES}
    yield sampler
    for name, function in before.items():
        setattr(sys.modules[name], NAME, function)


CHECK = f"""
import torch
from vllm.v1.sample import sampler
from s1ray.thinking.vllm.eager import MODULES, count_ranks_eagerly

compiled = sampler.{NAME}
assert hasattr(compiled, "_torchdynamo_orig_callable"), "vLLM no longer compiles it: nothing is left to replace"
assert count_ranks_eagerly() == list(MODULES)
ranks = sampler.{NAME}(torch.tensor([[0.1, 0.5, 0.4], [1.0, 1.0, 2.0]]), torch.tensor([[0.4], [1.0]]))
assert ranks.tolist() == [2, 3]
assert not hasattr(sampler.{NAME}, "_torchdynamo_orig_callable")
"""


@pytest.mark.slow
def test_the_installed_vllm_counts_ranks_uncompiled() -> None:
    pytest.importorskip("vllm.v1.sample.sampler")
    # In a process of its own: in this one another test may have replaced it.
    done = subprocess.run([sys.executable, "-c", CHECK], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_vllm_without_the_function_is_left_alone(sampler: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in MODULES:
        monkeypatch.delattr(sys.modules[name], NAME)
    assert count_ranks_eagerly() == []
