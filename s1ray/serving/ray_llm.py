"""Everything that s1ray takes from private modules of Ray, Serve and ray.serve.llm, in one place.

ray.serve.llm's public interface covers configs, deployments and the ingress class, but not the types that pass between
them, nor the engine and the router that we extend. Ray may change these in any minor release, which is why the minor is
pinned; a new one is tried out here first. What each name is needed for:

    ChatCompletionRequest, CompletionRequest       base classes of our request models
    ChatCompletionResponse, CompletionResponse     what a replica answers
    TokenizeCompletionRequest, TokenizeResponse    `/tokenize`, and counting a message's tokens
    DetokenizeRequest, DetokenizeResponse          `/detokenize`
    ErrorInfo, ErrorResponse                       how an engine refuses a request
    ModelCard, ModelList, to_model_metadata        `/v1/models`
    get_lora_model_ids, get_lora_model_metadata    the same of LoRA adapters in cloud storage
    RawRequestInfo                                 base class of what travels with a request (`RequestInfo`)
    DiskMultiplexConfig, global_id_manager         describe a LoRA adapter in a folder to an engine
    CallbackBase                                   skips the download of a model that is on disk
    VLLMEngine, VLLMEngineConfig                   base class of our engine; what `LLMConfig` says of it
    PowerOfTwoChoicesRequestRouter                 base class of our router
    running_replicas                               how many replicas share the traffic
    running_serve                                  whether Serve runs already, and where

Names are imported on first use: most of them import vLLM, which takes seconds, and neither the router nor
`serve_locally` should wait for that.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ray.llm._internal.common.callbacks.base import CallbackBase
    from ray.llm._internal.common.models import global_id_manager
    from ray.llm._internal.common.utils.lora_utils import get_lora_model_ids
    from ray.llm._internal.serve.core.configs.llm_config import DiskMultiplexConfig
    from ray.llm._internal.serve.core.configs.openai_api_models import (
        ChatCompletionRequest,
        ChatCompletionResponse,
        CompletionRequest,
        CompletionResponse,
        DetokenizeRequest,
        DetokenizeResponse,
        ErrorInfo,
        ErrorResponse,
        ModelCard,
        ModelList,
        TokenizeCompletionRequest,
        TokenizeResponse,
        to_model_metadata,
    )
    from ray.llm._internal.serve.core.protocol import RawRequestInfo
    from ray.llm._internal.serve.engines.vllm.vllm_engine import VLLMEngine
    from ray.llm._internal.serve.engines.vllm.vllm_models import VLLMEngineConfig
    from ray.llm._internal.serve.utils.lora_serve_utils import get_lora_model_metadata
    from ray.serve._private.request_router.pow_2_router import PowerOfTwoChoicesRequestRouter

__all__ = [
    "CallbackBase",
    "ChatCompletionRequest",
    "ChatCompletionResponse",
    "CompletionRequest",
    "CompletionResponse",
    "DetokenizeRequest",
    "DetokenizeResponse",
    "DiskMultiplexConfig",
    "ErrorInfo",
    "ErrorResponse",
    "ModelCard",
    "ModelList",
    "PowerOfTwoChoicesRequestRouter",
    "RawRequestInfo",
    "TokenizeCompletionRequest",
    "TokenizeResponse",
    "VLLMEngine",
    "VLLMEngineConfig",
    "get_lora_model_ids",
    "get_lora_model_metadata",
    "global_id_manager",
    "running_replicas",
    "running_serve",
    "to_model_metadata",
]

_ELSEWHERE = {
    "CallbackBase": "ray.llm._internal.common.callbacks.base",
    "DiskMultiplexConfig": "ray.llm._internal.serve.core.configs.llm_config",
    "PowerOfTwoChoicesRequestRouter": "ray.serve._private.request_router.pow_2_router",
    "RawRequestInfo": "ray.llm._internal.serve.core.protocol",
    "VLLMEngine": "ray.llm._internal.serve.engines.vllm.vllm_engine",
    "VLLMEngineConfig": "ray.llm._internal.serve.engines.vllm.vllm_models",
    "get_lora_model_ids": "ray.llm._internal.common.utils.lora_utils",
    "get_lora_model_metadata": "ray.llm._internal.serve.utils.lora_serve_utils",
    "global_id_manager": "ray.llm._internal.common.models",
}
"""The modules of the names that are not with the others, in `openai_api_models`."""


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = _ELSEWHERE.get(name, "ray.llm._internal.serve.core.configs.openai_api_models")
    return getattr(importlib.import_module(module), name)


def running_serve() -> tuple[str | None, int] | None:
    """The host and port on which Serve listens for HTTP in this Ray session; None where it does not run."""
    from ray.serve.context import _get_global_client

    client = _get_global_client(raise_if_no_controller_running=False)
    return None if client is None else (client.http_config.host, client.http_config.port)


def running_replicas() -> Callable[[], int]:
    """How many replicas of this replica's deployment run, as far as Serve has told it; called in a replica."""
    from ray import serve
    from ray.serve._private.long_poll import LongPollClient, LongPollNamespace
    from ray.serve.context import _get_global_client

    running = 1

    def changed(targets: Any) -> None:
        nonlocal running
        running = len(targets.running_replicas)

    replica = serve.get_replica_context().replica_id
    client = LongPollClient(
        _get_global_client()._controller,
        {(LongPollNamespace.DEPLOYMENT_TARGETS, replica.deployment_id): changed},
        call_in_event_loop=asyncio.get_running_loop(),
        client_id=f"s1ray:{replica.unique_id}",
    )
    # Without a controller it is the last number known. The client lives as long as it is asked.
    return lambda: max(1, running) if client is not None else 1
