"""A reward model as a Serve application of its own, and confidence from a real server's log-probabilities."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from s1ray.generation import GenerationRequest
from s1ray.generation.http import HTTPGenerator
from s1ray.thinking import ThinkingBudget
from tests.support.served import QUESTION

if TYPE_CHECKING:
    from s1ray.serving.local import ServedApp

pytestmark = pytest.mark.end_to_end


def test_confidence_leaves_out_what_budget_forcing_wrote(served: ServedApp) -> None:
    async def ask() -> None:
        async with HTTPGenerator(f"{served.url}/v1", "s1", extra_body={"return_token_ids": True}) as generator:
            budget = ThinkingBudget(max_tokens=12, waits=1)
            request = GenerationRequest(
                id="q", messages=QUESTION, budget=budget, max_tokens=60, temperature=1.0, seed=1, top_logprobs=5
            )
            found = await generator.complete(request)
            assert found.confidence is not None
            assert found.output_ids is not None
            assert found.confidence.tokens + found.confidence.forced_tokens == len(found.output_ids)
            # The start delimiter, and what ends the thinking.
            assert found.confidence.forced_tokens >= 3
            assert found.confidence.mean > 0

    asyncio.run(ask())


@pytest.mark.slow
def test_a_reward_model_is_served_apart_and_scores_in_batches(ray_session: None, tmp_path: Path) -> None:
    from ray import serve

    from s1ray.evaluation.strategies.rewards import RewardEndpoint
    from s1ray.serving.ray_llm import running_serve
    from s1ray.serving.reward.app import build_app
    from tests.serving.reward.test_reward import checkpoint

    model = checkpoint(tmp_path, "TokenClassification", 2)
    serve.run(build_app({"model": model, "separator": "\n", "device": "cpu"}), name="reward", route_prefix="/reward")
    try:
        running = running_serve()
        assert running is not None
        endpoint = RewardEndpoint(base_url=f"http://127.0.0.1:{running[1]}/reward/v1")
        asked = [("What is 12 + 30?", [f"12+30={n}", f"So {n}"]) for n in range(40)]
        together = asyncio.run(endpoint.score_all(asked))
        (alone,) = asyncio.run(endpoint.score_all(asked[:1]))
        assert together[0].scores == pytest.approx(alone.scores, abs=1e-4)
        assert all(len(each.scores) == 2 for each in together)
        refused = httpx.post(f"{endpoint.base_url}/rewards", json={"question": "q", "steps": []})
        assert refused.status_code == 400
    finally:
        serve.delete("reward")
