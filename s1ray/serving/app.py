"""The Serve application: `serve run serve_config.yaml` builds it from `import_path: s1ray.serving.app:build_app`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from s1ray.cluster import check_node_labels, resources_of
from s1ray.config import ConfigError, validate_config
from s1ray.serving.check import INGRESS, model_problems
from s1ray.serving.config import ServingConfig
from s1ray.serving.http.keys import SECRET, KeyStore
from s1ray.serving.replica.adapters import FolderLoader, is_remote

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
    """The application's deployments: a server for each model, and the ingress in front of them.

    Args:
        config: checked already: ray.serve.llm, which is imported here, brings vLLM with it.
        secret: the text of a key file from the environment.
    """
    from ray import serve
    from ray.serve.llm import LLMConfig, build_llm_deployment

    from s1ray.serving.http.ingress import BudgetForcingIngress
    from s1ray.serving.http.models import model_card
    from s1ray.serving.replica.direct import DirectServer
    from s1ray.serving.replica.llm_config import UNBOUNDED, llm_config, resolve_device
    from s1ray.serving.replica.server import BudgetForcingServer

    check_node_labels(config, "args")
    servers, cards, folders = {}, {}, {}
    for model in config.models:
        device = resolve_device(model.device, resources_of(model.node_labels).get("GPU", 0.0))
        fields = llm_config(model, device, log_engine_metrics=config.log_engine_metrics, direct=config.direct)
        ray_config = LLMConfig(**fields)
        downloader = None
        if model.adapters is not None and is_remote(model.adapters.folder):
            folders[model.name] = model.adapters.folder
        elif model.adapters is not None:
            folders[model.name] = str(Path(model.adapters.folder).absolute())
            downloader = partial(FolderLoader, folders[model.name])
        options = {
            "thinking_format": model.thinking_format,
            "limits": config.limits,
            "model_downloader": downloader,
        }
        cards[model.name] = model_card(model, ray_config)
        if config.direct:
            http = {"config": config, "secret": secret, "cards": cards, "folders": folders}
            return build_llm_deployment(
                ray_config,
                name_prefix=f"{BudgetForcingServer.__name__}:",
                deployment_cls=serve.ingress()(DirectServer),
                bind_kwargs=options | http,
            )
        servers[model.name] = build_llm_deployment(ray_config, deployment_cls=BudgetForcingServer, bind_kwargs=options)
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
