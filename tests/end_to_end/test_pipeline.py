"""`s1ray run` with a thinking format of four strings: curation, traces, training, and a served evaluation."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from s1ray.pipelines import Pipeline, load_pipeline
from s1ray.runs import Run
from s1ray.schemas import Evaluation, Question, Trace, read_table
from s1ray.thinking.format import ThinkingFormat
from s1ray.training.data.dataset import Dataset

pytestmark = [pytest.mark.end_to_end, pytest.mark.slow, pytest.mark.usefixtures("ray_session")]

PONDER = {"name": "ponder", "start": "<|im_start|>ponder", "end": "<|im_start|>reply", "end_triggers": ["<|im_end|>"]}
ENGINE = {
    "model": "miniature-base",
    "thinking_format": PONDER,
    "device": "cpu",
    "max_model_len": 256,
    "max_num_seqs": 32,
    "kv_cache_gib": 0.1,
}
CURATE = {
    "output": "unused",
    "sources": [{"kind": "miniature", "size": 300}],
    "quality": {"missing_answer": True},
    "cap_per_domain": 2,
    "difficulty": {
        "kind": "model",
        "models": {"base": {"kind": "vllm", "engine": ENGINE, "thinking": {"max_tokens": 8}, "max_tokens": 40}},
    },
    "selection": {"size": 8},
}
TRACES = {
    "output": "unused",
    "questions": "set by the run",
    "teacher": {"kind": "vllm", "engine": ENGINE, "thinking": {"min_tokens": 4, "max_tokens": 16}, "max_tokens": 48},
    "tokenizer": "miniature-base",
    "truncated": "keep",
}
TRAIN = {
    "output": "unused",
    "model": "miniature-base",
    "thinking_format": PONDER,
    "traces": "set by the run",
    "max_length": 256,
    "unusable_rows": "drop",
    "epochs": 1,
    "device": "cpu",
    "precision": "fp32",
}
EVAL = {
    "output": "unused",
    "benchmark": "miniature",
    "limit": 12,
    "models": [{"label": "sft", "name": "sft", "weights": "set by the run", "thinking_format": PONDER}],
    "sweep": {"max_tokens": [0, 8]},
    "sampling": {"answer_tokens": 16},
}
SERVE = {"models": [{**ENGINE, "name": "sft", "model": "set by the run", "start_attempts": 1}]}


@pytest.fixture
def pipeline(tmp_path: Path) -> Pipeline:
    for name, config in (("curate", CURATE), ("traces", TRACES), ("train", TRAIN), ("eval", EVAL), ("serve", SERVE)):
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(config))

    def file(name: str) -> str:
        return str(tmp_path / f"{name}.yaml")

    served = {"config": file("serve"), "set": {"models.0.model": "{train}/model"}}
    stages = [
        {"stage": "curate", "config": file("curate")},
        {"stage": "traces", "config": file("traces"), "set": {"questions": "{curate}/questions.parquet"}},
        {"stage": "train", "config": file("train"), "set": {"traces": "{traces}/traces.parquet"}},
        {"stage": "eval", "config": file("eval"), "set": {"models.0.weights": "{train}/model"}, "serve": served},
    ]
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump({"output": str(tmp_path / "runs"), "stages": stages}))
    return load_pipeline(str(recipe))


def test_a_format_of_four_strings_goes_through_every_stage(pipeline: Pipeline) -> None:
    runs: dict[str, Run] = {cell.step.label: finish()[0] for cell, finish in pipeline.steps()}
    fmt = ThinkingFormat.model_validate(PONDER)

    questions = read_table(runs["curate"].path / "questions.parquet", Question).to_pylist()
    assert len(questions) == 8
    assert all(question["solved_by"] is not None for question in questions)

    traces = read_table(runs["traces"].path / "traces.parquet", Trace).to_pylist()
    assert {trace["question_id"] for trace in traces} <= {question["id"] for question in questions}
    for trace in traces:
        assert trace["thinking"].strip()
        assert fmt.start not in trace["thinking"]
        assert fmt.end not in trace["thinking"]

    assert_trained_on(fmt, runs["train"])

    rows = read_table(runs["eval"].path / "evaluations.parquet", Evaluation).to_pylist()
    assert len(rows) == 2 * 12
    assert all(row["error"] is None and row["thinking_tokens"] <= row["max_thinking_tokens"] for row in rows)
    # Delimiters that are not the format's would leave all of the response in one part.
    assert any(row["thinking_tokens"] > 0 for row in rows)
    assert all(row["answer_tokens"] > 0 for row in rows)

    assert all(finish()[0].skipped for _, finish in pipeline.steps())


def assert_trained_on(fmt: ThinkingFormat, run: Run) -> None:
    """Every example has the format's delimiters in the part that is trained on, and the model is exported."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(run.path / "model")
    examples = Dataset.read(run.path / "examples.arrow")
    assert examples
    for example in examples:
        trained = [i for i, mask in zip(example.input_ids, example.loss_mask, strict=True) if mask]
        text = tokenizer.decode(trained)
        assert text.startswith(fmt.start)
        assert fmt.end in text
