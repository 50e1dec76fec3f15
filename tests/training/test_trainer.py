"""The stage without a cluster: reading, checking and planning before it, and what its failures look like."""

from __future__ import annotations

import dataclasses
import errno
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from s1ray.config import ConfigError
from s1ray.errors import MissingError, S1rayError
from s1ray.manifests import RunError
from s1ray.runs import OtherRunError, Run
from s1ray.schemas import Trace, to_table, write_table
from s1ray.storage import Location
from s1ray.training import trainer
from s1ray.training.config import TrainingConfig
from s1ray.training.data.preparation import prepare
from s1ray.training.planning import hardware
from s1ray.training.planning.plan import Rows, plan
from s1ray.training.startup import Workers
from s1ray.training.trainer import train
from tests.support.training_runs import changed, trace, training_config
from tests.training.conftest import QWEN_TEMPLATE, MakeTokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


MakeConfig = Callable[..., TrainingConfig]


def row(number: int, **changes: str) -> Trace:
    plain = trace(f"q{number}-0", f"What is {number} + 1?", "count " * (number % 5 + 1), str(number + 1))
    return changed(plain, **changes)


@pytest.fixture
def config(tmp_path: Path, model_folder: Path) -> MakeConfig:
    def make(rows: list[Trace], **changes: object) -> TrainingConfig:
        write_table(to_table(rows, Trace), tmp_path / "traces.parquet")
        settings = {
            "output": str(tmp_path / "run"),
            "model": str(model_folder),
            "traces": str(tmp_path / "traces.parquet"),
            "max_length": 400,
            "precision": "fp32",
            "num_workers": 2,
        }
        return training_config(**(settings | changes))

    return make


def test_the_plan_reports_steps_warm_up_tokens_and_memory_and_starts_nothing(
    config: MakeConfig, tmp_path: Path
) -> None:
    lines = plan(config([row(i) for i in range(50)]))
    assert lines[0].startswith("50 of 50 traces, ")
    assert "20 optimizer steps (5 epochs of 4), 1 of warm-up" in lines[1]
    assert "2 worker(s)" in lines[2]
    assert lines[3].startswith("workers busy ")
    assert "MiB a worker for 0.0M parameters" in lines[4]
    assert "moment of the " in lines[5]
    assert "on each node of 2 worker(s)" in lines[6]
    assert lines[7] == "  it fits"
    assert not (tmp_path / "run").exists()


def test_the_plan_names_what_would_make_a_run_fit(config: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "_cluster_nodes", lambda labels: None)
    monkeypatch.setattr(hardware, "_own_memory", lambda: 11 * 2**28)
    rows = [row(i, thinking="count " * 500) for i in range(20)]
    fits = config(rows, max_length=4000, micro_batch_tokens=4000)
    assert "  it fits" in plan(fits)
    lines = plan(config(rows, max_length=4000, micro_batch_tokens=64000))
    verdict = lines.index("  it does NOT fit; it would with")
    advice = [line.strip() for line in lines[verdict + 1 :]]
    longest = int(lines[0].rpartition(" ")[2].replace(",", ""))
    assert any(line.startswith(f"micro_batch_tokens: {longest}, max_length: {longest} (") for line in advice)


def test_the_estimate_is_of_the_largest_micro_batch_of_all_steps(config: MakeConfig) -> None:
    rows = Rows([100] * 30 + [900, 850], [50] * 30 + [700, 840])
    packed = rows.workload(config([row(0)], max_length=1000, global_batch=4, num_workers=1))
    assert 900 <= packed.tokens <= 1000
    assert packed.several_examples
    assert packed.accumulates
    padded = rows.workload(config([row(0)], max_length=1000, global_batch=4, num_workers=1, packing=False))
    assert not padded.several_examples
    shared = rows.workload(config([row(0)], max_length=1000, global_batch=4, num_workers=2, sequence_parallel=2))
    assert shared.tokens == -(-packed.tokens // 2)


def test_missing_traces_are_noticed_before_the_hub_is_asked_for_a_model(
    config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("socket.getaddrinfo", lambda *arguments, **options: pytest.fail("asked the network"))
    settings = config([row(0)], model="nobody/nothing")
    with pytest.raises(MissingError, match="nowhere"):
        plan(settings.model_copy(update={"traces": "nowhere.parquet"}))


def test_too_long_rows_are_refused_with_their_ids(config: MakeConfig) -> None:
    rows = [row(0), row(1, thinking="x" * 500), row(2)]
    with pytest.raises(ConfigError, match=r"1 unusable row\(s\): 1 too_long\n  q1-0: too_long"):
        prepare(config(rows))


def test_unusable_rows_are_dropped_on_request_and_listed_in_the_plan(config: MakeConfig) -> None:
    settings = config([row(0), row(1, finish_reason="length"), row(2)], unusable_rows="drop")
    training_set = prepare(settings)
    assert [example.id for example in training_set.examples] == ["q0-0", "q2-0"]
    assert [found.id for found in training_set.unusable.first] == ["q1-0"]
    assert any("q1-0: cut_by_teacher" in line for line in plan(settings))


def test_a_file_without_any_usable_row_is_refused(config: MakeConfig) -> None:
    with pytest.raises(ConfigError, match="no usable row of 1"):
        prepare(config([row(0, attempt="")], unusable_rows="drop"))


def test_an_id_that_occurs_twice_is_refused(config: MakeConfig) -> None:
    with pytest.raises(ConfigError, match="id 'q1-0' occurs twice"):
        prepare(config([row(1), row(1)]))


def test_a_model_without_tokenizer_is_refused_by_name(config: MakeConfig, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="no tokenizer could be loaded"):
        prepare(config([row(0)], model=str(tmp_path / "empty")))


def test_a_format_that_the_tokenizer_cannot_express_is_refused(config: MakeConfig) -> None:
    with pytest.raises(ConfigError, match="thinking_format deepseek_r1"):
        prepare(config([row(0)], thinking_format="deepseek_r1"))


def test_held_out_rows_are_whole_questions_and_not_trained_on(config: MakeConfig) -> None:
    rows = [row(i, id=f"q{i // 2}-{i % 2}", question_id=f"q{i // 2}") for i in range(20)]
    training_set = prepare(config(rows, validation={"fraction": 0.2}))
    held_out = {example.id.split("-")[0] for example in training_set.held_out}
    assert (len(training_set.held_out), len(held_out)) == (4, 2)
    assert len(training_set.examples) == 16
    assert not held_out & {example.id.split("-")[0] for example in training_set.examples}
    again = prepare(config(rows, validation={"fraction": 0.2}))
    assert list(again.held_out) == list(training_set.held_out)
    other = prepare(config(rows, validation={"fraction": 0.2}, seed=1))
    assert list(other.held_out) != list(training_set.held_out)


def test_the_plan_reports_what_is_held_out_and_plans_for_the_rest(config: MakeConfig) -> None:
    lines = plan(config([row(i) for i in range(50)], validation={"size": 2}, global_batch=8, epochs=1))
    assert lines[0].startswith("48 of 50 traces, ")
    assert lines[1] == "2 traces held out to measure the loss on"
    assert lines[2].startswith("6 optimizer steps")


def test_a_missing_tracking_package_is_reported_before_anything_is_written(
    config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"tracking\.mlflow: the package mlflow is not installed"):
        train(config([row(0)], tracking={"tensorboard": False, "mlflow": {"experiment": "s1"}}))
    assert not (tmp_path / "run").exists()


def test_a_run_may_resume_with_other_workers_or_tracking_but_not_as_another_run(config: MakeConfig) -> None:
    rows = [row(0), row(1)]

    def run(**changes: object) -> Run:
        return Run("train", config(rows, **changes))

    with run():
        pass
    assert run(num_workers=4, sequence_parallel=2, divergence={"action": "skip"}).skipped
    assert run(tracking={"tensorboard": False}, checkpoints={"every": 7}).skipped
    needs_less: dict[str, object] = {
        "gradient_checkpointing": True,
        "logits_chunk": 64,
        "packing": False,
        "attention": "segments",
    }
    assert run(**needs_less, micro_batch_tokens=40000).skipped
    with pytest.raises(OtherRunError, match="differs in validation"):
        run(validation={"size": 1})


def test_a_complete_run_can_still_be_uploaded(config: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[Location] = []
    uploaded: list[tuple[str | None, Path]] = []
    monkeypatch.setattr(trainer, "check_upload", lambda settings: None)
    monkeypatch.setattr(trainer, "upload", lambda settings, folder: uploaded.append((settings.push_to, folder)))
    stage = dataclasses.replace(train, work=lambda settings, run: trained.append(run.path))
    settings = config([row(0)])
    run = stage(settings)
    assert uploaded == []
    again = stage(settings.model_copy(update={"push_to": "org/name"}))
    assert again.skipped
    assert trained == [run.path]
    assert uploaded == [("org/name", run.path / "model")]


def failed(config: MakeConfig, monkeypatch: pytest.MonkeyPatch, **errors: Exception) -> pytest.ExceptionInfo[Exception]:
    """What the stage raises where Ray Train's workers fail so."""
    import ray.train

    failures = dict(enumerate(errors.values()))

    class Failing:
        def fit(self) -> None:
            raise ray.train.WorkerGroupError("Traceback of a worker", failures)

    monkeypatch.setattr(trainer, "_trainer", lambda settings, output, workers: Failing())
    with pytest.raises(Exception) as raised:
        trainer._fit(config([row(0)]), Path("runs/x"), Workers(2, {"CPU": 1}))
    return raised


def test_what_users_can_fix_on_the_workers_arrives_as_one_message(
    config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = RuntimeError("Connection closed by peer")
    raised = failed(config, monkeypatch, first=lost, second=RunError("disk full"), third=RunError("disk full"))
    assert raised.type is RunError
    assert str(raised.value).startswith("runs/x: training failed: worker 1, 2: disk full\nrun the same command again")


def test_ray_train_places_the_workers_by_their_labels(config: MakeConfig, tmp_path: Path) -> None:
    settings = config([row(0)])
    workers = Workers(2, {"CPU": 1.0})
    assert trainer._trainer(settings, tmp_path, workers).scaling_config.label_selector is None
    labelled = dataclasses.replace(workers, node_labels={"s1ray/role": "train"})
    scaling = trainer._trainer(settings, tmp_path, labelled).scaling_config
    assert scaling._label_selector_per_worker(2) == [{"s1ray/role": "train"}] * 2


def test_a_worker_that_died_is_named(config: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    from ray.exceptions import RayActorError

    raised = failed(
        config, monkeypatch, first=RayActorError(error_msg="the node is gone"), second=RuntimeError("reset by peer")
    )
    assert raised.type is RunError
    assert "worker 0: the node is gone" in str(raised.value)
    assert "reset" not in str(raised.value)


def test_a_full_disk_of_the_run_is_told_in_words(config: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    full = OSError(errno.ENOSPC, "No space left on device", "runs/x/metrics.jsonl")
    raised = failed(config, monkeypatch, first=full, second=RuntimeError("reset by peer"))
    assert raised.type is RunError
    assert "worker 0: [Errno 28] No space left on device: 'runs/x/metrics.jsonl'; make room" in str(raised.value)


def test_a_bug_on_a_worker_keeps_its_traceback(config: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    raised = failed(config, monkeypatch, first=TypeError("unsupported operand"))
    assert not isinstance(raised.value, S1rayError)
    assert "Traceback of a worker" in str(raised.value)


def test_another_tokenizer_is_used_and_counts_as_an_input(
    config: MakeConfig, tmp_path: Path, make_tokenizer: MakeTokenizer, tokenizer: PreTrainedTokenizerBase
) -> None:
    without_system = tokenizer.chat_template[tokenizer.chat_template.index("{%- for") :]
    make_tokenizer(tokenizer.all_special_tokens, without_system).save_pretrained(tmp_path / "tokenizer")
    rows = [row(4)]
    plain, changed = config(rows), config(rows, tokenizer=str(tmp_path / "tokenizer"))
    plan(changed)
    (one,), (another,) = prepare(plain).examples, prepare(changed).examples
    assert one.input_ids[-len(another.input_ids) :] == another.input_ids
    assert len(one.input_ids) > len(another.input_ids)
    assert set(trainer.inputs(plain)) == {"traces", "model"}
    assert trainer.inputs(changed)["tokenizer"] == str(tmp_path / "tokenizer")


def test_a_tokenizer_with_ids_beyond_the_embeddings_is_refused_before_anything_starts(
    config: MakeConfig, tmp_path: Path, make_tokenizer: MakeTokenizer, tokenizer: PreTrainedTokenizerBase
) -> None:
    special = ["<|im_end|>", "<|im_start|>", *(f"<extra {number}>" for number in range(20))]
    make_tokenizer(special, tokenizer.chat_template).save_pretrained(tmp_path / "large")
    with pytest.raises(ConfigError, match=r"token ids up to 277, but model .* has only 272 embedding rows"):
        train(config([row(0)], tokenizer=str(tmp_path / "large")))
    assert not (tmp_path / "run").exists()


def test_a_tokenizer_that_is_not_there_is_refused_by_name(config: MakeConfig, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"tokenizer .*empty: no tokenizer could be loaded"):
        prepare(config([row(0)], tokenizer=str(tmp_path / "empty")))


def test_a_row_with_an_id_beyond_the_models_own_embeddings_is_refused(
    config: MakeConfig, tmp_path: Path, model_folder: Path, make_tokenizer: MakeTokenizer
) -> None:
    tokenizer = make_tokenizer(["<|im_end|>", *(f"<{n}>" for n in range(30)), "<|im_start|>"], QWEN_TEMPLATE)
    shutil.copytree(model_folder, tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    with pytest.raises(ConfigError, match=r"makes token id 287 of the rows, but the model has only 272 embedding rows"):
        plan(config([row(0)], model=str(tmp_path / "model")))
