"""What the in-process engine is started with; nothing here imports vLLM."""

from __future__ import annotations

from dataclasses import fields

import pytest

from s1ray.generation.engine import engine_kwargs
from s1ray.generation.vllm_source import known_arguments
from s1ray.models import EngineConfig


def test_a_laptop_gets_no_compilation_float32_and_a_bounded_cache() -> None:
    kwargs = engine_kwargs(EngineConfig(model="m", kv_cache_gib=0.5, max_model_len=2048), "cpu")
    assert kwargs["enforce_eager"] is True
    assert kwargs["enable_chunked_prefill"] is False
    assert kwargs["dtype"] == "float32"
    assert kwargs["kv_cache_memory_bytes"] == 1 << 29
    assert kwargs["max_model_len"] == 2048
    assert kwargs["logits_processors"] == ["s1ray.thinking.vllm.processor:BudgetForcingProcessor"]


def test_a_gpu_keeps_vllms_own_choices() -> None:
    kwargs = engine_kwargs(EngineConfig(model="m", tensor_parallel_size=4), "gpu")
    assert not {"enforce_eager", "kv_cache_memory_bytes", "max_model_len", "tokenizer"} & kwargs.keys()
    assert (kwargs["dtype"], kwargs["tensor_parallel_size"]) == ("auto", 4)


def test_further_arguments_have_the_last_word() -> None:
    config = EngineConfig(model="m", engine_kwargs={"enforce_eager": False, "gpu_memory_utilization": 0.8})
    kwargs = engine_kwargs(config, "cpu")
    assert (kwargs["enforce_eager"], kwargs["gpu_memory_utilization"]) == (False, 0.8)


@pytest.mark.parametrize("name", ["logits_processors", "speculative_config"])
def test_what_would_switch_budget_forcing_off_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"engine_kwargs.{name}: must not be set"):
        engine_kwargs(EngineConfig(model="m", engine_kwargs={name: []}), "cpu")


def test_an_argument_that_vllm_does_not_know_is_named_with_what_was_meant() -> None:
    config = EngineConfig(model="m", engine_kwargs={"enable_prefix_cashing": True})
    with pytest.raises(ValueError, match=r"enable_prefix_cashing: .* did you mean 'enable_prefix_caching'"):
        engine_kwargs(config, "cpu")


def test_the_known_arguments_are_those_of_vllms_own_classes() -> None:
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.entrypoints.launchers.cli_args import FrontendArgs

    assert known_arguments() == {field.name for of in (AsyncEngineArgs, FrontendArgs) for field in fields(of)}
