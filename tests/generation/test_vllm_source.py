"""What vLLM's arguments take, as its source says."""

from __future__ import annotations

import importlib.util

import pytest

from s1ray.generation.vllm_source import Argument, argument, argument_problem, tool_parsers


@pytest.fixture(autouse=True)
def _needs_vllm() -> None:
    if importlib.util.find_spec("vllm") is None:
        pytest.skip("needs vLLM")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("quantization", "fp8"),
        ("quantization", None),
        ("load_format", "dummy"),
        ("gpu_memory_utilization", 0.92),
        ("gpu_memory_utilization", 1),
        ("enforce_eager", False),
        ("enable_prefix_caching", None),
        ("max_num_batched_tokens", 8192),
        ("hf_overrides", {"rope_scaling": {}}),
        ("compilation_config", 3),
        ("compilation_config", {"mode": 0}),
        ("distributed_executor_backend", "ray"),
        ("distributed_executor_backend", "package.module.Executor"),
        ("limit_mm_per_prompt", {"image": 0}),
        ("chat_template", "{{ messages }}"),
        ("optimization_level", 2),
        ("no_such_argument", object()),
    ],
)
def test_what_vllm_takes_is_taken(name: str, value: object) -> None:
    assert argument_problem(name, value) is None


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("kv_cache_dtype", "fp9", "vLLM knows no 'fp9'; did you mean 'fp8'?"),
        ("kv_cache_dtype", 8, "must be one of auto, float16"),
        ("seed", True, "must be a whole number, not True"),
        ("seed", 1.5, "must be a whole number, not 1.5"),
        ("block_size", 0, "must be more than 0, not 0"),
        ("max_num_batched_tokens", -1, "must be at least 1, not -1"),
        ("max_num_batched_tokens", "8k", "must be null or a whole number, not '8k'"),
        ("pipeline_parallel_size", 0, "must be at least 1, not 0"),
        ("limit_mm_per_prompt", [1], "must be a mapping, not [1]"),
        ("distributed_executor_backend", "rai", "vLLM knows no 'rai'; did you mean 'ray'?"),
    ],
)
def test_what_vllm_does_not_take_is_named(name: str, value: object, problem: str) -> None:
    found = argument_problem(name, value)
    assert found is not None
    assert problem in found


def test_choices_that_packages_may_add_to_are_open_where_one_could() -> None:
    load_format = argument("load_format")
    assert load_format.problem("of-a-package", extensible=False) is not None
    assert load_format.problem("of-a-package", extensible=True) is None
    assert argument("kv_cache_dtype").problem("of-a-package", extensible=True) is not None


def test_nothing_is_said_against_what_is_not_known() -> None:
    assert Argument().problem("anything") is None


def test_the_tool_parsers_are_vllms_own() -> None:
    assert {"hermes", "deepseek_v3"} <= set(tool_parsers())
