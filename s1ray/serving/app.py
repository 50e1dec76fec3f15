"""The Serve application: `serve run serve_config.yaml` builds it from `import_path: s1ray.serving.app:build_app`."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from s1ray.cluster import check_node_labels, resources_of
from s1ray.config import ConfigError, validate_config
from s1ray.serving.check import INGRESS, deployment_name, model_problems
from s1ray.serving.config import ServingConfig
from s1ray.serving.http.keys import SECRET, KeyStore
from s1ray.serving.replica.adapters import absolute, downloader
from s1ray.serving.replica.llm_config import UNBOUNDED, llm_config, replica_options, resolve_device

if TYPE_CHECKING:
    from ray.serve import Application


def build_app(args: Mapping[str, object] | ServingConfig) -> Application:
    """Build the application from its `args` (the fields of `ServingConfig`).

    Needs a Ray session: `device: auto` looks at the cluster's GPUs.

    Raises:
        ConfigError: a field is unknown, missing or wrong, the API keys cannot be read, or no node has a model's
            `node_labels` and none can come.
    """
    config = args if isinstance(args, ServingConfig) else validate_config(ServingConfig, dict(args), "args")
    if config.access.keys_file is not None:
        # The HTTP workers read it, in another working folder.
        access = config.access.model_copy(update={"keys_file": str(Path(config.access.keys_file).absolute())})
        config = config.model_copy(update={"access": access})
    secret = None if config.access.keys_file is not None else os.environ.get(SECRET)
    if not KeyStore(config.access.keys_file, secret).required and config.access.required:
        raise ConfigError(
            f"args.access.required: there are no keys: give access.keys_file, or {SECRET} in the environment of the "
            "cluster or under runtime_env.env_vars of the application (`serve deploy` does not bring the shell's)"
        )
    for problem in model_problems(config):
        raise ConfigError(f"args.{problem}")
    return _bind(config, secret)


def _bind(config: ServingConfig, secret: str | None) -> Application:
    """The application's deployments, of a config that has been checked."""
    check_node_labels(config, "args")
    models = [
        model.model_copy(
            update={
                "device": resolve_device(model.device, resources_of(model.node_labels).get("GPU", 0.0)),
                "adapters": absolute(model.adapters),
            }
        )
        for model in config.models
    ]
    config = config.model_copy(update={"models": models})
    return _direct(config, secret) if config.direct else _behind_workers(config, secret)


def _direct(config: ServingConfig, secret: str | None) -> Application:
    """The model's replicas, which answer HTTP themselves."""
    from ray import serve

    from s1ray.serving.replica.direct import DirectReplica

    (model,) = config.models
    fields = llm_config(model, model.device, log_engine_metrics=config.log_engine_metrics, direct=True)
    deployment = serve.deployment(
        serve.ingress()(DirectReplica),
        name=deployment_name(model.name),
        **replica_options(fields, model.tensor_parallel_size),
    )
    return deployment.bind(config, secret=secret, llm_config=fields, created=int(time.time()))


def _behind_workers(config: ServingConfig, secret: str | None) -> Application:
    """A server for each model, and HTTP workers in front of them; ray.serve.llm, imported here, brings vLLM with it."""
    from ray import serve
    from ray.serve.llm import LLMConfig, build_llm_deployment

    from s1ray.serving.http.ingress import BudgetForcingIngress
    from s1ray.serving.http.models import model_card
    from s1ray.serving.replica.server import BudgetForcingServer

    servers, cards, folders = {}, {}, {}
    for model in config.models:
        ray_config = LLMConfig(**llm_config(model, model.device, log_engine_metrics=config.log_engine_metrics))
        options = {
            "thinking_format": model.thinking_format,
            "limits": config.limits,
            "model_downloader": downloader(model.adapters),
        }
        servers[model.name] = build_llm_deployment(ray_config, deployment_cls=BudgetForcingServer, bind_kwargs=options)
        cards[model.name] = model_card(model, ray_config, int(time.time()))
        if model.adapters is not None:
            folders[model.name] = model.adapters.folder
    ingress = serve.deployment(
        serve.ingress()(BudgetForcingIngress),
        name=INGRESS,
        num_replicas=config.ingress_replicas,
        # Requests wait at the models, where autoscaling sees them, and not at the ingress.
        max_ongoing_requests=UNBOUNDED,
        # Every response passes through it to its end.
        graceful_shutdown_timeout_s=max(model.graceful_shutdown_timeout_s for model in config.models),
        ray_actor_options={"num_cpus": 0},
    )
    return ingress.bind(config, secret=secret, handles=servers, cards=cards, folders=folders)
