"""Training for real: Ray Train, DeepSpeed and gloo workers, on a model of a few thousand weights."""

from __future__ import annotations

import json
import math
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from s1ray.config import to_yaml
from s1ray.manifests import RunError, read_manifest
from s1ray.runs import Run
from s1ray.training import loop, trainer
from s1ray.training.checkpoint.folder import UNIVERSAL_FOLDER
from s1ray.training.config import TrainingConfig
from s1ray.training.interruption import STOP_FILE
from s1ray.training.monitoring.metrics import read_metrics
from tests.support.training_runs import STEPS, config_of, losses, make_base_model, make_traces, weights

if TYPE_CHECKING:
    from collections.abc import Mapping

pytestmark = pytest.mark.end_to_end

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def base_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base_model(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def traces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_traces(tmp_path_factory.mktemp("traces") / "traces.parquet")


@pytest.fixture(scope="module")
def trained(ray_session: None, base_model: Path, traces: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """An undisturbed run on two workers."""
    return trainer.train(config_of(base_model, traces, tmp_path_factory.mktemp("runs") / "two_workers"))


def test_two_workers_learn_and_record_every_step(trained: Run) -> None:
    lines = read_metrics(trained.path / "metrics.jsonl")
    assert [line["step"] for line in lines] == list(range(1, STEPS + 1))
    first, *_, last = losses(trained)
    assert first is not None
    assert last is not None
    assert last < first - 0.7
    assert all((line["grad_norm"] or 0) > 0 for line in lines)
    assert lines[0]["learning_rate"] == 0
    assert max(line["learning_rate"] for line in lines) == pytest.approx(3e-3)
    manifest = read_manifest(trained.path)
    assert manifest is not None
    assert manifest["status"] == "complete"
    assert manifest["rows"] == {"traces": 46, "examples": 46}
    assert manifest["figures"]["steps"] == STEPS
    card = (trained.path / "model" / "README.md").read_text()
    assert "| optimizer steps | 12 |" in card
    assert "| examples | 46 (traces.parquet) |" in card


def test_a_finished_run_is_skipped(trained: Run, base_model: Path, traces: Path) -> None:
    again = trainer.train(config_of(base_model, traces, trained.path))
    assert again.skipped


def test_the_exported_model_loads_in_transformers_and_has_learned(trained: Run, base_model: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = trained.path / "model"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    exported = AutoModelForCausalLM.from_pretrained(folder)
    assert exported.dtype == torch.float32
    stop = tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert stop in exported.generation_config.eos_token_id
    messages = [{"role": "user", "content": "What is 4 + 3?"}]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    text += "<|im_start|>think\nCount on: 4\n<|im_start|>answer\nAnswer: 7<|im_end|>\n"
    ids = tokenizer(text, return_tensors="pt", add_special_tokens=False)["input_ids"]
    base = AutoModelForCausalLM.from_pretrained(base_model)
    with torch.no_grad():
        assert exported(ids, labels=ids).loss < base(ids, labels=ids).loss


@pytest.mark.slow
@pytest.mark.timeout(700)
def test_resumption_after_the_deaths_of_a_worker_a_node_and_the_driver_is_exact(
    trained: Run, base_model: Path, traces: Path, tmp_path: Path
) -> None:
    import torch

    kills = draw_kills()
    (tmp_path / "marks").mkdir()
    (tmp_path / "kills.json").write_text(json.dumps(kills))
    config = config_of(base_model, traces, tmp_path / "killed", checkpoints={"every": 3}, max_restarts=3)
    (tmp_path / "train.yaml").write_text(to_yaml(config))

    def start() -> tuple[int, str]:
        # Ray's sockets lie in its folder, and their names may not be long.
        with tempfile.TemporaryDirectory(prefix="s1ray-", dir="/tmp", ignore_cleanup_errors=True) as ray_folder:
            command = [sys.executable, "-m", "tests.support.killed_training"]
            command += [str(tmp_path / "train.yaml"), str(tmp_path / "kills.json")]
            environment = os.environ | {"RAY_TMPDIR": ray_folder}
            with (tmp_path / "log").open("w") as log:
                done = subprocess.run(command, cwd=ROOT, env=environment, stdout=log, stderr=log, timeout=300)
            marks = sorted(mark.name for mark in (tmp_path / "marks").iterdir())
            return done.returncode, f"{kills} {marks}\n{(tmp_path / 'log').read_text()[-4000:]}"

    status, told = start()
    assert status == -signal.SIGKILL, told
    manifest = read_manifest(config.output)
    assert manifest is not None
    assert manifest["status"] == "running"
    assert not (tmp_path / "killed" / "model").exists()
    status, told = start()
    assert status == 0, told
    for mark in ("worker_killed", "node_killed", "driver_killed", "saved_on_notice"):
        assert (tmp_path / "marks" / mark).exists(), f"{mark}: {told}"

    resumed = Run("train", config, {"traces": traces, "model": base_model})
    assert resumed.skipped
    assert losses(resumed) == losses(trained), told
    expected = weights(trained)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in weights(resumed).items()), told


def draw_kills() -> dict[str, int]:
    """The number of steps after which each victim dies: other steps in every test run."""
    while True:
        kills = dict(zip(("worker", "node", "driver"), random.sample(range(2, STEPS - 1), 3), strict=True))
        # The node's last checkpoint should be due to the notice alone, which comes a step earlier. Nothing else may die
        # between the two: no worker can start again on a node that is about to be taken away.
        if kills["node"] % 3 and kills["node"] - 1 not in kills.values():
            return kills


@pytest.mark.slow
def test_a_run_that_resumes_with_fewer_and_with_more_workers_ends_with_the_same_weights(
    trained: Run,
    ray_session: None,
    base_model: Path,
    traces: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import torch

    def train(num_workers: int, stop_after: int | None) -> Run:
        def stops(settings: Mapping[str, object]) -> loop.Outcome:
            def after_step(finished: int) -> None:
                if finished == stop_after:
                    Path(str(settings["output"]), STOP_FILE).touch()
                    time.sleep(2.5)

            return loop.train_worker(settings, after_step=after_step)

        with monkeypatch.context() as patch:
            patch.setattr(trainer, "train_worker", stops)
            return trainer.train(config_of(base_model, traces, tmp_path / "resized", num_workers=num_workers))

    with pytest.raises(RunError, match="stopped as asked, with a checkpoint after step 5; run the same command"):
        train(2, stop_after=4)
    with pytest.raises(RunError, match="after step 9"):
        train(1, stop_after=8)
    resized = train(2, stop_after=None)
    lines = read_metrics(resized.path / "metrics.jsonl")
    assert [(line["step"], line["workers"]) for line in lines] == [
        (step, 1 if 5 < step <= 9 else 2) for step in range(1, STEPS + 1)
    ]
    assert resized.figures["workers"] == [1, 2]
    assert not (resized.path / UNIVERSAL_FOLDER).exists()
    assert losses(resized) == pytest.approx(losses(trained), rel=1e-4)
    expected = weights(trained)
    for name, tensor in weights(resized).items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-3, atol=1e-4)


def diverging(base_model: Path, traces: Path, output: Path, **changes: object) -> TrainingConfig:
    """The loss soon rises again with so high a learning rate."""
    optimizer = {"learning_rate": 0.5, "schedule": "constant"}
    return config_of(base_model, traces, output, optimizer=optimizer, zero_stage=3, **changes)


@pytest.mark.slow
def test_a_diverging_run_skips_steps_and_exports_its_best_model(
    ray_session: None, base_model: Path, traces: Path, tmp_path: Path
) -> None:
    config = diverging(
        base_model,
        traces,
        tmp_path / "run",
        validation={"size": 6, "every": 2, "export": "best"},
        divergence={"action": "skip", "loss_factor": 1.5, "window": 2, "max_skips": 12},
    )
    run = trainer.train(config)
    lines = read_metrics(run.path / "metrics.jsonl")
    skipped = [line["step"] for line in lines if "skipped" in line]
    assert skipped
    assert [entry["step"] for entry in run.figures["skipped_steps"]] == skipped
    assert all(len(entry["rows"]) == 8 for entry in run.figures["skipped_steps"])
    assert run.rows == {"traces": 46, "examples": 40, "held_out": 6}
    measured = {line["step"]: line["validation_loss"] for line in lines if "validation_loss" in line}
    assert list(measured) == [2, 4, 6, 8, 10]
    best = min(measured, key=lambda step: measured[step] or math.inf)
    assert run.figures["exported_step"] == best != 10
    assert run.figures["best_loss"] == measured[best]
    assert validation_loss(run) == pytest.approx(measured[best], rel=1e-4)
    assert (run.path / "loss.svg").stat().st_size > 2000
    assert any((run.path / "tensorboard").iterdir())


@pytest.mark.slow
def test_a_diverging_run_stops_and_names_the_step(
    ray_session: None, base_model: Path, traces: Path, tmp_path: Path
) -> None:
    config = diverging(base_model, traces, tmp_path / "run", divergence={"loss_factor": 1.5, "window": 2})
    with pytest.raises(RunError, match=r"diverged: step \d+: the loss is .* times the median .*look at its rows"):
        trainer.train(config)


def validation_loss(run: Run) -> float:
    """Measured on the exported model, by transformers alone."""
    import torch
    from transformers import AutoModelForCausalLM

    from s1ray.training.data.collate import Dataset

    model = AutoModelForCausalLM.from_pretrained(run.path / "model")
    held_out = Dataset.read(str(run.path / "validation.arrow"))
    total = 0.0
    for tokens, labels in zip(held_out.tokens, held_out.labels, strict=True):
        with torch.no_grad():
            logits = model(input_ids=torch.from_numpy(tokens).unsqueeze(0)).logits[0]
        total += torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels), reduction="sum").item()
    return total / sum(held_out.trained)
