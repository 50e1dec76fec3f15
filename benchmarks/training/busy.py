"""How busy the workers of a run are: by the plan for s1's data, and measured on four workers.

    python -m benchmarks.training.busy
    python -m benchmarks.training.busy --traces runs/miniature/traces/traces.parquet --output busy.json

The first prints the table of the plan. The second also trains the miniature on four CPU workers, each way, and measures
the processor time that each worker spends on each step: a worker that waits for another one spends none, and so the
share of the mean in the largest is what four devices would have been busy, however many cores this machine has.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from benchmarks.training.workload import MAX_LENGTH, MIN_LENGTH, MODE
from s1ray.cluster import own_cluster
from s1ray.config import load_config, validate_config
from s1ray.recipes import find_recipe
from s1ray.storage import write_json
from s1ray.training import loop, trainer
from s1ray.training.config import TrainingConfig
from s1ray.training.data.batching import BY_TOKENS, RowCost, busy_share
from s1ray.training.loop import Outcome
from s1ray.training.monitoring.metrics import read_metrics
from s1ray.training.planning.architecture import row_cost
from s1ray.training.planning.plan import Rows

ROWS, STEPS = 1000, 63
LONGEST_11 = 26_000
"""Tokens of s1K-1.1's longest traces."""
WORKERS, DEGREES = (4, 8, 16, 32), (1, 2, 4)
QWEN_32B = {
    "vocab_size": 152064,
    "hidden_size": 5120,
    "intermediate_size": 27648,
    "num_hidden_layers": 64,
    "num_attention_heads": 40,
    "num_key_value_heads": 8,
}


def s1k_lengths(seed: int = 0) -> list[int]:
    """Tokens of a thousand rows like s1K's (see `workload`)."""
    draw = np.random.default_rng(seed)
    return [int(length) for length in draw.triangular(MIN_LENGTH, MODE, MAX_LENGTH, size=ROWS)]


def s11_lengths(seed: int = 0) -> list[int]:
    """Tokens of a thousand rows like s1K-1.1's: most between 1,000 and 17,000, a tail up to 26,000."""
    draw = np.random.default_rng(seed)
    return [int(min(LONGEST_11, length)) for length in draw.lognormal(8.9, 0.65, size=ROWS)]


def cost_of_32b() -> RowCost:
    """Of Qwen2.5-32B."""
    from transformers import Qwen2Config

    return row_cost(Qwen2Config(**QWEN_32B))


def planned(lengths: list[int], workers: int, degree: int, balance: RowCost) -> float:
    """The busy share of an epoch at batch 16, with rows spread by a measure of their cost."""
    settings = {"output": "x", "model": "x", "traces": "x", "num_workers": workers, "sequence_parallel": degree}
    config = validate_config(TrainingConfig, settings, "benchmark")
    layouts = Rows(lengths, lengths, balance).layouts(config, STEPS)
    return busy_share(layouts, lengths, config.packing, cost_of_32b())


def train_and_measure(settings: Mapping[str, object]) -> Outcome:
    """`train_worker`, which also writes the processor seconds of each step into the run folder."""
    import ray.train

    spent = [time.process_time()]

    def after_step(finished: int) -> None:
        spent.append(time.process_time())

    outcome = loop.train_worker(settings, after_step=after_step)
    rank = ray.train.get_context().get_world_rank()
    (Path(str(settings["output"])) / f"seconds_{rank}.json").write_text(json.dumps(np.diff(spent).tolist()))
    return outcome


def measured(traces: Path, degree: int) -> dict[str, float]:
    """Train the miniature on four workers; the busy shares by its metrics and by the processor time of the workers."""
    with tempfile.TemporaryDirectory() as folder, own_cluster(4):
        changes = {
            "output": folder + "/run",
            "traces": str(traces),
            "num_workers": 4,
            "sequence_parallel": degree,
            "epochs": 1,
            "tracking": {"tensorboard": False},
        }
        base = load_config(TrainingConfig, find_recipe("miniature", "train"))
        config = validate_config(TrainingConfig, base.model_dump() | changes, "benchmark")
        setattr(trainer, "train_worker", train_and_measure)  # noqa: B010  # the trainer passes it on by this name
        run = trainer.train(config)
        spent = np.array([json.loads((run.path / f"seconds_{rank}.json").read_text()) for rank in range(4)])
        lines = read_metrics(run.path / "metrics.jsonl")
    spent = spent[:, 1:]  # the first step also warms up
    return {
        "by_layout": round(float(np.mean([line["busy"] for line in lines])), 3),
        "by_processor_time": round(float(spent.sum() / (4 * spent.max(axis=0).sum())), 3),
        "steps": len(lines),
    }


def main() -> None:
    """Print the table, and measure if there are traces."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--traces", type=Path, help="The miniature's traces: train on four workers, and measure.")
    parser.add_argument("--output", type=Path, help="JSON file to write.")
    arguments = parser.parse_args()
    results: dict[str, object] = {}
    for name, lengths in {"s1K": s1k_lengths(), "s1K-1.1": s11_lengths()}.items():
        print(f"{name}: {ROWS:,} rows, mean {np.mean(lengths):,.0f} tokens, longest {max(lengths):,}, batch 16")
        for workers in WORKERS:
            row = {}
            for degree in DEGREES:
                before, now = (planned(lengths, workers, degree, by) for by in (BY_TOKENS, cost_of_32b()))
                row[f"sequence_parallel {degree}"] = {"by_tokens": round(before, 3), "by_cost": round(now, 3)}
            shares = ", ".join(
                f"{name} {100 * v['by_cost']:.1f} % ({100 * v['by_tokens']:.1f})" for name, v in row.items()
            )
            print(f"  {workers:2d} workers: {shares}")
            results[f"{name}, {workers} workers"] = row
    if arguments.traces is not None:
        for degree in DEGREES:
            found = measured(arguments.traces, degree)
            print(f"the miniature on 4 workers, sequence_parallel {degree}: {found}")
            results[f"miniature, 4 workers, sequence_parallel {degree}"] = found
    if arguments.output is not None:
        write_json(arguments.output, results)


if __name__ == "__main__":
    main()
