"""Training for real: Ray Train, DeepSpeed and gloo workers, on a model of a few thousand weights."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from s1ray.config import validate_config
from s1ray.miniature.tokenizer import train_tokenizer
from s1ray.runs import Run, RunError, read_manifest
from s1ray.schemas import Trace, question_id, to_table, write_table
from s1ray.training import loop, trainer
from s1ray.training.config import TrainingConfig
from s1ray.training.metrics import read_metrics

pytestmark = pytest.mark.end_to_end

STEPS = 12


@pytest.fixture(scope="module")
def base_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    folder = tmp_path_factory.mktemp("base")
    tokenizer = train_tokenizer(documents_read=100)
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=len(tokenizer) + 8,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=True,
        max_position_embeddings=512,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    Qwen2ForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def traces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = []
    for number in range(46):
        question = f"What is {number} + 3?"
        rows.append(
            Trace(
                id=f"{question_id(question)}-0",
                question_id=question_id(question),
                sample=0,
                question=question,
                answer=str(number + 3),
                thinking="\n".join(f"Count on: {number + i}" for i in range(number % 9 + 1)),
                attempt=f"Answer: {number + 3}",
                teacher="test",
                thinking_tokens=0,
                attempt_tokens=0,
                finish_reason="stop",
                correct=True,
            )
        )
    path = tmp_path_factory.mktemp("traces") / "traces.parquet"
    write_table(to_table(rows, Trace), path)
    return path


def config_of(base_model: Path, traces: Path, output: Path, **changes: Any) -> TrainingConfig:
    data = {
        "output": str(output),
        "model": str(base_model),
        "traces": str(traces),
        "max_length": 256,
        "epochs": 2,
        "global_batch": 8,
        "optimizer": {"learning_rate": 3e-3},
        "device": "cpu",
        "num_workers": 2,
        "precision": "fp32",
        "export_dtype": "float32",
        "checkpoints": {"every": 4},
        "max_restarts": 0,
    } | changes
    return validate_config(TrainingConfig, data, "test")


@pytest.fixture(scope="module")
def trained(ray_session: None, base_model: Path, traces: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """An undisturbed run on two workers."""
    return trainer.train(config_of(base_model, traces, tmp_path_factory.mktemp("runs") / "two_workers"))


def weights(run: Run) -> dict[str, Any]:
    from safetensors.torch import load_file

    return load_file(run.path / "model" / "model.safetensors")


def losses(run: Run) -> list[float]:
    return [line["loss"] for line in read_metrics(run.path / "metrics.jsonl")]


def test_two_workers_learn_and_record_every_step(trained: Run) -> None:
    lines = read_metrics(trained.path / "metrics.jsonl")
    assert [line["step"] for line in lines] == list(range(1, STEPS + 1))
    assert lines[-1]["loss"] < lines[0]["loss"] - 0.7
    assert all(line["grad_norm"] > 0 for line in lines)
    assert lines[0]["learning_rate"] == 0
    assert max(line["learning_rate"] for line in lines) == pytest.approx(3e-3)
    manifest = read_manifest(trained.path)
    assert manifest is not None
    assert manifest["status"] == "complete"
    assert manifest["rows"] == {"traces": 46, "examples": 46}
    assert manifest["figures"]["steps"] == STEPS


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


def test_one_worker_with_padding_and_accumulation_ends_where_two_packed_ones_do(
    trained: Run, ray_session: None, base_model: Path, traces: Path, tmp_path: Path
) -> None:
    import torch

    changes = {"num_workers": 1, "zero_stage": 0, "packing": False, "micro_batch_tokens": 256}
    one = trainer.train(config_of(base_model, traces, tmp_path / "one_worker", **changes))
    assert losses(one) == pytest.approx(losses(trained), rel=1e-4)
    expected = weights(trained)
    for name, tensor in weights(one).items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-3, atol=1e-4)


def test_a_killed_run_resumes_to_exactly_the_same_weights(
    trained: Run,
    ray_session: None,
    base_model: Path,
    traces: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import torch

    def dies_after_step_6(settings: dict[str, Any]) -> dict[str, Any]:
        def die(finished: int) -> None:
            import ray.train

            if finished == 6 and ray.train.get_context().get_world_rank() == 1:
                os.kill(os.getpid(), signal.SIGKILL)

        return loop.train_worker(settings, after_step=die)

    config = config_of(base_model, traces, tmp_path / "killed")
    with monkeypatch.context() as patch:
        patch.setattr(trainer, "train_worker", dies_after_step_6)
        with pytest.raises(RunError, match="training failed"):
            trainer.train(config)
    assert not (tmp_path / "killed" / "model").exists()

    resumed = trainer.train(config)
    assert resumed.resumed
    assert [line["step"] for line in read_metrics(resumed.path / "metrics.jsonl")] == list(range(1, STEPS + 1))
    assert losses(resumed) == losses(trained)
    expected = weights(trained)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in weights(resumed).items())


def test_all_zero_stages_end_with_the_same_weights(
    trained: Run, ray_session: None, base_model: Path, tmp_path: Path
) -> None:
    import ray
    import torch
    from safetensors.torch import load_file

    examples, store = str(trained.path / "examples.parquet"), str(tmp_path / "store")
    common = {"output": "unused", "model": str(base_model), "traces": "unused", "max_length": 256}

    @ray.remote(num_cpus=1, max_calls=1)
    def run(rank: int) -> dict[str, float]:
        import torch
        from transformers import AutoTokenizer

        from s1ray.training.collate import Dataset, collate
        from s1ray.training.export import export
        from s1ray.training.model import load_engine

        os.environ |= {"RANK": str(rank), "LOCAL_RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "x", "MASTER_PORT": "0"}
        torch.set_num_threads(1)
        torch.distributed.init_process_group("gloo", f"file://{store}", rank=rank, world_size=2)
        cpu = torch.device("cpu")
        dataset = Dataset.read(examples)
        tokenizer = AutoTokenizer.from_pretrained(str(base_model))
        norms = {}
        for precision, stage in [("fp32", 0), ("fp32", 1), ("fp32", 2), ("fp32", 3), ("bf16", 1), ("bf16", 2)]:
            dtype = "float32" if precision == "fp32" else "bfloat16"
            config = TrainingConfig(**common, precision=precision, zero_stage=stage, export_dtype=dtype)
            torch.manual_seed(0)
            engine = load_engine(config, str(base_model), device=cpu, rank=rank, world_size=2)
            for step in range(3):
                # Three micro-batches on the one worker's side, an empty one among the other's.
                mine = [[0, 1], [2], [3]] if rank == 0 else [[4], [], [5, 6]]
                inputs = [collate(dataset, batch, packing=True, flash=False, device=cpu) for batch in mine]
                engine.accumulate(inputs, sum(dataset.trained[:7]))
                norm = engine.step(1e-3 * (step + 1))
            name = f"{precision}_{stage}"
            norms[name] = norm
            export(engine, tokenizer, "<|im_end|>\n", config, tmp_path / name, rank=rank)
        return norms

    norms, other = ray.get([run.remote(0), run.remote(1)])
    assert norms == other
    expected = load_file(tmp_path / "fp32_0" / "model.safetensors")
    for name, norm in norms.items():
        exact = name.startswith("fp32")
        assert norm == pytest.approx(norms["fp32_0"], rel=1e-5 if exact else 0.05)
        found = load_file(tmp_path / name / "model.safetensors")
        assert found.keys() == expected.keys()
        for key, tensor in found.items():
            torch.testing.assert_close(tensor.float(), expected[key], rtol=0, atol=1e-5 if exact else 1e-2)
