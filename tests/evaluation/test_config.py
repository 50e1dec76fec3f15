from __future__ import annotations

import pytest
from pydantic import JsonValue

from s1ray.benchmarks.named import GPQA_DIAMOND
from s1ray.config import ConfigError, validate_config
from s1ray.evaluation.config import EvalConfig


def config(**changes: JsonValue) -> EvalConfig:
    data: dict[str, JsonValue] = {
        "output": "runs/eval",
        "benchmark": "miniature",
        "models": [{"label": "base", "name": "b"}, {"label": "sft", "name": "s"}],
        "sweep": {"max_tokens": [64, 0, 16], "waits": [2, 1, 0]},
    }
    return validate_config(EvalConfig, data | changes, "test.yaml")


def test_sweep_is_the_maxima_then_waits_at_the_largest() -> None:
    assert [arm.name for arm in config().all_arms()] == [
        "max=0",
        "max=16",
        "max=64",
        "max=64 waits=1",
        "max=64 waits=2",
    ]


def test_a_model_may_be_measured_with_some_arms_only() -> None:
    resolved = config(
        models=[{"label": "base", "name": "b", "arms": ["max=64", "max=0"]}, {"label": "sft", "name": "s"}]
    )
    assert [arm.name for arm in resolved.arms_of(resolved.models[0])] == ["max=0", "max=64"]
    assert len(resolved.arms_of(resolved.models[1])) == 5


def test_a_name_that_has_a_definition_is_resolved_to_it() -> None:
    resolved = config(benchmark="gpqa_diamond")
    assert (resolved.benchmark, resolved.all_benchmarks()) == (None, [GPQA_DIAMOND])
    assert validate_config(EvalConfig, resolved.model_dump(mode="json"), "again") == resolved
    assert config().benchmark == "miniature", "a function has none"
    assert config(benchmark="s3://bucket/questions.parquet").benchmark == "s3://bucket/questions.parquet"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"models": [{"label": "a", "name": "x"}, {"label": "a", "name": "y"}]}, "label 'a' is given more than once"),
        ({"arms": [{"max_tokens": 16}]}, "label 'max=16' is given more than once"),
        ({"sweep": None}, "no arm to measure"),
        ({"models": [{"label": "a", "name": "x", "arms": ["max=7"]}]}, "asks for arm 'max=7'; there are max=0, max=16"),
        ({"models": [{"label": "a/b", "name": "x"}]}, "models.0.label"),
        ({"models": []}, "models"),
        ({"models": [{"label": "a", "name": "x", "driver": "segmented"}]}, "weights: driver segmented needs"),
        ({"models": [{"label": "a", "name": "x", "driver": "other"}]}, "models.0.driver"),
        ({"arms": [{"max_tokens": 8, "min_tokens": 9}]}, "min_tokens: 9 is more than max_tokens (8)"),
        ({"arms": [{"max_tokens": 8, "waits": 1, "wait_text": []}]}, "wait_text: the list is empty"),
        ({"sweep": {"max_tokens": [0], "waits": [1]}}, "waits cannot happen when max_tokens is 0"),
        ({"sampling": {"samples": 4}}, "at temperature 0 they would all be the same"),
        ({"endpoint": {"base_url": "localhost:8000"}}, "must begin with http://"),
        ({"endpoint": {"base_url": "http://"}}, "must begin with http:// or https:// and a host"),
        ({"endpoint": {"base_url": "http://[x"}}, "endpoint.base_url: not an address: Invalid IPv6"),
        ({"endpoint": {"base_url": "http://h:99999/v1"}}, "endpoint.base_url: not an address: Port out of range"),
        ({"sweep": {"max_tokens": [-1]}}, "sweep.max_tokens.0"),
        ({"max_thinking": 3}, "unknown field"),
        ({"benchmark": None}, "give either `benchmark` (one, by name or path) or `benchmarks` (a list)"),
        ({"benchmarks": ["aime24"]}, "give either `benchmark`"),
        ({"benchmark": None, "benchmarks": ["aime24", "aime24"]}, "benchmarks: name 'aime24' is given more than once"),
        ({"benchmark": None, "benchmarks": ["aime24", "aime42"]}, "benchmarks.1: benchmark 'aime42': no such file"),
        ({"benchmark": None, "benchmarks": [{"name": "mine"}]}, "benchmarks.0: no benchmark is called 'mine'"),
        ({"benchmark": None, "benchmarks": [{"name": "mine", "path": "x", "quesion": "q"}]}, "benchmarks.0.quesion"),
        ({"benchmark": None, "benchmarks": ["livecodebench"]}, "benchmarks.0: benchmark 'livecodebench': its answers"),
        ({"sampling": {"top_k": 0}}, "sampling.top_k"),
    ],
)
def test_mistakes_are_named(changes: dict[str, JsonValue], message: str) -> None:
    with pytest.raises(ConfigError, match=r"test\.yaml") as error:
        config(**changes)
    assert message in str(error.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"endpoint": {"base_url": "https://me:hush@api.test/v1"}},
        {"endpoint": {"replicas": ["https://me:hush@api.test/v1"]}},
        {"endpoint": {"base_url": "https://api.test/v1?key=hush"}},
        {"endpoint": {"api_key": "sk-hush-0123456789"}},
        {"models": [{"label": "a", "name": "x", "extra_body": {"api_key": "hush"}}]},
        {"models": [{"label": "a", "name": "x", "extra_body": {"headers": {"x": "Bearer hush"}}}]},
        {"arms": [{"strategy": "best_by_reward", "reward": {"base_url": "http://me:hush@h/v1"}}]},
    ],
)
def test_secrets_are_refused_and_not_repeated(changes: dict[str, JsonValue]) -> None:
    with pytest.raises(ConfigError) as raised:
        config(**changes)
    assert "hush" not in str(raised.value)


def test_a_models_name_and_ordinary_fields_are_no_secrets() -> None:
    config(models=[{"label": "a", "name": "sk-llama-3-8b", "extra_body": {"stop": ["key:"], "token_ids": True}}])
