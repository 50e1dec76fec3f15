"""Whether verdicts depend on how busy the machine is: the same rows graded idle and under load."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator

from benchmarks.grading.speed import mixed_rows
from s1ray.grading import Grade
from s1ray.grading.many import Pool

ROWS = 2000
HARD_ON_ALGEBRA = (
    ("x^{x^{x^{x}}}", "\\boxed{x^{x^{x^{y}}}}"),
    ("2^{3^{4^{5}}}", "\\boxed{2^{3^{4^{6}}}}"),
    ("(1+\\sqrt{2})^{100000}", "\\boxed{(1+\\sqrt{3})^{100000}}"),
    ("\\sum_{k=1}^{100000} k^{50}", "\\boxed{\\sum_{k=1}^{100001} k^{50}}"),
    ("100000!", "\\boxed{100001!}"),
    ("\\frac{100000!}{99999!}", "\\boxed{100000}"),
    ("(a+b+c+d)^{40}", "\\boxed{(d+c+b+a)^{40}}"),
    ("\\sin(10^{10^{10}})", "\\boxed{\\cos(10^{10^{10}})}"),
)
"""Gold and text of comparisons that come near a limit, or reach it."""
RISING_S = 120.0
"""Seconds that the load average, of a minute, may take to come near the number of busy loops."""


@contextlib.contextmanager
def busy(loops: int) -> Iterator[None]:
    """That many processes that only count, inside the block."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(loops)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def compare_under_load(loops: int, rows: int = ROWS, workers: int = 2) -> dict[str, object]:
    """Grade rows twice.

    Returns:
        How many verdicts differ, and which; of both runs the seconds, and the machine's load average when it began and
        when it ended.
    """
    pairs = [*HARD_ON_ALGEBRA, *((case.gold, case.text) for case in mixed_rows())][:rows]
    idle, idle_run = _graded(pairs, workers)
    with busy(loops):
        _wait_for_load(loops / 2)
        loaded, loaded_run = _graded(pairs, workers)
    differing = [
        {"gold": gold[:200], "text": text[-200:], "idle": a, "loaded": b}
        for (gold, text), a, b in zip(pairs, idle, loaded, strict=True)
        if a != b
    ]
    return {
        "rows": len(pairs),
        "busy_loops": loops,
        "workers": workers,
        "verdicts": dict(Counter(verdict for verdict, _ in idle)),
        "differing": differing,
        "idle": idle_run,
        "under_load": loaded_run,
    }


def _wait_for_load(least: float) -> None:
    until = time.monotonic() + RISING_S
    while os.getloadavg()[0] < least and time.monotonic() < until:
        time.sleep(1.0)


def _graded(pairs: list[tuple[str, str]], workers: int) -> tuple[list[tuple[str, str]], dict[str, object]]:
    began, load = time.perf_counter(), os.getloadavg()[0]
    with Pool(workers) as pool:
        found = list(pool.map(pairs))
    verdicts = [(g.verdict, g.graded_by) if isinstance(g, Grade) else ("refused", g) for g in found]
    figures = {
        "seconds": round(time.perf_counter() - began, 1),
        "load_average": [round(load, 1), round(os.getloadavg()[0], 1)],
    }
    return verdicts, figures
