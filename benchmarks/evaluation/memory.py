"""Memory of the driver over a long run, looked at from within.

    python -m benchmarks.evaluation.memory URL SAMPLES CONCURRENCY EVERY FOLDER
                                        # started by `benchmarks.evaluation memory`

Runs the stage. An URL of "in-process" is no server: httpx gets its answers without sockets, and the rest is the same.
Prints how many samples there were at which resident memory in MiB, and the most that it was while results were written.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

import httpx
import psutil

from benchmarks.evaluation.server import answer, counts
from benchmarks.evaluation.workload import config_of, write_benchmark
from s1ray.evaluation.config import ServedModel
from s1ray.evaluation.runner import evaluate, work
from s1ray.generation import Generator
from s1ray.generation.http import HTTPGenerator

IN_PROCESS = "in-process"
SAMPLES = 10
"""Of a question."""
MIB = 2**20


class Looks:
    """Looks at this process's memory as answers come in, and after the last one, in a thread of its own.

    Args:
        answered: how many there are.
        samples: how many there will be.
        between: answers between two looks.
    """

    def __init__(self, answered: Callable[[], int], samples: int, between: int) -> None:
        self._answered, self._samples, self._between = answered, samples, between
        self._process, self._over = psutil.Process(), threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self.looks = list[tuple[int, float]]()
        self.at_end = 0.0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(0.2):
            answered, rss = self._answered(), round(self._process.memory_info().rss / MIB, 1)
            if answered >= self._samples:
                self.at_end = max(self.at_end, rss)
            elif answered >= len(self.looks) * self._between:
                self.looks.append((answered, rss))
                print(self.looks[-1], file=sys.stderr, flush=True)


class InProcess:
    """Generators that get the server's answers without one.

    Attributes:
        answered: how many so far.
    """

    def __init__(self, concurrency: int) -> None:
        self._concurrency = concurrency
        self.answered = 0

    def __call__(self, model: ServedModel) -> Generator:
        """Of a model."""
        transport = httpx.MockTransport(self._respond)
        return HTTPGenerator("http://nowhere/v1", model.name, concurrency=self._concurrency, transport=transport)

    def _respond(self, request: httpx.Request) -> httpx.Response:
        self.answered += 1
        return httpx.Response(200, json=answer(json.loads(request.content)))


def main(url: str, samples: int, concurrency: int, between: int, folder: Path) -> None:
    """Run it."""
    benchmark, within = write_benchmark(folder, samples // SAMPLES), url == IN_PROCESS
    address = "http://nowhere/v1" if within else url
    config = config_of(benchmark, folder / "run", address, concurrency, {"samples": SAMPLES, "temperature": 1.0})
    engines, client = InProcess(concurrency), httpx.Client()
    began = time.monotonic()
    with Looks(
        lambda: engines.answered if within else counts(url, client).get("answered", 0), samples, between
    ) as looks:
        if within:
            with evaluate.open(config) as run:
                work(config, run, engines=engines)
        else:
            evaluate(config)
    print(json.dumps({"seconds": time.monotonic() - began, "looks": looks.looks, "at_end": looks.at_end}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), Path(sys.argv[5]))
