"""Each stage on a cluster of so many GPUs: wall time, GPU hours, cost, and what it waits for."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from benchmarks.cluster.costs import Assumed, Measured, peak_flops
from benchmarks.cluster.generation import Model, generate, lengths

POOL = 59_029
"""Questions that s1 collected (arXiv 2501.19393, section 2)."""
AFTER_QUALITY = 51_581
"""Of them after its quality filters: those that difficulty models answer."""
UNSOLVED_BY_7B = 0.62
"""Assumed. The paper says what both models leave, 24,496 of 51,581."""
SELECTED = 1_000
TRAINED_TOKENS = 5 * 4_700_000
"""Five epochs of s1K's traces, 4.7 million tokens (appendix C)."""
PARAMETERS_32B = 32.8e9
GLOBAL_BATCH = 16
STEPS = 315
CHECKPOINTS = 5
CHECKPOINT_BYTES = 390e9
WEIGHTS_BYTES = 65.5e9
BENCHMARK_QUESTIONS = 30 + 500 + 198
"""AIME24, MATH500 and GPQA Diamond, the paper's three."""
BUDGETS = (512, 1024, 2048, 4096, 8192, 28_000)

CPU_NODE = 32
"""Cores of the one node that the filters need."""
PARTS = math.ceil(POOL / 4096)
"""Of the pool: a part is one task."""

SMALL = Model("Qwen2.5-7B-Instruct", 7.6e9, gpus=1, slots=128)
LARGE = Model("Qwen2.5-32B-Instruct", PARAMETERS_32B, gpus=2, slots=64)
TEACHER = Model("a 32B reasoning model", PARAMETERS_32B, gpus=2, slots=64)
SERVED = Model("s1.1-32B", PARAMETERS_32B, gpus=2, slots=64)


@dataclass
class Stage:
    """One line of the table."""

    name: str
    gpus: int
    """That it can use, of those that are there."""
    parts: dict[str, float] = field(default_factory=dict)
    """Seconds, one after the other."""
    work: str = ""
    usd: float = 0.0
    note: str = ""

    @property
    def wall_s(self) -> float:
        """Seconds from nothing to the result."""
        return sum(self.parts.values())

    @property
    def bottleneck(self) -> str:
        """The longest part, with its share of the time."""
        name, seconds = max(self.parts.items(), key=lambda part: part[1])
        return f"{name} ({100 * seconds / self.wall_s:.0f} %)"


def simulate(gpus: int, measured: Measured, assumed: Assumed, seed: int = 0) -> list[Stage]:
    """All stages, each alone on the cluster.

    Raises:
        ValueError: too few GPUs for a stage; the message says which.
    """
    if gpus < LARGE.gpus:
        raise ValueError(f"--gpus {gpus}: the 32B models need {LARGE.gpus}")
    stages = [
        filters(measured),
        difficulty(gpus, measured, assumed, seed),
        traces(gpus, SELECTED, 4, measured, assumed, seed),
        traces(gpus, POOL, 1, measured, assumed, seed),
        train(gpus, measured, assumed),
        evaluate(gpus, measured, assumed, seed),
    ]
    for stage in stages:
        hours = stage.wall_s / 3600
        stage.usd = hours * (stage.gpus * assumed.gpu_hour if stage.gpus else CPU_NODE * assumed.cpu_hour)
    return stages


def cores(gpus: int, assumed: Assumed) -> int:
    """CPU cores of the cluster."""
    return gpus * assumed.cpus_per_gpu


def filters(measured: Measured) -> Stage:
    """Curation without its models: CPUs only, and one driver."""
    parts = {
        "Ray's start and services": measured.curate_start_s,
        "the driver, one process": POOL * measured.curate_driver_s,
        "workers": POOL * measured.curate_worker_s / min(CPU_NODE, PARTS),
    }
    note = f"{PARTS} parts of 4,096 rows: one CPU node is enough"
    return Stage("curate: filters", 0, parts, f"{POOL:,} questions", note=note)


def difficulty(gpus: int, measured: Measured, assumed: Assumed, seed: int) -> Stage:
    """Curation's models: the 7B answers every question, the 32B those that are left."""
    left = round(AFTER_QUALITY * UNSOLVED_BY_7B)
    first = generate(lengths(AFTER_QUALITY, 450, 0.6, 4096, seed), SMALL, gpus, assumed)
    second = generate(lengths(left, 450, 0.6, 4096, seed), LARGE, gpus, assumed)
    parts = {
        "nodes and engines start": assumed.node_start_s + 2 * assumed.engine_start_s,
        "decoding": first.wall_s - first.half_idle_s + second.wall_s - second.half_idle_s,
        "waiting for the longest answers": first.half_idle_s + second.half_idle_s,
        "grading": (AFTER_QUALITY + left) * measured.grade_s / cores(gpus, assumed),
    }
    work = f"{AFTER_QUALITY:,} answers of the 7B, {left:,} of the 32B"
    return Stage("curate: difficulty", gpus, parts, work)


def traces(gpus: int, questions: int, samples: int, measured: Measured, assumed: Assumed, seed: int) -> Stage:
    """Traces as long as s1K-1.1's from a model of one's own."""
    batch = generate(lengths(questions * samples, 6000, 0.7, 28_000, seed), TEACHER, gpus, assumed)
    parts = {
        "nodes and engines start": assumed.node_start_s + assumed.engine_start_s,
        "decoding": batch.wall_s - batch.half_idle_s,
        "waiting for the longest traces": batch.half_idle_s,
        "grading": questions * samples * measured.grade_s / cores(gpus, assumed),
    }
    api = batch.tokens / 1e6 * assumed.api_usd_per_million
    work = f"{questions:,} questions x {samples}, {batch.tokens / 1e6:.0f} M tokens"
    used = batch.replicas * TEACHER.gpus
    return Stage(f"traces: {questions:,} x {samples}", used, parts, work, note=f"{api:,.0f} USD from an API instead")


def train(gpus: int, measured: Measured, assumed: Assumed) -> Stage:
    """s1-32B: five epochs in batches of 16 rows, which no more than 16 groups of GPUs can share."""
    best: tuple[float, int, int] | None = None
    for groups in measured.busy:
        for together in (1, 2, 4, 8):
            used = groups * together
            if used > gpus or used < 16:
                continue
            kept = assumed.sequence_parallel_kept ** math.log2(together)
            flops = 6 * PARAMETERS_32B * TRAINED_TOKENS
            seconds = flops / (used * peak_flops(assumed) * assumed.training_mfu * kept * measured.busy[groups])
            if best is None or seconds < best[0]:
                best = (seconds, groups, together)
    if best is None:
        raise ValueError(f"--gpus {gpus}: training 32B needs 16 of 80 GB")
    seconds, groups, together = best
    parts = {
        "nodes start": assumed.node_start_s,
        "weights to every node": WEIGHTS_BYTES * math.ceil(groups * together / 8) / assumed.storage_bytes_s,
        "optimizer steps": seconds,
        "checkpoints": CHECKPOINTS * CHECKPOINT_BYTES / assumed.storage_bytes_s,
    }
    note = f"{groups} groups x {together} GPUs a row, busy {100 * measured.busy[groups]:.0f} %"
    if gpus > groups * together:
        note += f"; a global batch of {GLOBAL_BATCH} has no use for the others"
    return Stage("train: s1-32B", groups * together, parts, f"{STEPS} steps, 23.5 M tokens", note=note)


def evaluate(gpus: int, measured: Measured, assumed: Assumed, seed: int) -> Stage:
    """The paper's three benchmarks at six budgets, from one server and one evaluating process."""
    wall = tail = 0.0
    replicas = 0
    for budget in BUDGETS:
        batch = generate(lengths(BENCHMARK_QUESTIONS, 4000, 0.8, budget, seed), SERVED, gpus, assumed)
        wall, tail, replicas = wall + batch.wall_s, tail + batch.half_idle_s, max(replicas, batch.replicas)
    requests = BENCHMARK_QUESTIONS * len(BUDGETS)
    parts = {
        "nodes and engines start": assumed.node_start_s + assumed.engine_start_s,
        "decoding": wall - tail,
        "waiting for the longest answers": tail,
        "the evaluating process": requests * measured.eval_request_s,
    }
    return Stage("eval: six budgets", replicas * SERVED.gpus, parts, f"{requests:,} requests")


def serve(gpus: int, measured: Measured, assumed: Assumed) -> dict[str, float]:
    """A server that fills the cluster: tokens a second, and the cores that its HTTP workers need."""
    replicas = gpus // SERVED.gpus
    tokens = replicas * SERVED.slots / (SERVED.step_s(assumed) + 0.0003 * SERVED.slots)
    busy = tokens * measured.http_s
    return {
        "replicas": replicas,
        "requests at once": replicas * SERVED.slots,
        "tokens a second": tokens,
        "cores for HTTP": busy,
        "of the cluster's cores": busy / cores(gpus, assumed),
        "USD an hour": gpus * assumed.gpu_hour,
        "USD for a million tokens": gpus * assumed.gpu_hour / tokens / 3600 * 1e6,
    }
