"""Gets responses: one asyncio loop that sends requests, grades what comes back and hands on each finished row.

That is enough to keep servers busy (the work is theirs), so this side needs no cluster. The models and arms of an
endpoint share one queue, so that it stays full to the end; the largest budgets go first, because a run should not end
by waiting for a few long responses. Tasks are made as they are taken, and rows are handed on as they come: what is held
does not grow with the run.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

from s1ray.errors import S1rayError, UnreachableError
from s1ray.evaluation.asking import Instructed
from s1ray.evaluation.config import Endpoint, EvalConfig, ServedModel
from s1ray.evaluation.endpoint import api_key
from s1ray.evaluation.recount import Recount, Recounted
from s1ray.evaluation.strategies.cost import Metered
from s1ray.evaluation.tasks import Task, answer_row, failure, graded_row
from s1ray.evaluation.wired import Unseeded, wire_of
from s1ray.generation import GenerationError, Generator
from s1ray.generation.base import OnCall
from s1ray.generation.http import HTTPGenerator
from s1ray.generation.segmented import SegmentedGenerator
from s1ray.schemas import Evaluation

log = logging.getLogger("s1ray")

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


def engines_over_http(config: EvalConfig, told: Callable[[Endpoint], OnCall]) -> Engines:
    """The models at the config's endpoints.

    Args:
        config: where they are.
        told: what is told of the calls to an endpoint.

    Raises:
        ConfigError: an API key is not set.
    """
    keys = {endpoint.base_url: api_key(endpoint) for endpoint in config.all_endpoints()}

    def engine(model: ServedModel) -> Generator:
        endpoint = config.endpoint_of(model)
        key = keys[endpoint.base_url]
        if model.driver == "segmented":
            assert model.weights is not None
            return SegmentedGenerator(
                endpoint.addresses,
                model.name,
                weights=model.weights,
                thinking_format=model.thinking_format,
                api_key=key,
                concurrency=endpoint.concurrency,
                timeout=endpoint.timeout,
                attempts=endpoint.attempts,
                extra_body=model.extra_body,
                on_call=told(endpoint),
            )
        ids: dict[str, object] = {} if model.weights is None else {"return_token_ids": True}
        generator = HTTPGenerator(
            endpoint.addresses,
            model.name,
            wire=wire_of(endpoint),
            api_key=key,
            concurrency=endpoint.concurrency,
            timeout=endpoint.timeout,
            attempts=endpoint.attempts,
            extra_body=ids | model.extra_body,
            on_call=told(endpoint),
        )
        return generator if endpoint.api == "openai" else Unseeded(generator)

    return engine


async def measure(
    config: EvalConfig,
    tasks: Callable[[Endpoint], Iterator[Task]],
    engines: Engines,
    recounts: Mapping[str, Recount],
    keep: Callable[[Evaluation, float], None],
) -> None:
    """Get, grade and keep every response.

    Args:
        config: sampling, seed and endpoints.
        tasks: the responses to get at an endpoint, in this order.
        engines: makes the models' generators, which are closed at the end.
        recounts: model label -> the second count of its thinking.
        keep: takes each finished row, and the seconds from the first request for it to its answer.

    Raises:
        UnreachableError: too many requests to one endpoint failed in a row.
        RunError: a response came without token ids, so its thinking cannot be counted again.
    """
    generators: dict[str, Generator] = {model.label: engines(model) for model in config.models}
    generators |= {label: Recounted(generators[label], recount) for label, recount in recounts.items()}
    with ThreadPoolExecutor(1, thread_name_prefix="grader") as grader:
        asking = [
            _Asking(config, endpoint, tasks(endpoint), generators, grader, keep) for endpoint in config.all_endpoints()
        ]
        workers = [asyncio.create_task(each.work()) for each in asking for _ in range(each.endpoint.concurrency)]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
            for generator in generators.values():
                await generator.close()


class _Asking:
    """What is asked at one endpoint, by as many workers as it may have requests in flight."""

    def __init__(
        self,
        config: EvalConfig,
        endpoint: Endpoint,
        tasks: Iterator[Task],
        generators: Mapping[str, Generator],
        grader: ThreadPoolExecutor,
        keep: Callable[[Evaluation, float], None],
    ) -> None:
        self.endpoint = endpoint
        self._config, self._tasks, self._generators = config, tasks, generators
        self._grader, self._keep = grader, keep
        self._places = Places(endpoint.concurrency)
        self._failed_in_a_row = 0
        self._grader_failed = False

    async def work(self) -> None:
        """Take one task after the other until none is left."""
        loop = asyncio.get_running_loop()
        for task in self._tasks:
            instructed = Instructed(
                self._generators[task.model.label], task.benchmark.system_prompt, self._config.sampling.top_k
            )
            generator = Metered(instructed)
            try:
                async with self._places.taken(task.arm.at_once):
                    began = loop.time()
                    seed = task.seed(self._config.seed)
                    completion = await task.arm(generator, task.question, task.sample, self._config.sampling, seed)
            except GenerationError as error:
                self._keep(failure(task, str(error), generator.cost), loop.time() - began)
                self._fail(error)
                continue
            self._failed_in_a_row = 0
            seconds = loop.time() - began
            await self._grade(task, answer_row(task, completion, generator.cost), seconds)

    async def _grade(self, task: Task, row: Evaluation, seconds: float) -> None:
        """Grade an answer and keep its row; where that fails or is stopped, keep it without a verdict."""
        # Algebra can take seconds; the requests in flight must not wait for it.
        grading = asyncio.get_running_loop().run_in_executor(
            self._grader, graded_row, row, task.question, self._config.grader
        )
        try:
            graded = await grading
        except BaseException as error:
            self._keep(dataclasses.replace(row, graded_by=f"not graded: {error}"), seconds)
            if not isinstance(error, S1rayError):
                raise
            if not self._grader_failed:
                log.warning("eval: %s; what it fails at is kept, to be graded by the next start", error)
            self._grader_failed = True
            return
        self._keep(graded, seconds)

    def _fail(self, error: GenerationError) -> None:
        self._failed_in_a_row += 1
        if self._failed_in_a_row >= FAILURES_IN_A_ROW + self.endpoint.concurrency:
            raise UnreachableError(
                f"{self._failed_in_a_row} requests failed in a row, so the run was stopped. The last: {error}. "
                "What was finished is kept: run the same command again to resume"
            ) from None
