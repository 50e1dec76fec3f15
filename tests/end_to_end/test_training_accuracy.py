"""Held-out questions are answered by a real engine while real workers train; the best model is exported."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from s1ray.schemas import Question, question_id, to_table, write_table
from s1ray.training import trainer
from s1ray.training.accuracy.snapshots import Snapshots
from s1ray.training.config import TrainingConfig
from tests.support.training_runs import STEPS, config_of, losses, make_base_model, make_traces

pytestmark = [pytest.mark.end_to_end, pytest.mark.slow]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base_model(tmp_path_factory.mktemp("base"), hidden_size=128)


def config(base: Path, folder: Path, **accuracy: object) -> TrainingConfig:
    rows = [
        Question(id=question_id(text), question=text, answer=str(number + 3))
        for number, text in ((n, f"What is {n} + 3, please?") for n in range(20))
    ]
    write_table(to_table(rows, Question), folder / "questions.parquet")
    settings = {
        "benchmark": str(folder / "questions.parquet"),
        "size": 10,
        "every": 5,
        "budget": {"max_tokens": 16},
        "max_tokens": 48,
        "kv_cache_gib": 0.1,
        "max_model_len": 256,
    }
    changes = {"accuracy": settings | accuracy}
    return config_of(base, make_traces(folder / "traces.parquet"), folder / "run", **changes)


def test_snapshots_are_measured_and_training_is_not_changed_by_it(
    ray_session: None, base: Path, tmp_path: Path
) -> None:
    run = trainer.train(config(base, tmp_path, pause=True))
    plain = trainer.train(config_of(base, make_traces(tmp_path / "traces.parquet"), tmp_path / "plain"))
    assert losses(run) == losses(plain)
    for name in ("model.safetensors", "config.json", "generation_config.json"):
        assert (run.path / "model" / name).read_bytes() == (plain.path / "model" / name).read_bytes()
    measured = Snapshots(run.path).results()
    assert [found["step"] for found in measured] == [5, 10, STEPS]
    for found in measured:
        assert found["error"] is None
        assert found["questions"] == 10
        assert found["low"] <= found["accuracy"] <= found["high"]
        assert found["thinking_tokens"] <= 16
    assert json.loads((run.path / "manifest.json").read_text())["figures"]["accuracies"] == measured
    assert not [path for path in (run.path / "snapshots").iterdir() if path.is_dir()]
    assert b"questions" in (run.path / "loss.svg").read_bytes()


def test_the_model_with_the_most_right_answers_is_exported(
    ray_session: None, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Snapshots, "best", lambda self: next(iter(self.results()), None))
    run = trainer.train(config(base, tmp_path, export="best"))
    plain = trainer.train(config_of(base, make_traces(tmp_path / "traces.parquet"), tmp_path / "plain"))
    figures = json.loads((run.path / "manifest.json").read_text())["figures"]
    assert figures["exported_step"] == 5
    exported, last = ((r.path / "model" / "model.safetensors").read_bytes() for r in (run, plain))
    assert exported != last
