"""An HTTP worker as Serve makes it, in front of scripted handles.

Nothing is started, but ray.serve.llm and vLLM are imported.
"""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from ray import serve

from s1ray.config import validate_config
from s1ray.serving.config import ServingConfig
from tests.support.attempts import Attempt

# Serve gives its ingress a `__del__` that only Serve can await.
pytestmark = pytest.mark.filterwarnings("ignore:coroutine .*__del__:RuntimeWarning")


class Handle:
    """A handle of Serve that notes how it is configured, and every request."""

    def __init__(self) -> None:
        self.configured: list[dict[str, Any]] = []
        self.requests: list[tuple[str, Any, Any]] = []

    def options(self, **options: Any) -> Any:
        self.configured.append(options)
        return self

    def __getattr__(self, method: str) -> Any:
        def remote(request: Any, info: Any) -> Attempt:
            self.requests.append((method, request, info))
            return Attempt(request)

        return SimpleNamespace(remote=remote)


def test_a_model_and_each_of_its_adapters_have_a_handle_of_their_own() -> None:
    from s1ray.serving.http.ingress import MAX_HANDLES, Handles

    handle = Handle()
    handles: Any = Handles({"m": handle})
    for name in ("m", "m:odd", "m", "m:odd"):
        handles.call(name, "chat", f"to {name}", "info")
    assert handle.configured == [{"stream": True}, {"stream": True, "multiplexed_model_id": "m:odd"}]
    assert handle.requests[:2] == [("chat", "to m", "info"), ("chat", "to m:odd", "info")]
    for number in range(MAX_HANDLES):
        handles.call(f"m:{number}", "chat", "hi", "info")
    assert handles._handle.cache_info().currsize == MAX_HANDLES


def test_serve_gets_an_application_that_hands_requests_to_the_replicas() -> None:
    from s1ray.serving import ray_llm as api
    from s1ray.serving.http.ingress import BudgetForcingIngress
    from s1ray.serving.http.models import Card

    model = {"name": "m", "model": "miniature-base", "max_model_len": 1000}
    config = validate_config(ServingConfig, {"models": [model]}, "test")
    card = Card(id="m", object="model", owned_by="s1ray", permission=[], metadata={}, created=5)
    handle = Handle()
    worker: Any = serve.ingress()(BudgetForcingIngress)
    made = worker.__new__(worker)
    asyncio.run(made.__init__(config, secret=None, handles={"m": handle}, cards={"m": card}, folders={}))
    app = made.__serve_build_asgi_app__()

    async def ask() -> httpx.Response:
        await made.check_health()
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            assert (await client.get("/v1/models")).json()["data"][0]["id"] == "m"
            return await client.post("/tokenize", json={"prompt": "hi"})

    assert asyncio.run(ask()).json()["prompt"] == "hi"
    ((method, request, _),) = handle.requests
    assert method == "tokenize"
    assert isinstance(request, api.TokenizeCompletionRequest)
