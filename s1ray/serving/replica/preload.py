"""Imports for the engine's process that begin before the replica's own.

vLLM starts its engine in a new process, which imports vLLM and PyTorch once more: on a laptop most of a cold start. A
server of processes (Python's `forkserver`) can import them while the replica does, and the engine is then forked from
it. For a single worker on the CPU alone: of GPUs nobody has tried it here.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.forkserver
from collections.abc import Mapping
from typing import Any

from s1ray.serving.config import ServedModel

MODULES = ["vllm.v1.engine.core", "vllm.v1.worker.cpu_worker", "s1ray.thinking.vllm.processor"]
"""What an engine's process imports."""


def is_for(model: ServedModel, llm_config: Mapping[str, Any]) -> bool:
    """Whether a model's engine is a single worker on the CPU."""
    on_gpu = "GPU" in llm_config["placement_group_config"]["bundle_per_worker"]
    return not on_gpu and model.tensor_parallel_size == 1


def begin() -> None:
    """Start the server of processes, which imports what an engine needs; returns at once."""
    multiprocessing.get_context("forkserver").set_forkserver_preload(MODULES)
    multiprocessing.forkserver.ensure_running()


def use() -> None:
    """Let vLLM fork its engine from the server of processes, in place of spawning it."""
    from vllm.v1.engine import utils

    utils.get_mp_context = lambda: multiprocessing.get_context("forkserver")
