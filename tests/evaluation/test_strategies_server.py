"""Arms whose work our server does: what they ask for, how they are called, and what they cost."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from s1ray.config import ConfigError
from s1ray.evaluation.strategies.base import Sampling, Strategy
from s1ray.evaluation.strategies.cost import Metered
from s1ray.evaluation.strategies.early_exit import EarlyExitArm
from s1ray.evaluation.strategies.schedule import ScheduleArm
from s1ray.generation import GenerationRequest
from s1ray.schemas import Completion
from s1ray.thinking.early_exit import EarlyExit
from s1ray.thinking.schedule import Schedule
from tests.evaluation.test_strategies import config
from tests.support.scripted_model import questions


class Server:
    """Answers, and says what it did for it."""

    def __init__(self) -> None:
        self.asked: list[GenerationRequest] = []

    async def complete(self, request: GenerationRequest) -> Completion:
        self.asked.append(request)
        account = {"name": "x", "calls": 4, "prompt_tokens": 90, "thinking_tokens": 30, "answer_tokens": 12}
        return Completion(
            id=request.id,
            thinking="",
            answer="1",
            prompt_tokens=9,
            thinking_tokens=30,
            answer_tokens=2,
            finish_reason="stop",
            strategy=account,
        )

    async def close(self) -> None:
        pass


@pytest.mark.parametrize(
    ("arm", "strategy", "name"),
    [
        (EarlyExitArm(), {"early_exit": {}}, "early exit confidence"),
        (
            EarlyExitArm(max_tokens=64, early_exit=EarlyExit(threshold=0.9, words=("Wait", "So"))),
            {"early_exit": {"threshold": 0.9, "words": ["Wait", "So"]}},
            "early exit confidence threshold=0.9 words=Wait,So max=64",
        ),
        (
            EarlyExitArm(early_exit=EarlyExit(kind="stability", every=8)),
            {"early_exit": {"kind": "stability", "every": 8}},
            "early exit stability every=8",
        ),
        (
            ScheduleArm(max_tokens=256, schedule=Schedule(phase_tokens=80, after="\n")),
            {"schedule": {"phase_tokens": 80, "after": "\n"}},
            "alpha1 phase=80 alpha=1.4 max=256",
        ),
        (
            ScheduleArm(schedule=Schedule(phase_tokens=80, p_start=0.5, p_end=0.5)),
            {"schedule": {"phase_tokens": 80, "p_start": 0.5, "p_end": 0.5}},
            "alpha1 phase=80 alpha=1.4 p=0.5-0.5",
        ),
    ],
)
def test_the_server_is_asked_and_its_account_is_the_cost(arm: Strategy, strategy: dict[str, Any], name: str) -> None:
    server = Server()
    metered = Metered(server)
    asyncio.run(arm(metered, questions(1)[0], 0, Sampling(), 0))
    (request,) = server.asked
    assert request.strategy == strategy
    assert request.budget is not None
    assert request.budget.max_tokens == arm.budget.max_tokens
    assert arm.name == name
    cost = metered.cost
    assert (cost.calls, cost.prompt_tokens, cost.thinking_tokens, cost.answer_tokens) == (4, 90, 30, 12)


@pytest.mark.parametrize(
    ("arm", "message"),
    [
        ({"strategy": "early_exit", "early_exit": {"kind": "entropy"}}, "early_exit.kind"),
        ({"strategy": "early_exit", "early_exit": {"stable": 3}}, 'stable: goes with kind "stability"'),
        ({"strategy": "schedule"}, "schedule"),
        ({"strategy": "schedule", "schedule": {"phase_tokens": 0}}, "phase_tokens"),
    ],
)
def test_nonsense_is_refused_by_name(arm: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        config(tmp_path, arms=[arm])
