"""No step of the device forcer waits for the device."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from s1ray.thinking.vllm.v2.forcer import DeviceForcer
from s1ray.thinking.vllm.v2.state import DeviceRequest
from tests.support.model_runner_v2 import Runner, request
from tests.support.toy import FINAL, THINK, TURN, X, Y, toy_plan
from tests.support.toy_engine import WIDTH, model_logits


class NoSync(TorchDispatchMode):  # type: ignore[misc]  # torch's types are not followed
    """Refuses every operation that would wait for the device, or whose result's shape would have to."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.name()
        assert not any(word in name for word in ("_local_scalar", "nonzero", "masked_select", "unique", "equal")), name
        assert not (name == "aten::_to_copy" and (kwargs or {}).get("device") is not None), name
        indices = args[1] if name.startswith(("aten::index", "aten::_index_put")) and isinstance(args[1], list) else ()
        assert not any(index is not None and index.dtype == torch.bool for index in indices), name
        self.operations = getattr(self, "operations", 0) + 1
        return func(*args, **(kwargs or {}))


FULL_PLAN = toy_plan(
    waits=2,
    wait_texts=(),
    loops=2,
    grace=3,
    max_tokens=20,
    ban=((X,), (Y, FINAL), (12, 13, 14)),
    answer_ban=((TURN,), (X, Y, 12)),
    answer_max_tokens=4,
)


def test_no_step_reads_a_value_back() -> None:
    runner = Runner(6, 0)
    plans = [FULL_PLAN, toy_plan(waits=1, min_tokens=3), toy_plan(max_tokens=0), None]
    requests = [request(key, plan, [TURN, THINK], temperature=1.0) for key, plan in enumerate(plans)]
    runner.enter(requests)
    runner.processor.apply_staged_writes()
    for _ in range(5):
        logits = torch.stack([model_logits(made.key, len(made.output)) for made in requests])
        with NoSync():
            edited = runner.apply(logits, requests, [len(made.prompt) + len(made.output) - 1 for made in requests])
        for made, row in zip(requests, edited, strict=True):
            token = runner.sample(row, 1.0)
            runner.state.all_token_ids.gpu[made.slot, len(made.prompt) + len(made.output)] = token
            made.output.append(token)


def test_admission_and_steps_run_on_a_device_whose_values_cannot_be_read() -> None:
    # A meta tensor has a shape and no values: whatever needs one, or mixes host and device, raises.
    def to_device(values: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(values).to("meta")

    def on_device(*shape: int) -> torch.Tensor:
        return torch.zeros(shape, dtype=torch.int32, device="meta")

    forcer = DeviceForcer(4, WIDTH, on_device(4, 50), to_device)
    for slot, plan in [(0, FULL_PLAN), (2, toy_plan(waits=1))]:
        forcer.stage(slot, DeviceRequest(plan, prompt_len=4, prefill_len=4, room=40, temperature=1.0))
    forcer.stage(1, None)
    forcer.flush()
    for _ in range(2):
        logits = torch.zeros((3, WIDTH), device="meta")
        forcer.edit(logits, on_device(3), np.array([2, 0, 1]), on_device(3), on_device(3))
        with pytest.raises(RuntimeError):
            logits.max().item()
