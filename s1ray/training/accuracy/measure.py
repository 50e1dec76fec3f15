"""One measurement: a vLLM engine of its own answers the questions under the budget, and the answers are graded."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from s1ray.generation.base import GenerationRequest, request_seed
from s1ray.grading.grade import grade_or_undecided, kind_of
from s1ray.grading.interval import wilson_interval
from s1ray.models import EngineConfig
from s1ray.schemas import Completion, Question
from s1ray.training.accuracy.snapshots import Accuracy, not_measured
from s1ray.training.config import TrainingConfig


def engine_config(config: TrainingConfig, model: Path) -> EngineConfig:
    """The engine that answers with a model of the run."""
    assert config.accuracy is not None
    return EngineConfig(
        model=str(model),
        thinking_format=config.thinking_format,
        device=config.device,
        tensor_parallel_size=config.accuracy.tensor_parallel_size,
        kv_cache_gib=config.accuracy.kv_cache_gib,
        max_model_len=config.accuracy.max_model_len,
    )


def measure(settings: dict[str, object], model: str, step: int, questions: Sequence[Question]) -> Accuracy:
    """Answer the questions and grade the answers; for a process of its own, which the engine takes over.

    Args:
        settings: the training's config as a mapping.
        model: folder of the model.
        step: the finished steps of the model.
    """
    from s1ray.generation.blocking import BlockingGenerator
    from s1ray.generation.engine import requests_in_flight
    from s1ray.generation.vllm import VLLMGenerator

    config = TrainingConfig.model_validate(settings)
    engine = engine_config(config, Path(model))
    started = time.monotonic()
    with BlockingGenerator(lambda: VLLMGenerator(engine), requests_in_flight(engine)) as generator:
        completions = generator.complete([_request(question, config) for question in questions])
    return graded(config, step, questions, completions, time.monotonic() - started)


def _request(question: Question, config: TrainingConfig) -> GenerationRequest:
    settings = config.accuracy
    assert settings is not None
    messages = [{"role": "user", "content": question.question}]
    if config.system_prompt is not None:
        messages.insert(0, {"role": "system", "content": config.system_prompt})
    return GenerationRequest(
        id=question.id,
        messages=messages,
        budget=settings.budget,
        temperature=settings.temperature,
        max_tokens=settings.max_tokens,
        seed=request_seed(config.seed, f"accuracy/{question.id}"),
    )


def graded(
    config: TrainingConfig, step: int, questions: Sequence[Question], completions: Sequence[Completion], seconds: float
) -> Accuracy:
    """The accuracy of answers to the questions; undecided ones count neither way."""
    assert config.accuracy is not None
    name = config.accuracy.grader
    grades = [
        grade_or_undecided(
            name,
            question.answer or "",
            completion.answer,
            kind=kind_of(question.metadata),
            where=f"question {question.id!r}",
        )
        for question, completion in zip(questions, completions, strict=True)
    ]
    total = len(completions)
    failures = [completion.error for completion in completions if completion.error is not None]
    if len(failures) == total:
        return not_measured(step, f"no question got a response: {failures[0]}")
    undecided = sum(grade.correct is None for grade in grades)
    if undecided == total:
        return not_measured(step, f"the grader could decide on none of the {total} answers")
    correct = sum(grade.correct is True for grade in grades)
    low, high = wilson_interval(correct, total - undecided)
    return Accuracy(
        step=step,
        questions=total,
        correct=correct,
        accuracy=round(correct / (total - undecided), 4),
        low=round(low, 4),
        high=round(high, 4),
        without_answer=sum(grade.verdict == "unparsable" for grade in grades),
        undecided=undecided,
        cut=sum(completion.answer_cut or completion.finish_reason == "length" for completion in completions),
        failed=len(failures),
        thinking_tokens=round(sum(completion.thinking_tokens for completion in completions) / total, 1),
        answer_tokens=round(sum(completion.answer_tokens for completion in completions) / total, 1),
        seconds=round(seconds, 1),
        error=None,
    )
