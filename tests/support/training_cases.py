"""A few optimizer steps of the training engine, in ways that must all give the same numbers.

Each case is a config; every worker process runs all cases for its number of workers.
"""

from __future__ import annotations

import dataclasses
import datetime
import multiprocessing
import os
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import numpy.typing as npt

from s1ray.training.config import TrainingConfig
from tests.support.training_runs import training_config

if TYPE_CHECKING:
    from s1ray.training.data.collate import Dataset
    from s1ray.training.model.engine import Engine

Weights = dict[str, npt.NDArray[np.float32]]
R = TypeVar("R")

LENGTHS = (40, 7, 23, 64, 12, 5, 31, 50, 18, 33, 9, 27)
STEPS = 3
GLOBAL_BATCH = 4
MAX_LENGTH = 64
VOCABULARY = 270

PLAIN = "plain PyTorch"
LORA_LAYERS = ["q_proj", "v_proj", "down_proj"]
LORA = {"rank": 4, "alpha": 8, "target_modules": LORA_LAYERS}
QLORA = LORA | {"quantize": "nf4"}

ONE_WORKER: dict[str, dict[str, object]] = {
    "one row": {"zero_stage": 0, "micro_batch_tokens": 1000},
    "accumulated": {"zero_stage": 0, "micro_batch_tokens": MAX_LENGTH},
    "padded": {"zero_stage": 0, "packing": False, "micro_batch_tokens": 128},
    "small logits chunks": {"zero_stage": 0, "logits_chunk": 5},
    "checkpointed activations": {"zero_stage": 0, "gradient_checkpointing": True},
    "lora": {"zero_stage": 0, "lora": LORA},
    "qlora": {"zero_stage": 0, "lora": QLORA},
}
TWO_WORKERS: dict[str, dict[str, object]] = {
    **{f"zero {stage}": {"zero_stage": stage} for stage in range(4)},
    **{
        f"zero {stage}, optimizer offloaded": {"zero_stage": stage, "offload": {"optimizer": "cpu"}} for stage in (1, 2)
    },
    "zero 3, all offloaded": {"zero_stage": 3, "offload": {"optimizer": "cpu", "parameters": "cpu"}},
    **{f"rows shared, zero {stage}": {"zero_stage": stage, "sequence_parallel": 2} for stage in (0, 2, 3)},
    "rows shared, activations checkpointed": {"sequence_parallel": 2, "gradient_checkpointing": True},
    **{f"lora, zero {stage}": {"zero_stage": stage, "lora": LORA} for stage in range(4)},
    **{f"qlora, zero {stage}": {"zero_stage": stage, "lora": QLORA} for stage in range(3)},
    "lora, rows shared, zero 3": {"zero_stage": 3, "sequence_parallel": 2, "lora": LORA},
    **{
        f"bf16, zero {stage}": {"zero_stage": stage, "precision": "bf16", "export_dtype": "bfloat16"}
        for stage in range(4)
    },
}


@dataclasses.dataclass(frozen=True)
class Result:
    """What came of a case."""

    losses: list[float]
    norms: list[float]
    weights: Weights
    """The final ones."""
    trained: list[str]
    """Names of the weights that are trained."""
    rotary: str
    """Precision of the rotary frequencies."""


def in_workers(function: Callable[..., R], world_size: int, store: Path, *arguments: object) -> list[R]:
    """Call `function(*arguments, rank=..., world_size=...)` in new processes joined by gloo; what each returned."""
    context = multiprocessing.get_context("spawn")
    pools = [ProcessPoolExecutor(1, mp_context=context) for _ in range(world_size)]
    try:
        calls = [
            pool.submit(_joined, function, arguments, rank, world_size, str(store)) for rank, pool in enumerate(pools)
        ]
        return [call.result() for call in calls]
    finally:
        for pool in pools:
            pool.shutdown(cancel_futures=True)


def _joined(function: Callable[..., R], arguments: tuple[object, ...], rank: int, world_size: int, store: str) -> R:
    import torch

    variables = {"RANK": rank, "LOCAL_RANK": 0, "WORLD_SIZE": world_size, "MASTER_ADDR": "localhost", "MASTER_PORT": 0}
    os.environ |= {name: str(value) for name, value in variables.items()}
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", f"file://{store}", rank=rank, world_size=world_size, timeout=datetime.timedelta(minutes=2)
    )
    try:
        return function(*arguments, rank=rank, world_size=world_size)
    finally:
        torch.distributed.destroy_process_group()


def run_cases(model: str, *, rank: int, world_size: int) -> dict[str, Result]:
    """All cases for a number of workers, by name."""
    cases = ONE_WORKER if world_size == 1 else TWO_WORKERS
    results = {name: _run(model, changes, rank, world_size) for name, changes in cases.items()}
    if world_size == 1:
        results[PLAIN] = _run_plain(model)
    return results


def measure_loading(
    small: str, large: str, zero_stage: int, precision: str, *, rank: int, world_size: int
) -> dict[str, int]:
    """Bytes of private memory (without mapped files) that a worker needs to load a model: at the peak, and in the end.

    A small model is loaded first, so that libraries do not count.
    """
    import torch

    from s1ray.training.model.engine import import_deepspeed
    from s1ray.training.model.loading import load_network, place

    dtype = "float32" if precision == "fp32" else "bfloat16"
    config = config_of(large, num_workers=world_size, zero_stage=zero_stage, precision=precision, export_dtype=dtype)
    cpu = torch.device("cpu")
    import_deepspeed(cpu).init_distributed(dist_backend="gloo", verbose=False)
    place(load_network(small), config, cpu)
    before = _own_memory()
    with Peak() as peak:
        network = load_network(large)
        place(network, config, cpu)
    after = _own_memory()
    size = sum(getattr(parameter, "ds_numel", parameter.numel()) for parameter in network.parameters())
    return {"parameters": size, "peak": peak.bytes - before, "kept": after - before}


class Peak:
    """This process's peak of private memory inside the block, sampled every millisecond."""

    def __init__(self) -> None:
        self.bytes = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Peak:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.001):
            self.bytes = max(self.bytes, _own_memory())


def _own_memory() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("/proc/self/status has no RssAnon")


def config_of(model: str, **changes: object) -> TrainingConfig:
    settings = {
        "model": model,
        "max_length": MAX_LENGTH,
        "precision": "fp32",
        "export_dtype": "float32",
        "global_batch": GLOBAL_BATCH,
        "optimizer": {"learning_rate": 3e-3, "weight_decay": 0.1},
    }
    return training_config(**(settings | changes))


def make_dataset() -> Dataset:
    from s1ray.training.data.collate import Dataset

    draw = np.random.default_rng(0)
    tokens = [draw.integers(0, VOCABULARY, size=length) for length in LENGTHS]
    masks = [np.arange(length) >= length // 3 for length in LENGTHS]
    return Dataset([str(i) for i in range(len(LENGTHS))], tokens, masks)


def _run(model: str, changes: dict[str, object], rank: int, world_size: int) -> Result:
    import torch

    from s1ray.training.data.batching import global_batch, lay_out
    from s1ray.training.model.loading import load_engine
    from s1ray.training.model.proof import prove_loaded

    config = config_of(model, num_workers=world_size, **changes)
    dataset = make_dataset()
    torch.manual_seed(0)
    engine = load_engine(config, device=torch.device("cpu"), rank=rank, world_size=world_size)
    prove_loaded(engine, dataset, config)
    losses, norms = [], []
    for step in range(STEPS):
        indices = global_batch(step, len(dataset), GLOBAL_BATCH, seed=0)
        layout = lay_out(
            dataset.lengths,
            indices,
            num_workers=config.data_parallel,
            micro_batch_tokens=config.micro_batch,
            packing=config.packing,
        )
        inputs = [engine.inputs(dataset, batch) for batch in layout[engine.row_group]]
        loss = engine.accumulate(inputs, sum(dataset.trained[index] for index in indices))
        torch.distributed.all_reduce(loss)
        losses.append(loss.item())
        norms.append(engine.step(config.optimizer.learning_rate))
    trained = sorted(name for name, parameter in engine.model.named_parameters() if parameter.requires_grad)
    rotary = str(engine.model.base_model.rotary_emb.inv_freq.dtype)
    return Result(losses, norms, whole_weights(engine), trained, rotary)


def whole_weights(engine: Engine) -> Weights:
    """The model's weights, gathered from all workers."""
    import deepspeed

    from s1ray.training.model.quantization import widened

    weights = {}
    for name, parameter in engine.model.named_parameters():
        with deepspeed.zero.GatheredParameters([parameter]):
            weights[name] = widened(parameter).detach().float().numpy().copy()
    return weights


def _run_plain(model: str) -> Result:
    """Without DeepSpeed and without any code of s1ray but the data: one example at a time, all logits at once."""
    import torch
    from transformers import AutoModelForCausalLM

    from s1ray.training.data.batching import global_batch

    config, dataset = config_of(model), make_dataset()
    network = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32, attn_implementation="sdpa")
    decayed = [p for p in network.parameters() if p.ndim > 1]
    spared = [p for p in network.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": config.optimizer.weight_decay}, {"params": spared, "weight_decay": 0.0}],
        lr=config.optimizer.learning_rate,
        betas=config.optimizer.betas,
    )
    losses, norms = [], []
    for step in range(STEPS):
        indices = global_batch(step, len(dataset), GLOBAL_BATCH, seed=0)
        total = torch.zeros(())
        for index in indices:
            logits = network(input_ids=torch.from_numpy(dataset.tokens[index]).unsqueeze(0)).logits[0]
            total = total + torch.nn.functional.cross_entropy(
                logits, torch.from_numpy(dataset.labels[index]), ignore_index=-100, reduction="sum"
            )
        loss = total / sum(dataset.trained[index] for index in indices)
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(network.parameters(), config.optimizer.gradient_clip).item())
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    weights = {name: parameter.detach().numpy() for name, parameter in network.named_parameters()}
    return Result(losses, norms, weights, sorted(weights), "torch.float32")
