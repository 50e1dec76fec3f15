"""How often a stream is read, and when the engine had its request. Imports vLLM; nothing is started."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from types import SimpleNamespace
from typing import Any

import pytest

from s1ray.serving.http.preparing import Preparations
from s1ray.serving.replica.stream_batching import Pace


class Meter:
    def __init__(self) -> None:
        self.ins, self.outs = 0, list[float]()

    def entered(self) -> None:
        self.ins += 1

    def left(self, seconds: float) -> None:
        self.outs.append(seconds)


class Engine:
    """Puts an output every few milliseconds into vLLM's own collector, as vLLM's engine does."""

    def __init__(self, outputs: int, step_s: float) -> None:
        self._outputs, self._step_s = outputs, step_s

    async def add_request(self, request_id: str) -> Any:
        from vllm.outputs import CompletionOutput, RequestOutput
        from vllm.sampling_params import RequestOutputKind
        from vllm.v1.engine.output_processor import RequestOutputCollector

        collector = RequestOutputCollector(RequestOutputKind.DELTA, request_id)

        async def work() -> None:
            for number in range(self._outputs):
                await asyncio.sleep(self._step_s)
                last = number == self._outputs - 1
                one = CompletionOutput(0, f"{number} ", [number], None, None, finish_reason="stop" if last else None)
                collector.put(RequestOutput(request_id, "hi", [1], None, [one], last))

        self.work = asyncio.create_task(work())
        return collector

    async def generate(self, request_id: str) -> AsyncGenerator[Any]:
        collector: Any = await self.add_request(request_id)
        finished = False
        while not finished:
            output = collector.get_nowait() or await collector.get()
            finished = output.finished
            yield output


def read(pace: Pace | None, outputs: int, step_s: float) -> tuple[list[tuple[float, list[int]]], Meter]:
    """When each output came, and its tokens."""
    from s1ray.serving.replica import flow

    async def run() -> tuple[list[tuple[float, list[int]]], Meter]:
        engine: Any = Engine(outputs, step_s)
        flow.install(engine)
        meter: Any = Meter()
        flow.FLOW.set(one := flow.Flow(meter, pace))
        begun, given = time.monotonic(), []
        async for output in one.paced("r", engine.generate("r")):
            given.append((time.monotonic() - begun, list(output.outputs[0].token_ids)))
            one.sent()
        return given, meter

    return asyncio.run(run())


def test_what_comes_between_two_parts_is_merged_and_nothing_is_lost() -> None:
    given, meter = read(Pace(0.1, 1000), 100, 0.005)
    assert [token for _, tokens in given for token in tokens] == list(range(100))
    # The first two at once, and then ten a second or fewer.
    assert [tokens for _, tokens in given[:2]] == [[0], [1]]
    assert 4 <= len(given) <= 12
    assert meter.ins == 1
    assert len(meter.outs) == 1


def test_the_end_does_not_wait_for_its_turn() -> None:
    waits = []
    for _ in range(3):
        given, _ = read(Pace(0.5, 1000), 12, 0.01)
        assert [token for _, tokens in given for token in tokens] == list(range(12))
        waits.append(given[-1][0])
    # Twelve outputs take 0.12 s, and an interval after the second one would end at 0.52 s.
    assert min(waits) < 0.4


def test_without_a_pace_every_output_is_read() -> None:
    given, _ = read(None, 20, 0.002)
    assert [tokens for _, tokens in given] == [[token] for token in range(20)]


def test_the_next_request_is_prepared_when_the_engine_has_this_one() -> None:
    from s1ray.serving.replica import flow

    async def run() -> None:
        engine: Any = Engine(3, 0.002)
        flow.install(engine)
        meter: Any = Meter()
        preparations = Preparations(1)
        preparation = await preparations.begin()
        flow.FLOW.set(flow.Flow(meter, None))
        outputs = engine.generate("r")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(preparations.begin(), 0.05)
        await anext(outputs)
        await asyncio.wait_for(preparations.begin(), 5)
        preparation.end()
        await outputs.aclose()
        await engine.work

    asyncio.run(run())


def test_an_engine_that_fails_ends_the_wait() -> None:
    from s1ray.serving.replica import flow

    async def run() -> float:
        engine: Any = SimpleNamespace()
        collectors: list[Any] = []

        async def add_request(request_id: str) -> Any:
            from vllm.sampling_params import RequestOutputKind
            from vllm.v1.engine.output_processor import RequestOutputCollector

            collectors.append(RequestOutputCollector(RequestOutputKind.DELTA, request_id))
            return collectors[-1]

        engine.add_request = add_request
        flow.install(engine)
        meter: Any = Meter()
        flow.FLOW.set(one := flow.Flow(meter, Pace(5.0, 1000)))

        async def generate() -> AsyncGenerator[Any]:
            collector = await engine.add_request("r")
            while True:
                yield await collector.get()

        begun = time.monotonic()

        async def consume() -> None:
            async for _ in one.paced("r", generate()):
                one.sent()
                one.sent()

        task = asyncio.create_task(consume())
        await asyncio.sleep(0.01)
        collectors[0].put(SimpleNamespace(finished=False))
        await asyncio.sleep(0.01)
        collectors[0].put(RuntimeError("dead"))
        with pytest.raises(RuntimeError, match="dead"):
            await task
        return time.monotonic() - begun

    assert asyncio.run(run()) < 2
