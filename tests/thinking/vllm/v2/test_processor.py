"""Model Runner V2's interface of the processor; what the device forcer does is tested beside it."""

from __future__ import annotations

import importlib.util
import sys
from abc import ABC, abstractmethod
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from s1ray.errors import InputError
from s1ray.thinking.schedule import SchedulePlan
from s1ray.thinking.vllm import processor as v1
from s1ray.thinking.vllm.v2 import processor as v2
from tests.support.model_runner_v2 import Runner, feed, request, slot_tensors
from tests.support.toy import TURN, X, Y, toy_plan
from tests.support.toy_engine import CONFIG, WIDTH, params


def test_a_plan_for_another_model_and_none_leave_the_request_unforced(caplog: pytest.LogCaptureFixture) -> None:
    for plan, says in [(toy_plan(vocab_size=WIDTH + 1), "left unforced"), (None, "")]:
        runner = Runner(2, 0)
        made = request(1, plan, [X])
        runner.state.prompt_len.np[0] = runner.state.prefill_len.np[0] = 1
        assert runner.processor.add_request(0, made.params) is False
        runner.processor.apply_staged_writes()
        made.slot = 0
        logits = torch.randn(1, WIDTH)
        assert torch.equal(feed(runner, made, logits.clone()), logits)
        assert says in caplog.text


def test_speculative_decoding_is_refused_by_name() -> None:
    config = SimpleNamespace(model_config=CONFIG.model_config, speculative_config=object())
    with pytest.raises(ValueError, match="speculative_config"):
        v2.BudgetForcingProcessor(config, slot_tensors(2))


def test_the_processor_implements_the_interface_where_vllm_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    interface: Any = ModuleType("vllm.v1.worker.gpu.sample.logits_processor")

    class DeviceInterface(ABC):
        @abstractmethod
        def apply(self, logits: torch.Tensor, ctx: object) -> torch.Tensor: ...

    interface.LogitsProcessor = DeviceInterface
    monkeypatch.setitem(sys.modules, interface.__name__, interface)
    spec = importlib.util.spec_from_file_location("processor_in_newer_vllm", v2.__file__)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    assert issubclass(module.BudgetForcingProcessor, DeviceInterface)
    module.BudgetForcingProcessor(CONFIG, slot_tensors(2))


@pytest.mark.parametrize("name", ["ban", "end_spellings", "answer_ban"])
def test_only_the_device_limits_the_length_of_a_banned_text(name: str) -> None:
    long = params(toy_plan(**{name: ((Y,), (X,) * 65)}))
    v1.BudgetForcingProcessor.validate_params(long)
    with pytest.raises(ValueError, match=f"{name}: a banned text has at most 64 tokens"):
        v2.BudgetForcingProcessor.validate_params(long)
    v2.BudgetForcingProcessor.validate_params(params(toy_plan(**{name: ((X,) * 64,)})))


def test_thinking_again_in_the_answer_is_refused() -> None:
    again = params(toy_plan(reopen=(TURN,), answer_ban=()))
    v1.BudgetForcingProcessor.validate_params(again)
    with pytest.raises(InputError, match=r"reopen: .* not on Model Runner V2"):
        v2.BudgetForcingProcessor.validate_params(again)


def test_a_schedule_is_refused() -> None:
    schedule = SchedulePlan(moment=5, p_start=1.0, p_end=0.0, wait=(X,), after=(Y,))
    scheduled = params(toy_plan(schedule=schedule))
    v1.BudgetForcingProcessor.validate_params(scheduled)
    with pytest.raises(InputError, match=r"schedule: .* not on Model Runner V2"):
        v2.BudgetForcingProcessor.validate_params(scheduled)
