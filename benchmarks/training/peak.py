"""Peak memory of training workers, each in a process of its own, to compare the memory estimate with.

A worker first trains a model of a few hundred weights, so that everything that is loaded or allocated once (libraries,
thread stacks, communication) exists. The measured peak is the largest growth of its resident memory from then on, while
it loads the real model and takes three optimizer steps. Linux only, because it reads /proc.

    python -m benchmarks.training.peak SETTINGS   # one worker, started by `measure`
"""

from __future__ import annotations

import dataclasses
import gc
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import JsonValue

from benchmarks.training.resident import growth
from s1ray.training.config import TrainingConfig

if TYPE_CHECKING:
    from transformers import Qwen2Config


@dataclasses.dataclass(frozen=True)
class Measured:
    """A model, its rows, and how they are trained."""

    name: str
    changes: dict[str, JsonValue]
    """Fields of `TrainingConfig`."""
    hidden_size: int = 512
    intermediate_size: int = 1536
    layers: int = 6
    heads: int = 8
    key_value_heads: int = 2
    vocabulary: int = 16384
    examples: tuple[int, ...] = (1024, 768, 256)
    """Tokens of the examples of one micro-batch; the first quarter of each is not trained."""
    micro_batches: int = 1

    def config(self, model: str = "unused") -> TrainingConfig:
        """The training config."""
        fields = {"output": "unused", "model": model, "traces": "unused", "device": "cpu", "precision": "fp32"}
        return TrainingConfig.model_validate(fields | {"max_length": sum(self.examples)} | self.changes)

    def model_config(self) -> Qwen2Config:
        """The model's sizes as transformers' config."""
        from transformers import Qwen2Config

        return Qwen2Config(
            vocab_size=self.vocabulary,
            hidden_size=self.hidden_size,
            intermediate_size=self.intermediate_size,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.key_value_heads,
            tie_word_embeddings=True,
            max_position_embeddings=32768,
        )


ENVIRONMENT = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "MALLOC_MMAP_THRESHOLD_": "1000000"}
"""One thread, and memory that returns to the system when freed. By default glibc keeps freed blocks of up to 32 MiB
in a fragmented heap; that loss is the allocator's, and `memory_advice.CPU_HEADROOM` leaves room for it.
"""

SMALL: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 32,
    "layers": 1,
    "heads": 4,
    "vocabulary": 64,
    "examples": (8, 8),
}
"""The model that each worker trains first."""


def write_model(measured: Measured, folder: Path) -> None:
    """Write a Qwen2 with random weights in the training's precision."""
    import torch
    from transformers import Qwen2ForCausalLM

    torch.manual_seed(0)
    dtype = torch.bfloat16 if measured.config().precision == "bf16" else torch.float32
    Qwen2ForCausalLM(measured.model_config()).to(dtype).save_pretrained(folder)


def measure(measured: Measured) -> int:
    """The growth of the worker with the largest peak, in bytes.

    Raises:
        RuntimeError: a worker failed; with the end of its output.
    """
    workers = measured.config().num_workers
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_model(measured, folder / "model")
        write_model(dataclasses.replace(measured, **SMALL), folder / "small")
        processes = []
        for rank in range(workers):
            settings = json.dumps({"measured": dataclasses.asdict(measured), "folder": name, "rank": rank})
            environment = os.environ | ENVIRONMENT
            command = [sys.executable, "-m", "benchmarks.training.peak", settings]
            root = Path(__file__).resolve().parents[2]
            with (folder / f"log_{rank}").open("wb") as log:
                processes.append(subprocess.Popen(command, cwd=root, env=environment, stdout=log, stderr=log))
        peaks = []
        for rank, process in enumerate(processes):
            if process.wait() != 0:
                text = (folder / f"log_{rank}").read_text(errors="replace")
                raise RuntimeError(f"{measured.name}: worker {rank} failed:\n{text[-4000:]}")
            peaks.append(int((folder / f"peak_{rank}").read_text()))
    return max(peaks)


def run_worker(measured: Measured, folder: Path, rank: int) -> int:
    """The peak of this process in bytes; `measure` starts it."""
    import torch

    workers = measured.config().num_workers
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": "0", "WORLD_SIZE": str(workers)}
    os.environ |= {"MASTER_ADDR": "unused", "MASTER_PORT": "0"}
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=workers)
    train(dataclasses.replace(measured, **SMALL), folder / "small", rank)
    gc.collect()
    return growth(lambda: train(measured, folder / "model", rank))


def train(measured: Measured, model: Path, rank: int) -> None:
    """Load a model and take three optimizer steps on random rows."""
    import numpy as np
    import torch

    from s1ray.training.data.collate import Dataset
    from s1ray.training.model.loading import load_engine

    config, workers = measured.config(str(model)), measured.config().num_workers
    draw = np.random.default_rng(0)
    dataset = Dataset(
        [str(i) for i in range(len(measured.examples))],
        [draw.integers(0, measured.vocabulary, size=length) for length in measured.examples],
        [np.arange(length) >= length // 4 for length in measured.examples],
    )
    engine = load_engine(config, device=torch.device("cpu"), rank=rank, world_size=workers)
    for _ in range(3):
        batches = [engine.inputs(dataset, range(len(dataset))) for _ in range(measured.micro_batches)]
        engine.accumulate(batches, sum(dataset.trained) * len(batches) * workers)
        engine.step(1e-4)


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    given["measured"]["examples"] = tuple(given["measured"]["examples"])
    place = Path(given["folder"])
    peak = run_worker(Measured(**given["measured"]), place, given["rank"])
    (place / f"peak_{given['rank']}").write_text(str(peak))
