"""A replica of two tensor-parallel workers on two CPU cores gives what one worker gives."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pytest

from s1ray.config import validate_config
from s1ray.miniature.pool import build_benchmark
from s1ray.serving.config import ServingConfig
from s1ray.serving.local import serve_locally
from tests.support.served import ENGINE

pytestmark = [pytest.mark.end_to_end, pytest.mark.slow]

MODEL = {"name": "s1-tp2", "tensor_parallel_size": 2, "start_attempts": 1, **ENGINE}
BUDGETS: list[dict[str, Any]] = [
    {"max_tokens": 0},
    {"max_tokens": 24},
    {"max_tokens": 96, "waits": 2},
    {"min_tokens": 40, "max_tokens": 80, "wait_text": ["Wait", "Hmm"], "waits": 8},
]
QUESTIONS = [row.question for row in build_benchmark(16)]


@pytest.fixture(scope="module")
def two_workers(ray_session: None) -> Iterator[openai.OpenAI]:
    config = validate_config(ServingConfig, {"models": [MODEL]}, "test")
    with (
        serve_locally(config, start_timeout_s=600) as app,
        openai.OpenAI(base_url=f"{app.url}/v1", api_key="unused", max_retries=0, timeout=120) as client,
    ):
        yield client


def responses(client: openai.OpenAI, model: str) -> list[tuple[list[int], dict[str, Any]]]:
    def ask(number: int) -> tuple[list[int], dict[str, Any]]:
        question = QUESTIONS[number % len(QUESTIONS)]
        response = client.chat.completions.create(
            model=model,
            messages=[{"role": "user", "content": question}],
            temperature=0.0,
            max_tokens=160,
            extra_body={"thinking": BUDGETS[number // len(QUESTIONS)], "return_token_ids": True},
        )
        choice: Any = response.choices[0]
        return choice.token_ids, choice.thinking

    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(ask, range(len(QUESTIONS) * len(BUDGETS))))


def test_two_tensor_parallel_workers_give_the_ids_of_one(client: openai.OpenAI, two_workers: openai.OpenAI) -> None:
    one, two = responses(client, "s1"), responses(two_workers, "s1-tp2")
    assert [ids for ids, _ in two] == [ids for ids, _ in one]
    assert [thinking for _, thinking in two] == [thinking for _, thinking in one]
    assert len({tuple(ids) for ids, _ in two}) > len(QUESTIONS)
