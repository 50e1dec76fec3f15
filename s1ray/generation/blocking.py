"""A generator for code that is not asynchronous: what an actor that answers one shard of questions after another
needs.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from s1ray.generation.base import GenerationRequest, Generator, complete_all
from s1ray.generation.vllm import check_engine_kwargs
from s1ray.models import EngineConfig, check_model
from s1ray.runs import digest
from s1ray.schemas import Completion

MakeGenerator = Callable[[], Generator]


class BlockingGenerator:
    """Completes lists of requests on an event loop of its own, in a thread of its own.

    An engine is tied to the loop that it was first used on, so the loop lives as long as the engine does.
    """

    def __init__(self, make_generator: MakeGenerator, concurrency: int):
        """Start the loop and make the generator on it.

        Args:
            make_generator: makes the generator; called on the loop's thread.
            concurrency: requests in flight at once.
        """
        self._concurrency = concurrency
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="generator", daemon=True)
        self._thread.start()
        self._generator: Generator = self._run(_made(make_generator))

    def complete(self, requests: Sequence[GenerationRequest]) -> list[Completion]:
        """Completions in the order of the requests; one that failed holds the message in `error`."""
        found: dict[str, Completion] = self._run(self._complete(requests))
        return [found[request.id] for request in requests]

    def close(self) -> None:
        """Release the generator and end the thread."""
        if self._loop.is_running():
            self._run(self._generator.close())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(timeout=10)

    async def _complete(self, requests: Sequence[GenerationRequest]) -> dict[str, Completion]:
        completions = complete_all(self._generator, requests, concurrency=self._concurrency)
        return {completion.id: completion async for completion in completions}

    def _run(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()


def vllm_generator(config: EngineConfig) -> Generator:
    """A vLLM engine in this process. It says only what is wrong, unless vLLM's own variable asks for more."""
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    from s1ray.generation.vllm import VLLMGenerator

    return VLLMGenerator(config)


def engine_actor_options(config: EngineConfig) -> dict[str, Any]:
    """Ray options of an actor that holds an engine: a GPU per tensor-parallel rank, or CPUs where the cluster has none.

    Needs Ray to be connected.
    """
    import ray

    on_gpu = config.device == "gpu" or (config.device == "auto" and ray.cluster_resources().get("GPU", 0) >= 1)
    if on_gpu:
        return {"num_cpus": 1, "num_gpus": config.tensor_parallel_size}
    return {"num_cpus": config.tensor_parallel_size}


def resolved_engine(config: EngineConfig) -> EngineConfig:
    """The engine with its model's packaged name resolved to a folder.

    Raises:
        FileNotFoundError: the model is a path at which nothing is.
        ValueError: `engine_kwargs` has a name that vLLM does not know.
    """
    check_engine_kwargs(config)
    check_model(config.model, "model")
    return config


def engine_identity(engine: EngineConfig) -> dict[str, Any]:
    """What of a resolved engine can change its answers; a local model counts by its weights, not by its path."""
    identity = engine.model_dump(mode="json", exclude={"kv_cache_gib", "max_num_seqs", "device"})
    return identity | {"model": digest(engine.model) if Path(engine.model).is_dir() else engine.model}


def request_seed(seed: int, key: str) -> int:
    """The sampling seed of one request, the same whatever shard or worker it lands in."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{key}".encode()).digest()[:4], "big") >> 1


async def _made(make_generator: MakeGenerator) -> Generator:
    return make_generator()
