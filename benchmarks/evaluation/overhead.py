"""The runner against a bare asyncio loop with the same client, in processes of their own.

    python -m benchmarks.evaluation.overhead bare|alike|runner|stage URL REQUESTS CONCURRENCY FOLDER
                                        # started by `benchmarks.evaluation overhead`

bare: posts the requests with httpx and reads the answers' JSON. alike: the same with the runner's connections
(`s1ray.generation.connections`). runner: `measure`, which asks, grades and keeps rows in a journal. stage: the whole
stage, with its trial of the server and the writing of the results. Prints the seconds, and those of the processor.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from benchmarks.evaluation.workload import config_of, write_benchmark
from s1ray.evaluation.benchmarks import load_benchmarks
from s1ray.evaluation.config import Endpoint, EvalConfig
from s1ray.evaluation.journal import Journal
from s1ray.evaluation.measure import engines_over_http, measure
from s1ray.evaluation.runner import evaluate
from s1ray.evaluation.tasks import Cell, Task, all_cells, missing_tasks
from s1ray.evaluation.traffic import Traffic
from s1ray.evaluation.wired import first_request
from s1ray.generation.connections import Connections
from s1ray.generation.transport import KEEPALIVE
from s1ray.generation.wires import ChatCompletions
from s1ray.schemas import Evaluation


async def bare(config: EvalConfig, bodies: list[dict[str, Any]], *, alike: bool) -> None:
    """So many requests, so many at once, and nothing else.

    Args:
        config: where, and how many at once.
        bodies: of the requests.
        alike: on the runner's connections, and not on httpx's own.
    """
    (endpoint,), left = config.all_endpoints(), iter(bodies)
    limits = httpx.Limits(max_connections=endpoint.concurrency, max_keepalive_connections=endpoint.concurrency)
    own = httpx.AsyncHTTPTransport(limits=limits, socket_options=KEEPALIVE)
    transport = Connections(KEEPALIVE) if alike else own
    async with httpx.AsyncClient(timeout=endpoint.timeout, limits=limits, transport=transport) as client:

        async def work() -> None:
            for body in left:
                response = await client.post(f"{endpoint.base_url}/chat/completions", json=body)
                assert json.loads(response.content)["choices"]

        await asyncio.gather(*(work() for _ in range(endpoint.concurrency)))


def bodies_of(config: EvalConfig, cell: Cell) -> list[dict[str, Any]]:
    """The runner's requests."""
    body = ChatCompletions().body(first_request(cell.arm, config.sampling), "m", {})
    return [body | {"messages": [{"role": "user", "content": each.question}]} for each in cell.questions]


async def runner(config: EvalConfig, cell: Cell, folder: Path) -> None:
    """What the stage does between its beginning and its end."""
    with Journal(folder / "journal.jsonl", cell.size, cell.place) as journal:

        def tasks(endpoint: Endpoint) -> Iterator[Task]:
            return missing_tasks([cell], lambda _, place: journal.is_missing(place))

        def keep(row: Evaluation, seconds: float) -> None:
            journal.add(row, seconds)

        await measure(config, tasks, engines_over_http(config, Traffic), {}, keep)
        assert not journal.missing


def main(kind: str, url: str, requests: int, concurrency: int, folder: Path) -> None:
    """Run one of them, and print its seconds and those of the processor."""
    folder.mkdir(parents=True)
    config = config_of(write_benchmark(folder, requests), folder / "run", url, concurrency)
    (cell,) = all_cells(config, load_benchmarks(config.all_benchmarks(), config.limit, config.grader))
    bodies = bodies_of(config, cell)
    began, used = time.perf_counter(), time.process_time()
    if kind == "stage":
        evaluate(config)
    elif kind == "runner":
        asyncio.run(runner(config, cell, folder))
    else:
        asyncio.run(bare(config, bodies, alike=kind == "alike"))
    print(time.perf_counter() - began, time.process_time() - used)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), Path(sys.argv[5]))
