"""Sums to ask, and the config that asks them."""

from __future__ import annotations

from pathlib import Path

from pydantic import JsonValue

from s1ray.config import validate_config
from s1ray.evaluation.config import EvalConfig
from s1ray.schemas import Question, question_id, to_table, write_table


def write_benchmark(folder: Path, count: int) -> Path:
    """A file of so many sums."""
    path = folder / "sums.parquet"
    texts = [f"What is {n} + {7 * n % 1000} ?" for n in range(count)]
    rows = [Question(id=question_id(t), question=t, answer=str(n + 7 * n % 1000)) for n, t in enumerate(texts)]
    write_table(to_table(rows, Question), path)
    return path


def config_of(
    benchmark: Path, output: Path, url: str, concurrency: int, sampling: dict[str, JsonValue] | None = None
) -> EvalConfig:
    """One model, one arm."""
    data: dict[str, JsonValue] = {
        "output": str(output),
        "benchmark": str(benchmark),
        "models": [{"label": "m", "name": "m"}],
        "sweep": {"max_tokens": [32]},
        "sampling": sampling or {},
        "endpoint": {"base_url": url, "concurrency": concurrency, "timeout": 60},
    }
    return validate_config(EvalConfig, data, "benchmark")
