"""Memory of the driver over a long run.

    python -m benchmarks.evaluation.memory URL SAMPLES CONCURRENCY FOLDER   # started by `benchmarks.evaluation memory`

Runs the stage, and prints its config's output folder. The parent process looks at this one's memory.
"""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.evaluation.workload import config_of, write_benchmark
from s1ray.evaluation.runner import evaluate

SAMPLES = 10
"""Of a question."""


def main(url: str, samples: int, concurrency: int, folder: Path) -> None:
    """Run it."""
    benchmark = write_benchmark(folder, samples // SAMPLES)
    config = config_of(benchmark, folder / "run", url, concurrency, {"samples": SAMPLES, "temperature": 1.0})
    print(evaluate(config).path)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
