"""What training exports is one model to everybody: vLLM and transformers give the same greedy ids.

The packaged base model is trained for a few steps on two workers under ZeRO-3, so that what is exported was gathered
from their parts, and has left the base's bf16 grid. In fp32 two implementations differ in the last digits, which may
turn the choice between two tokens that are as good as equal: only that is forgiven, and checked to be so.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from s1ray.config import validate_config
from s1ray.generation import GenerationRequest, complete_all
from s1ray.miniature import BASE_MODEL_DIR
from s1ray.miniature.pool import build_benchmark
from s1ray.miniature.teacher import ProceduralTeacher
from s1ray.models import EngineConfig
from s1ray.schemas import Trace, to_table, write_table
from s1ray.training import trainer
from s1ray.training.config import TrainingConfig

pytestmark = pytest.mark.end_to_end

PROMPTS = 100
NEW_TOKENS = 48
TIE = 1e-4
"""Two tokens whose logits differ by less are as good as equal."""


@pytest.fixture(scope="module")
def exported(ray_session: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("parity")
    teacher = ProceduralTeacher()
    rows = []
    for question in build_benchmark(PROMPTS + 48)[PROMPTS:]:
        thinking, attempt = teacher.solve(question)
        rows.append(
            Trace(
                id=f"{question.id}-0",
                question_id=question.id,
                sample=0,
                question=question.question,
                thinking=thinking,
                attempt=attempt,
                teacher="procedural",
                thinking_tokens=0,
                attempt_tokens=0,
                finish_reason="stop",
            )
        )
    write_table(to_table(rows, Trace), folder / "traces.parquet")
    settings = {
        "output": str(folder / "run"),
        "model": "miniature-base",
        "traces": str(folder / "traces.parquet"),
        "max_length": 1024,
        "epochs": 1,
        "optimizer": {"learning_rate": 1e-3},
        "device": "cpu",
        "num_workers": 2,
        "zero_stage": 3,
        "precision": "fp32",
        "export_dtype": "float32",
        "checkpoints": {"every": None},
    }
    run = trainer.train(validate_config(TrainingConfig, settings, "test"))
    return Path(run.path / "model")


@pytest.fixture(scope="module")
def prompts(exported: Path) -> list[list[int]]:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(exported)
    texts = [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": question.question}], tokenize=False, add_generation_prompt=True
        )
        for question in build_benchmark(PROMPTS + 48)[:PROMPTS]
    ]
    return [list(ids) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]]


def ids_of_vllm(folder: Path, prompts: list[list[int]]) -> list[list[int]]:
    from s1ray.generation.vllm import VLLMGenerator

    async def generate() -> dict[str, list[int]]:
        config = EngineConfig(model=str(folder), device="cpu", dtype="float32", max_model_len=1024, kv_cache_gib=0.25)
        generator = VLLMGenerator(config)
        requests = [
            GenerationRequest(id=str(i), prompt_ids=ids, temperature=0.0, max_tokens=NEW_TOKENS)
            for i, ids in enumerate(prompts)
        ]
        try:
            rows = {}
            async for row in complete_all(generator, requests, concurrency=32):
                assert row.error is None, row.error
                rows[row.id] = list(row.output_ids or ())
            return rows
        finally:
            await generator.close()

    found = asyncio.run(generate())
    return [found[str(i)] for i in range(len(prompts))]


def ids_of_transformers(model: Any, prompts: list[list[int]]) -> list[list[int]]:
    """Greedy, prompts of equal length together, so that none is padded."""
    import torch

    stops = set(model.generation_config.eos_token_id)
    found: dict[int, list[int]] = {}
    for length in sorted({len(ids) for ids in prompts}):
        members = [i for i, ids in enumerate(prompts) if len(ids) == length]
        batch = torch.tensor([prompts[i] for i in members])
        with torch.no_grad():
            output = model.generate(
                batch, attention_mask=torch.ones_like(batch), do_sample=False, max_new_tokens=NEW_TOKENS
            )
        for i, ids in zip(members, output[:, length:].tolist(), strict=True):
            end = next((n + 1 for n, token in enumerate(ids) if token in stops), len(ids))
            found[i] = ids[:end]
    return [found[i] for i in range(len(prompts))]


def test_vllm_and_transformers_give_the_same_greedy_ids(exported: Path, prompts: list[list[int]]) -> None:
    pytest.importorskip("vllm", reason="needs vLLM")
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(exported)
    assert model.dtype == torch.float32
    base = AutoModelForCausalLM.from_pretrained(BASE_MODEL_DIR, dtype=torch.float32)
    moved = [not torch.equal(p, q) for p, q in zip(model.parameters(), base.parameters(), strict=True)]
    assert all(moved), "the test is about trained weights"

    ours = ids_of_transformers(model, prompts)
    theirs = ids_of_vllm(exported, prompts)
    assert sum(len(ids) for ids in ours) > 10 * PROMPTS
    assert len({tuple(ids) for ids in ours}) > PROMPTS // 2, "the answers should differ"
    different = [i for i in range(PROMPTS) if ours[i] != theirs[i]]
    for i in different:
        fork = next(n for n, (a, b) in enumerate(zip(ours[i], theirs[i], strict=False)) if a != b)
        with torch.no_grad():
            logits = model(torch.tensor([prompts[i] + ours[i][:fork]])).logits[0, -1]
        gap = float(logits[ours[i][fork]] - logits[theirs[i][fork]])
        assert abs(gap) < TIE, f"prompt {i}, token {fork}: {ours[i][fork]} and {theirs[i][fork]} differ by {gap}"
    assert len(different) <= PROMPTS // 50


def test_the_card_beside_the_weights_tells_of_the_run(exported: Path) -> None:
    card = (exported / "README.md").read_text()
    assert "| optimizer steps | 3 |" in card
    assert "| examples | 48 (traces.parquet) |" in card
    assert "ZeRO-3" in card
