"""`DirectReplica`: a model's replica that answers HTTP itself.

Light to import: where the application is built, it need not wait for vLLM, and in the replica the engine's imports
begin before its own.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from s1ray.logs import keeping_handlers
from s1ray.serving.config import ServingConfig
from s1ray.serving.front.settings import ENABLED
from s1ray.serving.metrics import set_queue_depth
from s1ray.serving.replica import preload
from s1ray.serving.replica.adapters import downloader
from s1ray.serving.scaling.policy import ENGINE_WAITING, SEQUENCES

if TYPE_CHECKING:
    from fastapi import FastAPI


class DirectReplica:
    """One model's server, with the HTTP application in the same process.

    Args:
        config: the application's, with this model alone.
        secret: the text of a key file from the environment.
        llm_config: the fields of ray.serve.llm's configuration of the model.
        created: when the application was built, in seconds since the epoch.
    """

    async def __init__(  # type: ignore[misc]  # Serve awaits constructors
        self, config: ServingConfig, *, secret: str | None, llm_config: Mapping[str, Any], created: int
    ) -> None:
        (model,) = config.models
        preloads = preload.is_for(model, llm_config)
        if preloads:
            preload.begin()
        # vLLM would close the log of this replica.
        with keeping_handlers():
            from ray.serve.llm import LLMConfig

            from s1ray.serving.http.answers import Answerer
            from s1ray.serving.http.models import model_card
            from s1ray.serving.http.routes import http_app
            from s1ray.serving.replica.backend import LocalBackend
            from s1ray.serving.replica.places import Places
            from s1ray.serving.replica.server import BudgetForcingServer
            from s1ray.serving.replica.stream_batching import DIRECT_PARTS_PER_CORE_AND_S

        if preloads:
            preload.use()
        ray_config = LLMConfig(**llm_config)
        card = model_card(model, ray_config, created)
        self._server: BudgetForcingServer = BudgetForcingServer.__new__(BudgetForcingServer)
        await self._server.__init__(  # type: ignore[misc]  # Serve's base class has a constructor to be awaited
            ray_config,
            thinking_format=model.thinking_format,
            limits=config.limits,
            parts_per_core_and_s=DIRECT_PARTS_PER_CORE_AND_S,
            model_downloader=downloader(model.adapters),
        )
        self._places = Places(model.ongoing_limit, model.max_queued_requests, partial(set_queue_depth, model.name))
        backend = LocalBackend(
            self._server,
            self._places,
            others_retry=os.environ.get(ENABLED) == "1",
            keep_alive_s=config.limits.keep_alive_s,
        )
        folders = {} if model.adapters is None else {model.name: model.adapters.folder}
        self._app = partial(http_app, config, Answerer(config, {model.name: card}, folders, backend), secret=secret)

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Serve asks for the application when the engine has started."""
        from s1ray.serving.http.preparing import Preparations
        from s1ray.serving.ray_llm import running_replicas

        return self._app(workers=running_replicas(), preparations=Preparations())

    async def check_health(self) -> None:
        """Serve awaits it, and replaces a replica where it fails or takes too long."""
        await self._server.check_health()

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """The engine's load, for autoscaling; what waits for a place is counted with what waits in the engine."""
        stats = await self._server.record_autoscaling_stats()
        return stats | {ENGINE_WAITING: stats[ENGINE_WAITING] + self._places.waiting * stats[SEQUENCES]}
