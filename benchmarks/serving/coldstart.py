"""Cold start: an application that has no replica, until the first token of its first request.

Each time the application is deployed anew with `min_replicas: 0`, which starts nothing, and then asked. The parts are
read from the times in Serve's own logs.
"""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

import httpx

from benchmarks.serving.servers import MODEL, START_S
from s1ray.config import validate_config
from s1ray.serving.config import ServedModel, ServingConfig
from s1ray.serving.local import Front, serve_locally

SETTLES_S = 3.0

MARKS = {
    "asked for": r"controller \d+ -- Starting Replica",
    "process": r"-- Started initializing replica",
    "engine": r"-- Started vLLM engine",
    "replica": r"-- Finished initializing replica",
}
"""What Serve logs when a part is over, in this order."""


@dataclass(frozen=True)
class Start:
    """One cold start."""

    seconds: float
    """From the request to its first token."""
    parts: dict[str, float]
    """Seconds of each part: until Serve asks for a replica (`asked for`), its process has started and has imported what
    it needs (`process`), its engine runs (`engine`), the replica is ready (`replica`), and its first token came
    (`first token`)."""


def once(model: ServedModel, logs: Path, front: Front | None, http: Literal["direct", "worker"]) -> Start:
    """Start the application from nothing; `logs` is the folder of the Ray session's logs."""
    scaling = {"min_replicas": 0, "max_replicas": 1, "scale_to_zero_delay_s": 60}
    fields = model.model_dump() | {"autoscaling": scaling}
    config = validate_config(ServingConfig, {"models": [fields], "http": http}, "benchmark")
    with serve_locally(config, front=front, start_timeout_s=START_S) as app:
        # As an application that has been idle: what takes the requests knows its settings.
        time.sleep(SETTLES_S)
        asked, clock = time.time(), time.perf_counter()
        body = {"model": MODEL, "messages": [{"role": "user", "content": "1 + 1"}], "max_tokens": 8, "stream": True}
        first = None
        url = f"{app.url}/v1/chat/completions"
        with httpx.stream("POST", url, json=body, timeout=START_S, trust_env=False) as response:
            response.raise_for_status()
            for line in response.iter_lines():
                if line.startswith("data: {"):
                    first = time.perf_counter() - clock
                    break
        if first is None:
            raise RuntimeError("the first request got no token")
    # Serve's logs are complete when the replica has ended.
    return Start(round(first, 2), parts(logs, asked, first))


def parts(logs: Path, asked: float, seconds: float) -> dict[str, float]:
    """The parts of a start that began at a time, in seconds since the epoch, and took so long."""
    text = "\n".join(path.read_text(errors="replace") for path in (logs / "serve").glob("*.log"))
    result, last = {}, 0.0
    for part, mark in MARKS.items():
        found = re.findall(rf"^\w+ (\d+-\d+-\d+ \d+:\d+:\d+,\d+) .*{mark}", text, re.MULTILINE)
        # Local time, as the log's.
        times = [datetime.strptime(stamp, "%Y-%m-%d %H:%M:%S,%f").timestamp() - asked for stamp in found]
        at = min(time for time in times if time >= last - 0.01)
        result[part], last = round(at - last, 2), at
    return result | {"first token": round(seconds - last, 2)}


def summary(starts: list[Start]) -> Mapping[str, object]:
    """Median and 95th percentile, in seconds, of the whole and of each part."""

    def of(numbers: list[float]) -> dict[str, float]:
        ordered = sorted(numbers)
        return {"p50": round(statistics.median(ordered), 2), "p95": round(ordered[int(0.95 * (len(ordered) - 1))], 2)}

    whole = of([start.seconds for start in starts])
    return {
        "times": len(starts),
        **whole,
        "parts": {part: of([s.parts[part] for s in starts]) for part in starts[0].parts},
    }
