"""What happens before a cluster is touched: reading, checking, planning."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from s1ray.config import ConfigError
from s1ray.runs import OtherRunError, Run
from s1ray.schemas import Trace, to_table, write_table
from s1ray.training import trainer
from s1ray.training.config import TrainingConfig
from s1ray.training.data.preparation import prepare
from s1ray.training.monitoring.metrics import MetricsFile, read_metrics
from s1ray.training.planning import hardware
from s1ray.training.planning.plan import Rows, plan
from s1ray.training.trainer import train


def trace(number: int, **changes: Any) -> Trace:
    fields: dict[str, Any] = {
        "id": f"q{number}-0",
        "question_id": f"q{number}",
        "sample": 0,
        "question": f"What is {number} + 1?",
        "thinking": "count " * (number % 5 + 1),
        "attempt": str(number + 1),
        "teacher": "test",
        "thinking_tokens": 0,
        "attempt_tokens": 0,
        "finish_reason": "stop",
    }
    return Trace(**(fields | changes))


@pytest.fixture
def config(tmp_path: Path, model_folder: Path) -> Any:
    def make(rows: list[Trace], **changes: Any) -> TrainingConfig:
        write_table(to_table(rows, Trace), tmp_path / "traces.parquet")
        fields: dict[str, Any] = {
            "output": str(tmp_path / "run"),
            "model": str(model_folder),
            "traces": str(tmp_path / "traces.parquet"),
            "max_length": 400,
            "precision": "fp32",
            "num_workers": 2,
        }
        return TrainingConfig(**(fields | changes))

    return make


def test_the_plan_tells_steps_warm_up_tokens_and_memory_and_starts_nothing(config: Any, tmp_path: Path) -> None:
    lines = plan(config([trace(i) for i in range(50)]))
    assert lines[0].startswith("50 of 50 traces, ")
    assert "20 optimizer steps (5 epochs of 4), 1 of warm-up" in lines[1]
    assert "2 worker(s)" in lines[2]
    assert "MiB a worker for 0.0M parameters" in lines[3]
    assert "moment of the " in lines[4]
    assert "on each node of 2 worker(s)" in lines[5]
    assert lines[6] == "  it fits"
    assert not (tmp_path / "run").exists()


def test_the_plan_names_what_would_make_a_run_fit(config: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "_cluster_nodes", lambda: None)
    monkeypatch.setattr(hardware, "_own_memory", lambda: 11 * 2**28)
    rows = [trace(i, thinking="count " * 500) for i in range(20)]
    fits = config(rows, max_length=4000, micro_batch_tokens=4000)
    assert "  it fits" in plan(fits)
    lines = plan(config(rows, max_length=4000, micro_batch_tokens=64000))
    verdict = lines.index("  it does NOT fit; it would with")
    advice = [line.strip() for line in lines[verdict + 1 :]]
    longest = int(lines[0].rpartition(" ")[2].replace(",", ""))
    assert any(line.startswith(f"micro_batch_tokens: {longest}, max_length: {longest} (") for line in advice)


def test_the_estimate_is_of_the_largest_micro_batch_of_all_steps(config: Any) -> None:
    rows = Rows([100] * 30 + [900, 850], [50] * 30 + [700, 840])
    packed = rows.workload(config([trace(0)], max_length=1000, global_batch=4, num_workers=1))
    assert 900 <= packed.tokens <= 1000
    assert packed.several_examples
    assert packed.accumulates
    padded = rows.workload(config([trace(0)], max_length=1000, global_batch=4, num_workers=1, packing=False))
    assert not padded.several_examples
    shared = rows.workload(config([trace(0)], max_length=1000, global_batch=4, num_workers=2, sequence_parallel=2))
    assert shared.tokens == -(-packed.tokens // 2)


def test_too_long_rows_are_refused_with_their_ids(config: Any) -> None:
    rows = [trace(0), trace(1, thinking="x" * 500), trace(2)]
    with pytest.raises(ConfigError, match=r"1 unusable row\(s\): 1 too_long\n  q1-0: too_long"):
        prepare(config(rows))


def test_unusable_rows_are_dropped_when_asked_and_told_by_the_plan(config: Any) -> None:
    settings = config([trace(0), trace(1, finish_reason="length"), trace(2)], unusable_rows="drop")
    training_set = prepare(settings)
    assert [example.id for example in training_set.examples] == ["q0-0", "q2-0"]
    assert [row.id for row in training_set.unusable] == ["q1-0"]
    assert any("q1-0: cut_by_teacher" in line for line in plan(settings))


def test_a_file_without_any_usable_row_is_refused(config: Any) -> None:
    with pytest.raises(ConfigError, match="no usable row of 1"):
        prepare(config([trace(0, attempt="")], unusable_rows="drop"))


def test_an_id_that_occurs_twice_is_refused(config: Any) -> None:
    with pytest.raises(ConfigError, match="id 'q1-0' occurs twice"):
        prepare(config([trace(1), trace(1)]))


def test_a_model_without_tokenizer_is_refused_by_name(config: Any, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="no tokenizer could be loaded"):
        prepare(config([trace(0)], model=str(tmp_path / "empty")))


def test_a_format_that_the_tokenizer_cannot_express_is_refused(config: Any) -> None:
    with pytest.raises(ConfigError, match="thinking_format deepseek_r1"):
        prepare(config([trace(0)], thinking_format="deepseek_r1"))


def test_held_out_rows_are_whole_questions_and_not_trained_on(config: Any) -> None:
    rows = [trace(i, id=f"q{i // 2}-{i % 2}", question_id=f"q{i // 2}") for i in range(20)]
    training_set = prepare(config(rows, validation={"fraction": 0.2}))
    held_out = {example.id.split("-")[0] for example in training_set.held_out}
    assert (len(training_set.held_out), len(held_out)) == (4, 2)
    assert len(training_set.examples) == 16
    assert not held_out & {example.id.split("-")[0] for example in training_set.examples}
    again = prepare(config(rows, validation={"fraction": 0.2}))
    assert again.held_out == training_set.held_out
    other = prepare(config(rows, validation={"fraction": 0.2}, seed=1))
    assert other.held_out != training_set.held_out


def test_the_plan_tells_what_is_held_out_and_plans_for_the_rest(config: Any) -> None:
    lines = plan(config([trace(i) for i in range(50)], validation={"size": 2}, global_batch=8, epochs=1))
    assert lines[0].startswith("48 of 50 traces, ")
    assert lines[1] == "2 traces held out, to measure the loss on"
    assert lines[2].startswith("6 optimizer steps")


def test_holding_out_all_rows_is_refused_with_the_field(config: Any) -> None:
    with pytest.raises(ConfigError, match=r"would hold out all 2 usable rows .* lower validation\.size"):
        prepare(config([trace(0), trace(1)], validation={"size": 2}))


def test_a_missing_tracking_package_is_told_before_anything_is_made(
    config: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"tracking\.mlflow: the package mlflow is not installed"):
        train(config([trace(0)], tracking={"tensorboard": False, "mlflow": {"experiment": "s1"}}))
    assert not (tmp_path / "run").exists()


def test_a_run_may_go_on_with_other_workers_or_watched_otherwise_but_not_as_another_run(config: Any) -> None:
    rows = [trace(0), trace(1)]

    def run(**changes: Any) -> Run:
        return Run("train", config(rows, **changes))

    with run():
        pass
    assert run(num_workers=4, sequence_parallel=2, divergence={"action": "skip"}).skipped
    assert run(tracking={"tensorboard": False}, checkpoints={"every": 7}).skipped
    less_at_once = {"gradient_checkpointing": True, "logits_chunk": 64, "packing": False, "attention": "segments"}
    assert run(**less_at_once, micro_batch_tokens=40000).skipped
    with pytest.raises(OtherRunError, match="differs in validation"):
        run(validation={"size": 1})


def test_metrics_of_steps_after_the_checkpoint_are_removed_on_resume(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps({"step": step}) + "\n" for step in (1, 2, 3)) + '{"step": 4, "lo')
    assert [line["step"] for line in read_metrics(path)] == [1, 2, 3]
    metrics = MetricsFile(path, finished_steps=2)
    metrics.write({"step": 3, "again": True})
    metrics.close()
    assert read_metrics(path) == [{"step": 1}, {"step": 2}, {"step": 3, "again": True}]


def test_a_complete_run_can_still_be_uploaded(config: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    trained, uploaded = [], []
    monkeypatch.setattr(trainer, "check_upload", lambda settings: None)
    monkeypatch.setattr(trainer, "upload", lambda settings, folder: uploaded.append((settings.push_to, folder)))
    stage = dataclasses.replace(train, work=lambda settings, run: trained.append(run.path))
    settings = config([trace(0)])
    run = stage(settings)
    assert uploaded == []
    again = stage(settings.model_copy(update={"push_to": "org/name"}))
    assert again.skipped
    assert trained == [run.path]
    assert uploaded == [("org/name", run.path / "model")]
