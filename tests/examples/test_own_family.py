"""The format of examples/own_family reaches every stage and the server."""

from __future__ import annotations

import pytest

from s1ray.curation.config import CurationConfig
from s1ray.curation.difficulty.config import ModelDifficulty
from s1ray.evaluation.config import EvalConfig
from s1ray.models import ModelRef
from s1ray.pipelines import load_pipeline
from s1ray.teachers.language_models import VLLMTeacher
from s1ray.training.config import TrainingConfig
from tests.support.markdown import ROOT


def test_every_stage_has_the_format(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    pipeline = load_pipeline("examples/own_family/ponder.yaml")
    prepared = {cell.step.stage: pipeline._prepare(cell) for cell in pipeline.cells}
    curate, train, evaluate = (prepared[name].config for name in ("curate", "train", "eval"))
    assert isinstance(curate, CurationConfig)
    assert isinstance(curate.difficulty, ModelDifficulty)
    base = curate.difficulty.models["base"]
    assert isinstance(base, VLLMTeacher)
    assert isinstance(train, TrainingConfig)
    assert isinstance(evaluate, EvalConfig)
    serving = prepared["eval"].serving
    assert serving is not None
    models: list[ModelRef] = [base.engine, train, *serving.models]
    formats = [model.thinking_format for model in models] + [model.thinking_format for model in evaluate.models]
    assert {(fmt.start, fmt.end) for fmt in formats} == {("<|im_start|>ponder", "<|im_start|>reply")}
