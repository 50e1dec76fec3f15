"""Serve an application in this Ray session for as long as a block lasts: for the demo, tests and batch evaluation.

For example:

    with serve_locally(config) as served:
        client = openai.OpenAI(base_url=f"{served.url}/v1", api_key="unused")
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import re
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from s1ray.cluster import connected
from s1ray.errors import S1rayError
from s1ray.logs import quiet
from s1ray.models import check_model
from s1ray.serving.config import ServingConfig

if TYPE_CHECKING:
    from ray.serve.schema import ApplicationStatusOverview

logger = logging.getLogger("s1ray")

START_TIMEOUT_S = 600.0
"""Seconds that the engines may take to come up."""

POLL_S = 0.25

_numbers = itertools.count(1)


class ServingError(S1rayError, RuntimeError):
    """The application did not come up; the message says which part of it, and how it ended."""


@dataclass(frozen=True)
class ServedApp:
    """A running application."""

    url: str
    """Where it listens, without a slash at the end; the OpenAI API is below `<url>/v1`."""
    name: str
    """Its name in Serve."""
    models: tuple[str, ...]
    """The names of its models."""


@contextlib.contextmanager
def serve_locally(
    config: ServingConfig, *, port: int | None = None, start_timeout_s: float = START_TIMEOUT_S
) -> Iterator[ServedApp]:
    """Start the application on the loopback interface, wait until it answers, and stop it when the block ends.

    Uses the Ray session that there is, or connects by Ray's own rules. Where Serve already runs in it, the application
    becomes one more of its applications, on Serve's own port; otherwise Serve is started, and stopped at the end.

    Args:
        config: the application.
        port: port for HTTP, if Serve is started here. None: a free one.
        start_timeout_s: seconds to wait for the engines.

    Raises:
        ConfigError: a model's folder is missing.
        ServingError: the application failed to start, or not in time.
    """
    for index, model in enumerate(config.models):
        check_model(model.model, f"models.{index}.model")
    with connected(), _serve(port) as (base, is_ours):
        from ray import serve

        name = f"s1ray-{os.getpid()}-{next(_numbers)}"
        prefix = "/" if is_ours else f"/{name}"
        try:
            _deploy(config, name, prefix)
            _wait(name, start_timeout_s)
            yield ServedApp(
                url=base if is_ours else f"{base}{prefix}", name=name, models=tuple(m.name for m in config.models)
            )
        finally:
            with contextlib.suppress(ConnectionError):
                serve.delete(name)


@contextlib.contextmanager
def _serve(port: int | None) -> Iterator[tuple[str, bool]]:
    """Serve's address, and whether it was started here."""
    from ray import serve
    from ray.serve.context import _get_global_client

    client = _get_global_client(raise_if_no_controller_running=False)
    if client is not None:
        options = client.http_config
        yield f"http://{_reachable(options.host)}:{options.port}", False
        return
    port = free_port() if port is None else port
    with quiet("ray.serve", "ray.llm", "vllm"):
        serve.start(proxy_location="HeadOnly", http_options={"host": "127.0.0.1", "port": port})
    try:
        yield f"http://127.0.0.1:{port}", True
    finally:
        serve.shutdown()


def _deploy(config: ServingConfig, name: str, prefix: str) -> None:
    from ray import serve
    from ray.serve.api import RunTarget

    from s1ray.serving.app import build_app

    with quiet("ray.serve", "ray.llm", "vllm"):
        target = RunTarget(target=build_app(config), name=name, route_prefix=prefix)
        serve.run_many([target], wait_for_ingress_deployment_creation=False, wait_for_applications_running=False)


def _wait(name: str, timeout_s: float) -> None:
    from ray import serve

    deadline = time.monotonic() + timeout_s
    status: ApplicationStatusOverview | None = None
    while time.monotonic() < deadline:
        status = serve.status().applications.get(name)
        if status is not None and status.status == "RUNNING":
            return
        if status is not None and status.status in ("DEPLOY_FAILED", "UNHEALTHY"):
            raise ServingError(f"the application failed to start:\n{_reasons(status)}")
        time.sleep(POLL_S)
    state = "Serve knows nothing of it" if status is None else _reasons(status)
    raise ServingError(f"the application was not ready after {timeout_s:g} s (start_timeout_s):\n{state}")


def _reasons(status: Any) -> str:
    """What Serve says of every deployment that is not healthy, shortened to what matters."""
    lines = []
    for name, deployment in status.deployments.items():
        if deployment.status != "HEALTHY":
            lines.append(f"  {name}: {deployment.status}: {error_tail(deployment.message)}")
    return "\n".join(lines) or f"  {status.status}: {error_tail(status.message)}"


def error_tail(message: str, lines: int = 12) -> str:
    """The end of a long error message: its last lines, without the frames of a traceback."""
    kept = [
        line
        for line in message.strip().splitlines()
        if line.strip() and not re.match(r'\s*(File "|\^+|Traceback |\s{4,}\S)', line)
    ]
    return "\n    ".join(kept[-lines:]) or "(no message)"


def free_port() -> int:
    """A TCP port that nobody listens on, on the loopback interface."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _reachable(host: str | None) -> str:
    return "127.0.0.1" if host in (None, "0.0.0.0", "::") else str(host)
