"""Gets responses: one asyncio loop that sends requests, grades what comes back and hands on each finished row.

That is enough to keep a server busy (the work is the server's), so this side needs no cluster. Models and arms share
one queue, so that the servers stay full to the end; the largest budgets go first, because a run should not end by
waiting for a few long responses.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

from s1ray.errors import UnreachableError
from s1ray.evaluation.asking import Instructed
from s1ray.evaluation.config import EvalConfig, ServedModel
from s1ray.evaluation.endpoint import api_key
from s1ray.evaluation.recount import Recount, Recounted
from s1ray.evaluation.strategies.cost import Metered
from s1ray.evaluation.tasks import Task, evaluation_row, failure
from s1ray.generation import GenerationError, Generator
from s1ray.generation.http import HTTPGenerator
from s1ray.generation.segmented import SegmentedGenerator
from s1ray.grading import find_grader
from s1ray.schemas import Evaluation

FAILURES_IN_A_ROW = 20
"""Consecutive failed requests, beyond those in flight, after which the server counts as gone."""


class Places:
    """Places for requests in flight: who needs several gets them together, first come, first served.

    Args:
        count: how many there are; who asks for more gets all.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._free = asyncio.Semaphore(count)
        self._turn = asyncio.Lock()

    @asynccontextmanager
    async def taken(self, wanted: int) -> AsyncIterator[None]:
        """Wait for so many places, and hold them."""
        held = 0
        try:
            async with self._turn:
                while held < min(wanted, self._count):
                    await self._free.acquire()
                    held += 1
            yield
        finally:
            for _ in range(held):
                self._free.release()


Engines = Callable[[ServedModel], Generator]
"""Makes the generator that answers for a model; called inside the event loop."""


def engines_over_http(config: EvalConfig) -> Engines:
    """The models at the config's endpoint.

    Raises:
        ConfigError: the API key is not set.
    """
    endpoint, key = config.endpoint, api_key(config.endpoint)

    def engine(model: ServedModel) -> Generator:
        if model.driver == "segmented":
            assert model.weights is not None
            return SegmentedGenerator(
                endpoint.base_url,
                model.name,
                weights=model.weights,
                thinking_format=model.thinking_format,
                api_key=key,
                concurrency=endpoint.concurrency,
                timeout=endpoint.timeout,
                attempts=endpoint.attempts,
            )
        return HTTPGenerator(
            endpoint.base_url,
            model.name,
            api_key=key,
            concurrency=endpoint.concurrency,
            timeout=endpoint.timeout,
            attempts=endpoint.attempts,
            extra_body={"return_token_ids": True} if model.weights is not None else None,
        )

    return engine


async def measure(
    config: EvalConfig,
    tasks: list[Task],
    engines: Engines,
    recounts: Mapping[str, Recount],
    keep: Callable[[Evaluation, float], None],
) -> None:
    """Get, grade and keep every response.

    Args:
        config: sampling, seed and concurrency.
        tasks: the responses to get, in this order.
        engines: makes the models' generators, which are closed at the end.
        recounts: model label -> the second count of its thinking.
        keep: takes each finished row, and the seconds from the first request for it to its answer.

    Raises:
        UnreachableError: too many requests failed in a row.
        RunError: a response came without token ids, so its thinking cannot be counted again.
    """
    queue, places = deque(tasks), Places(config.endpoint.concurrency)
    failed_in_a_row = 0
    loop, grade = asyncio.get_running_loop(), find_grader(config.grader)
    generators: dict[str, Generator] = {model.label: engines(model) for model in config.models}
    generators |= {label: Recounted(generators[label], recount) for label, recount in recounts.items()}

    async def work(grader: ThreadPoolExecutor) -> None:
        nonlocal failed_in_a_row
        while queue:
            task = queue.popleft()
            instructed = Instructed(generators[task.model.label], task.benchmark.system_prompt, config.sampling.top_k)
            generator = Metered(instructed)
            try:
                async with places.taken(task.arm.at_once):
                    began = loop.time()
                    seed = task.seed(config.seed)
                    completion = await task.arm(generator, task.question, task.sample, config.sampling, seed)
            except GenerationError as error:
                failed_in_a_row += 1
                keep(failure(task, str(error), generator.cost), loop.time() - began)
                if failed_in_a_row >= FAILURES_IN_A_ROW + config.endpoint.concurrency:
                    raise UnreachableError(
                        f"{failed_in_a_row} requests failed in a row, so the run was stopped. The last: {error}. "
                        "What was finished is kept: run the same command again to resume"
                    ) from None
                continue
            failed_in_a_row = 0
            # Algebra can take seconds; the requests in flight must not wait for it.
            seconds = loop.time() - began
            row = await loop.run_in_executor(grader, evaluation_row, task, completion, generator.cost, grade)
            keep(row, seconds)

    with ThreadPoolExecutor(1, thread_name_prefix="grader") as grader:
        workers = [asyncio.create_task(work(grader)) for _ in range(min(config.endpoint.concurrency, len(tasks)))]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
            for generator in generators.values():
                await generator.close()
