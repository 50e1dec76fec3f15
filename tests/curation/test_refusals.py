"""Configs that could have no sense, or no effect: each is refused, or told, before anything is started."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from s1ray.config import ConfigError, validate_config
from s1ray.curation.config import CurationConfig
from s1ray.curation.pipeline import plan
from s1ray.errors import InputError


def config(tmp_path: Path, **fields: Any) -> CurationConfig:
    pool = tmp_path / "pool.jsonl"
    pool.write_text(json.dumps({"question": "What is 1+1?", "answer": "2", "solution": "2", "domain": "a"}) + "\n")
    columns = {"answer": "answer", "solution": "solution", "domain": "domain"}
    sources = [{"kind": "files", "path": str(pool), "columns": columns}]
    return validate_config(CurationConfig, {"output": str(tmp_path / "run"), "sources": sources, **fields}, "test")


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"domains": {"from_sources": False}}, "domains: from_sources: false, .* no row would have a domain"),
        ({"domains": {"otherwise": " "}}, r"domains\.otherwise: must not be empty"),
        ({"domains": {"mapping": {"algebra": ""}}}, r"domains\.mapping\.algebra: must not be empty"),
        ({"domains": {"prefixes": {"algebra": ""}}}, r"domains\.prefixes\.algebra: must not be empty"),
        ({"domains": {"rules": [{"domain": "", "question": "x"}]}}, r"domains\.rules\.0\.domain: must not be empty"),
        ({"selection": {"trusted": [{"source": ""}]}}, r"selection\.trusted\.0\.source: .*at least 1 character"),
        ({"selection": {"trusted": [{"source": "a"}] * 65}}, r"selection\.trusted: .*at most 64"),
        ({"selection": {"weight_sources": [""]}}, r"selection\.weight_sources\.0: .*at least 1 character"),
        ({"selection": {"weights": {"a": 1e308, "b": 1e308}}}, r"selection\.weights: weights add up to more than"),
        ({"selection": {"best_sources": {"count": 2}}}, r"selection\.best_sources\.count: 2, of only 1 sources"),
    ],
)
def test_a_config_without_sense_is_refused(fields: dict[str, Any], problem: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=problem):
        config(tmp_path, **fields)


@pytest.mark.parametrize(
    ("rows", "more", "problem"),
    [
        ([], {}, "no row has a 'question', so nothing would be looked for"),
        ([{"question": ""}, {"question": None}], {}, "no row has a 'question'"),
        ([{"question": "Why?", "year": 1}], {"where": {"year": 2}}, "no row fulfils `where`, or has a 'question'"),
    ],
)
def test_a_benchmark_without_questions_is_refused(
    rows: list[dict[str, Any]], more: dict[str, Any], problem: str, tmp_path: Path
) -> None:
    benchmark = tmp_path / "benchmark.jsonl"
    benchmark.write_text("".join(json.dumps(row) + "\n" for row in rows))
    asked = config(tmp_path, decontamination={"benchmarks": [{"path": str(benchmark), **more}]})
    with pytest.raises(InputError, match=rf"decontamination\.benchmarks: .*benchmark\.jsonl: {problem}"):
        plan(asked)


def test_a_plan_looks_for_the_encoder_of_decontamination(tmp_path: Path) -> None:
    asked = config(tmp_path, decontamination={"review": ["embedding"], "encoder": str(tmp_path / "none")})
    with pytest.raises(ConfigError, match=r"decontamination\.encoder: .*none must be a folder"):
        plan(asked)


def test_a_plan_looks_into_the_examples_of_the_classifier(tmp_path: Path) -> None:
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        (tmp_path / name).write_text("{}")
    examples = tmp_path / "examples.jsonl"
    examples.write_text(json.dumps({"question": "What is 1+1?", "domain": "cooking"}) + "\n")
    classifier = {"kind": "embedding", "encoder": str(tmp_path), "examples": {"path": str(examples)}}
    asked = config(tmp_path, domains={"taxonomy": {"a": "", "b": ""}, "classifier": classifier})
    with pytest.raises(ConfigError, match=r"examples\.jsonl: examples of two .* and 0 rows have 0 of the taxonomy"):
        plan(asked)


@pytest.mark.parametrize(
    ("selection", "warned"),
    [
        ({"method": "random", "weights": {"a": 1}, "trusted": [{"source": "a"}]}, "random does not look at trusted, w"),
        ({"method": "all", "size": 3}, "all does not look at size"),
        ({"method": "algorithm1", "uniform_share": 0.5}, "algorithm1 does not look at uniform_share"),
        ({"weights": {"a": 1}, "uniform_share": 0.5, "trusted": [{"source": "a"}], "size": 3}, None),
        ({"method": "longest", "size": 3}, None),
    ],
)
def test_a_plan_says_which_settings_have_no_effect(
    selection: dict[str, Any], warned: str | None, tmp_path: Path
) -> None:
    told = [line for line in plan(config(tmp_path, selection=selection)) if line.startswith("warning: selection")]
    assert len(told) == (warned is not None)
    assert warned is None or warned in told[0]
