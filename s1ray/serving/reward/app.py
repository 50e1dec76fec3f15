r"""The Serve application of a process reward model.

    serve run s1ray.serving.reward.app:build_app model=runs/miniature/reward separator=$'\n'

    POST /v1/rewards {"question": "...", "steps": ["...", "..."]}
    -> {"model": "reward", "scores": [0.98, 0.12], "usage": {"total_tokens": 57}}

Requests are scored in batches, and replicas come and go with their number. A file for `serve run` and `serve deploy`
has `import_path: s1ray.serving.reward.app:build_app`; `s1ray serve check` knows it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from s1ray.cluster import check_node_labels, resources_of
from s1ray.config import ConfigError, validate_config
from s1ray.models import check_model
from s1ray.serving.reward.config import RewardConfig

if TYPE_CHECKING:
    from ray.serve import Application
    from starlette.requests import Request
    from starlette.responses import Response

    from s1ray.serving.reward.model import Asked, Scores

PATH = "/v1/rewards"
MAX_STEPS = 4096


class RewardRequest(BaseModel):
    """The body of a request."""

    model_config = ConfigDict(extra="forbid", strict=True)

    question: str = Field(min_length=1)
    steps: list[str] = Field(min_length=1, max_length=MAX_STEPS)
    model: str | None = None
    """Its name, where one is given."""


class RewardServer:
    """One replica."""

    def __init__(self, config: RewardConfig, device: str) -> None:
        from s1ray.serving.reward.model import RewardModel

        self._config = config
        self._model = RewardModel(config, device)

    async def __call__(self, request: Request) -> Response:
        """Answer an HTTP request."""
        from starlette.responses import JSONResponse

        if request.url.path.endswith("/v1/models") and request.method == "GET":
            return JSONResponse({"object": "list", "data": [{"id": self._config.name, "object": "model"}]})
        if not request.url.path.endswith(PATH):
            return _refusal(404, f"there is no {request.url.path} here; POST to {PATH}")
        if request.method != "POST":
            return _refusal(405, f"{PATH} takes POST, not {request.method}")
        from s1ray.serving.reward.model import Asked

        try:
            body = RewardRequest.model_validate_json(await request.body())
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]
            field = ".".join(str(part) for part in problem["loc"])
            return _refusal(400, f"{field or 'body'}: {problem['msg']}", field)
        if body.model not in (None, self._config.name):
            return _refusal(404, f"there is no model {body.model!r} here, only {self._config.name!r}", "model")
        asked = Asked(body.question, tuple(body.steps))
        refused = await asyncio.to_thread(self._model.refusal, asked)
        if refused is not None:
            return _refusal(400, refused, "steps")
        scores: Scores = await self.score(asked)
        usage = {"total_tokens": scores.tokens}
        return JSONResponse({"model": self._config.name, "scores": scores.scores, "usage": usage})

    async def score(self, asked: Any) -> Any:
        """Scores of one response; `_deployment` makes it wait for others to be scored with."""
        return (await self.score_batch([asked]))[0]

    async def score_batch(self, batch: list[Asked]) -> list[Scores]:
        """Scores of several responses."""
        return await asyncio.to_thread(self._model.score, batch)


def build_app(args: Mapping[str, object]) -> Application:
    """Build the application from the fields of `RewardConfig`.

    Raises:
        ConfigError: a field is unknown, missing or wrong, the model is not there, or no node has the `node_labels` and
            none can come.
    """
    config = validate_config(RewardConfig, dict(args), "args")
    check_model(config.model, "args.model")
    from ray import serve

    check_node_labels(config, "args")
    gpus = resources_of(config.node_labels).get("GPU", 0.0)
    on_gpu = config.device == "gpu" or (config.device == "auto" and gpus >= 1)
    if on_gpu and not gpus:
        raise ConfigError("args.device: gpu, but the cluster has none")

    class Batched(RewardServer):
        @serve.batch(  # type: ignore[untyped-decorator]  # Ray is untyped here
            max_batch_size=config.batch, batch_wait_timeout_s=config.batch_wait_ms / 1000
        )
        async def score(self, asked: list[Asked]) -> list[Scores]:
            return await self.score_batch(asked)

    labels: dict[str, Any] = {} if config.node_labels is None else {"label_selector": config.node_labels}
    deployment = serve.deployment(
        Batched,
        name="RewardModel",
        max_ongoing_requests=4 * config.batch,
        autoscaling_config={
            "min_replicas": config.min_replicas,
            "max_replicas": config.max_replicas,
            "target_ongoing_requests": config.target_ongoing_requests,
        },
        ray_actor_options={"num_cpus": 1, "num_gpus": 1 if on_gpu else 0} | labels,
    )
    return deployment.bind(config, "cuda" if on_gpu else "cpu")


def _refusal(status: int, message: str, field: str | None = None) -> Response:
    from starlette.responses import JSONResponse

    error = {"message": message, "type": "invalid_request_error", "param": field or None, "code": status}
    return JSONResponse({"error": error}, status_code=status)
