"""`DirectServer`: a model's replica that answers HTTP itself.

Imported only where the app is built and in the replicas, because ray.serve.llm imports vLLM.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from s1ray.serving.front.settings import ENABLED
from s1ray.serving.http.answers import Answerer
from s1ray.serving.http.routes import http_app
from s1ray.serving.metrics import set_queue_depth
from s1ray.serving.ray_llm import running_replicas
from s1ray.serving.replica.backend import LocalBackend
from s1ray.serving.replica.places import Places
from s1ray.serving.replica.server import BudgetForcingServer
from s1ray.serving.replica.stream_batching import DIRECT_PARTS_PER_CORE_AND_S
from s1ray.serving.scaling.policy import ENGINE_WAITING, SEQUENCES

if TYPE_CHECKING:
    from fastapi import FastAPI
    from ray.serve.llm import LLMConfig

    from s1ray.serving.config import ServingConfig
    from s1ray.serving.http.models import Card


class DirectServer(BudgetForcingServer):
    """One model's replica, with the HTTP application in the same process.

    Args:
        llm_config: ray.serve.llm's configuration of the model.
        config: the application's, with this model alone.
        secret: the text of a key file from the environment.
        cards: what `/v1/models` says of the model.
        folders: where its adapters are, if it has some.
        options: of `BudgetForcingServer`.
    """

    parts_per_core_and_s = DIRECT_PARTS_PER_CORE_AND_S

    async def __init__(  # type: ignore[misc]  # Serve awaits constructors
        self,
        llm_config: LLMConfig,
        *,
        config: ServingConfig,
        secret: str | None,
        cards: Mapping[str, Card],
        folders: Mapping[str, str],
        **options: Any,
    ) -> None:
        await super().__init__(llm_config, **options)
        (model,) = config.models
        queue = partial(set_queue_depth, model.name)
        self._places = Places(model.ongoing_limit, model.max_queued_requests, queue)
        backend = LocalBackend(self, self._places, others_retry=os.environ.get(ENABLED) == "1")
        self._http = config, secret, Answerer(config, cards, folders, backend)

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Serve asks for the application when the engine has started."""
        config, secret, answerer = self._http
        return http_app(config, answerer, secret=secret, workers=running_replicas())

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """As the base class's; what waits for a place here is counted with what waits in the engine."""
        stats = await super().record_autoscaling_stats()
        return stats | {ENGINE_WAITING: stats[ENGINE_WAITING] + self._places.waiting * stats[SEQUENCES]}
