"""The ingress: an HTTP worker in a process of its own, which reaches the models' replicas through Serve.

Imported only where the app is built and in the HTTP workers, because ray.serve.llm imports vLLM.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING

from fastapi import FastAPI
from pydantic import BaseModel

from s1ray.serving.config import ServingConfig
from s1ray.serving.http.answers import Answerer
from s1ray.serving.http.dialects.base import Method
from s1ray.serving.http.models import Card, base_of
from s1ray.serving.http.replica_call import Attempt
from s1ray.serving.http.responses import Part
from s1ray.serving.http.routes import http_app
from s1ray.serving.protocol.request_info import RequestInfo

if TYPE_CHECKING:
    from ray.serve.handle import DeploymentHandle

MAX_HANDLES = 1024
"""Handles to models and adapters that are kept."""


class Handles:
    """The models' replicas, behind Serve's handles.

    Args:
        models: handle of each model, by its name.
    """

    tries = 2
    """A request that kills its replica must not kill one after the other."""

    def __init__(self, models: Mapping[str, DeploymentHandle]) -> None:
        self._models = models
        # Each has tasks of its own in this process and with Serve's controller. Names come from clients.
        self._handle = lru_cache(MAX_HANDLES)(self._make_handle)

    def call(self, model: str, method: Method, request: BaseModel, info: RequestInfo) -> Attempt[Part]:
        """Send a request to a replica; an adapter's to one that has the adapter, if there is one."""
        attempt: Attempt[Part] = getattr(self._handle(model), method).remote(request, info)
        return attempt

    def _make_handle(self, model: str) -> DeploymentHandle:
        if model in self._models:
            return self._models[model].options(stream=True)
        return self._models[base_of(model)].options(stream=True, multiplexed_model_id=model)


class BudgetForcingIngress:
    """The deployment of the HTTP workers.

    Args:
        config: the application's.
        secret: the text of a key file from the environment.
        handles: handle of each model, by its name.
        cards: what `/v1/models` says of each.
        folders: where the adapters are of each that has some: a folder, or cloud storage.
    """

    def __init__(
        self,
        config: ServingConfig,
        *,
        secret: str | None,
        handles: Mapping[str, DeploymentHandle],
        cards: Mapping[str, Card],
        folders: Mapping[str, str],
    ) -> None:
        self._config, self._secret = config, secret
        self._answerer = Answerer(config, cards, folders, Handles(handles))

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Serve asks for the application when this worker has been made."""
        workers = self._config.ingress_replicas
        return http_app(self._config, self._answerer, secret=self._secret, workers=lambda: workers)

    async def check_health(self) -> None:
        """Serve awaits it where requests are answered, and replaces a worker in which it takes too long."""
