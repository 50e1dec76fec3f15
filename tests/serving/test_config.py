from __future__ import annotations

from typing import Any

import pytest

from s1ray.config import ConfigError, load_config, validate_config
from s1ray.miniature import BASE_MODEL_DIR
from s1ray.recipes import find_recipe
from s1ray.serving.config import DEFAULT_EFFORT, ServingConfig

MODEL: dict[str, Any] = {"name": "m", "model": "miniature-base"}


def config(**fields: Any) -> ServingConfig:
    return validate_config(ServingConfig, {"models": [MODEL | fields]}, "test")


def test_the_miniature_recipe_serves_base_and_sft() -> None:
    loaded = load_config(ServingConfig, find_recipe("miniature", "serve"), ["models.1.model=runs/x"])
    assert [(model.name, model.model) for model in loaded.models] == [("base", str(BASE_MODEL_DIR)), ("sft", "runs/x")]
    assert {model.max_num_seqs for model in loaded.models} == {128}


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({"name": ""}, "name"),
        ({"name": "a b"}, "name"),
        ({"modle": "x"}, "modle"),
        ({"aliases": ["gpt 5"]}, "aliases: 'gpt 5': must begin"),
        ({"aliases": ["gpt-5:x"]}, "aliases: 'gpt-5:x': must begin"),
        ({"aliases": ["gpt-5", "gpt-5"]}, "alias 'gpt-5' is given twice"),
        ({"thinking_format": "s2"}, "thinking_format.*s2.*s1, deepseek_r1, qwen3"),
        ({"budgets": {"default": 9, "maximum": 8}}, "default"),
        ({"budgets": {"max": 8}}, "budgets.max: unknown"),
        ({"budgets": {"maximum": 8, "effort": {"low": 9}}}, "effort: low: 9 is more than maximum"),
        ({"budgets": {"effort": {"none": 9}}}, "effort: none: must be 0"),
        ({"budgets": {"effort": {"low": "some"}}}, "effort.low"),
        ({"budgets": {"effort": {"low": -1}}}, "effort.low"),
        ({"budgets": {"over_maximum": "ignore"}}, "over_maximum"),
        ({"autoscaling": {"min_replicas": 3, "max_replicas": 2}}, "min_replicas"),
        ({"autoscaling": {"max_ongoing_requests": 2}}, "autoscaling.max_ongoing_requests: unknown"),
        ({"autoscaling": {"policy": "cpu"}}, "policy"),
        ({"autoscaling": {"policy": "ray", "tolerated_queue": 3}}, "tolerated_queue: has no effect with policy 'ray'"),
        ({"autoscaling": {"policy": "ray", "replica_start_s": 60}}, "replica_start_s"),
        ({"autoscaling": {"scale_to_zero_delay_s": 60}}, "scale_to_zero_delay_s: min_replicas is 1"),
        ({"autoscaling": {"min_replicas": 0, "scale_to_zero_delay_s": 19}}, "scale_to_zero_delay_s: 19 s is too short"),
        ({"autoscaling": {"min_replicas": 0, "downscale_delay_s": 5}}, "scale_to_zero_delay_s: 5 s is too short"),
        ({"autoscaling": {"downscale_load": 1}}, "downscale_load"),
        ({"autoscaling": {"downscale_fraction": 0}}, "downscale_fraction"),
        ({"autoscaling": {"target_kv_cache_usage": 85}}, "target_kv_cache_usage"),
        ({"autoscaling": {"replica_start": 60}}, "replica_start: unknown"),
        (
            {"autoscaling": {"target_ongoing_requests": 129}},
            "target_ongoing_requests: 129 is more than a replica takes .*128",
        ),
        ({"device": "tpu"}, "device"),
        ({"max_num_seqs": True}, "max_num_seqs: must be a number, not true"),
        ({"max_model_len": False}, "max_model_len: must be a number"),
        ({"device": "cpu", "accelerator_type": "H100"}, "accelerator_type"),
        ({"engine_kwargs": {"max_num_seqs": 4}}, "engine_kwargs.max_num_seqs"),
        ({"engine_kwargs": {"speculative_config": {}}}, "engine_kwargs.speculative_config"),
        ({"strategy": "TIGHT"}, "strategy"),
        ({"max_ongoing_requests": 0}, "max_ongoing_requests"),
    ],
)
def test_a_wrong_field_is_named(fields: dict[str, Any], names: str) -> None:
    with pytest.raises(ConfigError, match=names):
        config(**fields)


def test_default_efforts_are_cut_to_the_maximum() -> None:
    assert config().models[0].budgets.effort["high"] == 16384
    efforts = config(budgets={"maximum": 1500}).models[0].budgets.effort
    assert efforts == {
        "none": 0,
        "minimal": 512,
        "low": 1024,
        "medium": 1500,
        "high": 1500,
        "xhigh": "auto",
        "max": "auto",
    }
    assert config(budgets={"maximum": 1500, "effort": {"deep": 9}}).models[0].budgets.effort == efforts | {"deep": 9}


@pytest.mark.parametrize(
    ("given", "complete"),
    [
        ({"low": 8}, [0, 8, 8, 8, 8, 8, 8]),
        ({"none": 0, "medium": 24, "high": "auto", "deep": 9}, [0, 24, 24, 24, "auto", "auto", "auto"]),
        ({"minimal": 0, "high": 30, "max": 50}, [0, 0, 0, 0, 30, 30, 50]),
    ],
)
def test_a_missing_effort_has_its_neighbours_tokens(given: dict[str, Any], complete: list[Any]) -> None:
    efforts = config(budgets={"effort": given, "maximum": 100}).models[0].budgets.effort
    assert [efforts[name] for name in DEFAULT_EFFORT] == complete
    assert set(efforts) == {*DEFAULT_EFFORT, *given}


def test_two_models_with_the_same_name_are_refused() -> None:
    with pytest.raises(ConfigError, match="'m' is given twice"):
        validate_config(ServingConfig, {"models": [MODEL, MODEL]}, "test")


def test_an_alias_stands_for_one_model_and_is_no_models_name() -> None:
    other = MODEL | {"name": "n"}
    for aliases, of_other, problem in (
        (["gpt-*"], ["gpt-*"], "alias 'gpt-\\*' is given twice \\(m, n\\)"),
        (["n"], [], "alias 'n' of 'm' is the name of a model"),
    ):
        with pytest.raises(ConfigError, match=problem):
            validate_config(
                ServingConfig, {"models": [MODEL | {"aliases": aliases}, other | {"aliases": of_other}]}, "t"
            )


def test_no_model_is_refused() -> None:
    with pytest.raises(ConfigError, match="models"):
        validate_config(ServingConfig, {"models": []}, "test")


def test_one_model_answers_http_itself_and_several_have_workers_in_front() -> None:
    one, other = ({"name": name, "model": "miniature-base"} for name in ("a", "b"))

    def config(**fields: Any) -> ServingConfig:
        return validate_config(ServingConfig, fields, "test")

    assert config(models=[one]).direct
    assert not config(models=[one, other]).direct
    # Without a replica, a request that nobody has read yet would start one.
    assert not config(models=[one | {"autoscaling": {"min_replicas": 0}}]).direct
    assert not config(models=[one], http="worker", ingress_replicas=3).direct
    with pytest.raises(ConfigError, match="http: direct is for one model, and this application has 2"):
        config(models=[one, other], http="direct")
    with pytest.raises(ConfigError, match="ingress_replicas: the model's replicas answer HTTP themselves"):
        config(models=[one], ingress_replicas=2)
