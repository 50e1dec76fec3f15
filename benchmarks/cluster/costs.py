"""Unit costs: what was measured (read from the results of other benchmarks) and what is assumed, with its source."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from s1ray.training.planning.gpus import GPUS

BENCHMARKS = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Measured:
    """Unit costs that this repository's benchmarks measured, on two CPU cores."""

    curate_start_s: float
    """CPU seconds of a curation that do not grow with its rows: Ray's start, its services (curation/scale.json)."""
    curate_worker_s: float
    """CPU seconds of workers for each row, all filters (curation/scale.json, between 0.59 and 5.9 million rows)."""
    curate_driver_s: float
    """CPU seconds of the driver for each row, one process whatever the cluster (the same)."""
    grade_s: float
    """CPU seconds to grade a response (grading/speed.json)."""
    http_s: float
    """CPU seconds of HAProxy and replica for each token at 64 requests at once (serving/throughput.json)."""
    eval_request_s: float
    """CPU seconds of the evaluation's one process for each request (evaluation/overhead.json)."""
    busy: dict[int, float]
    """The part of their time that training workers compute, by the number of groups that share a batch of 16 rows with
    s1K's lengths (training/busy.json)."""


@dataclass(frozen=True)
class Assumed:
    """What nobody here could measure. Every field is an option of the command line."""

    gpu: str = "H100"
    gpu_hour: float = 6.88
    """USD. AWS's list price of p5.48xlarge, 55.04 an hour for eight, as known in 2025; look up yours."""
    cpu_hour: float = 0.05
    """USD a core. AWS's list price of m7i.8xlarge, 1.61 an hour for 32; spot is about a third of it."""
    cpus_per_gpu: int = 12
    """Cores that a GPU node has beside each GPU (p5.48xlarge: 24; a safe half of it)."""
    bandwidth: float = 3.35e12
    """Bytes a second of a GPU's memory (H100 SXM, data sheet)."""
    bandwidth_used: float = 0.48
    """Of it, in decoding: what the autoscaling benchmark assumes of 32B on two H100s (20 ms a step for 65 GB)."""
    training_mfu: float = 0.31
    """Of a GPU's arithmetic, while it is not waiting. The paper's 26 minutes on 16 H100 are 0.20 with waiting, and s1's
    way of batching is busy 0.65 of the time."""
    sequence_parallel_kept: float = 0.9
    """Of the speed, for each doubling of the GPUs that share a row."""
    node_start_s: float = 420.0
    """From asking for a GPU node to Ray on it: instance, pull of an image of 12 GB, `ray start`."""
    engine_start_s: float = 150.0
    """From a free GPU to the first token of a 32B engine: weights, compilation, graphs (autoscaling/engine.py)."""
    storage_bytes_s: float = 10e9
    """Bytes a second into shared storage, all nodes together."""
    api_usd_per_million: float = 2.19
    """USD for a million tokens of DeepSeek-R1 from its maker's API (list price of 2025), for traces not made here."""


def measured() -> Measured:
    """The unit costs, from the results files beside this package."""
    scale = [row for row in read("curation/scale.json") if row["arm"] == "every"]
    some, many = (next(row for row in scale if row["rows"] == rows)["usage"]["cpu_s"] for rows in (590_290, 5_902_900))
    rows = 5_902_900 - 590_290
    worker = (many["workers"] - some["workers"]) / rows
    driver = (many["driver"] - some["driver"]) / rows
    serving = next(row for row in read("serving/throughput.json")["compared"] if row["concurrency"] == 64)
    tokens = serving["cpu_ms_per_token"]["direct"]
    grading = read("grading/speed.json")["grading"]
    evaluation = read("evaluation/overhead.json")["processor_ms_per_request"]["stage"]
    busy = read("training/busy.json")
    return Measured(
        curate_start_s=some["services"] + some["driver"] - driver * 590_290,
        curate_worker_s=worker,
        curate_driver_s=driver,
        grade_s=grading["workers"] / grading["rows_per_second"],
        http_s=(tokens["HAProxy"] + tokens["replica"]) / 1000,
        eval_request_s=sorted(evaluation)[len(evaluation) // 2] / 1000,
        busy={1: 1.0, 2: busy["s1K, 4 workers"]["sequence_parallel 2"]["by_cost"]}
        | {groups: busy[f"s1K, {groups} workers"]["sequence_parallel 1"]["by_cost"] for groups in (4, 8, 16)},
    )


def read(name: str) -> Any:
    """A results file."""
    return json.loads((BENCHMARKS / name).read_text(encoding="utf-8"))


def peak_flops(assumed: Assumed) -> float:
    """Operations a second of the GPU in dense bf16.

    Raises:
        ValueError: the GPU is unknown.
    """
    known = GPUS.get(assumed.gpu)
    if known is None or known.tflops is None:
        names = ", ".join(name for name, gpu in GPUS.items() if gpu.tflops)
        raise ValueError(f"--gpu {assumed.gpu}: its speed is not known here; one of {names}")
    return known.tflops * 1e12


def assumptions(changed: list[str]) -> Assumed:
    """The assumptions, with `name=value` changes.

    Raises:
        ValueError: a name is none of them, or a value is no positive number; the message names it.
    """
    types = {field.name: type(getattr(Assumed(), field.name)) for field in fields(Assumed)}
    values = asdict(Assumed())
    for change in changed:
        name, _, value = change.partition("=")
        if name not in types:
            raise ValueError(f"--assume {change}: no such assumption; there are {', '.join(types)}")
        try:
            values[name] = types[name](value)
        except ValueError:
            raise ValueError(f"--assume {change}: {value!r} is no {types[name].__name__}") from None
        if not isinstance(values[name], str) and not 0 < values[name] < float("inf"):
            raise ValueError(f"--assume {change}: must be above zero")
    return Assumed(**values)
