"""Serve an application in this Ray session for the duration of a block: for the demo, tests and batch evaluation.

with serve_locally(config) as served:
client = openai.OpenAI(base_url=f"{served.url}/v1", api_key="unused")
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import random
import re
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import httpx

from s1ray.cluster import connected
from s1ray.errors import S1rayError
from s1ray.logs import heartbeat, quiet
from s1ray.models import check_model
from s1ray.serving.config import ServingConfig
from s1ray.serving.front import settings
from s1ray.serving.ray_llm import running_serve

if TYPE_CHECKING:
    from ray.serve.schema import ApplicationStatusOverview

logger = logging.getLogger("s1ray")

START_TIMEOUT_S = 600.0
"""Seconds that the engines may take to start."""

POLL_S = 0.25

ANSWERING_S = 60.0
"""Seconds until an application that runs must answer."""

FREE_PORTS = range(20_000, 30_000)
"""Below those that Linux gives away, and beside Ray's."""

_numbers = itertools.count(1)


class ServingError(S1rayError, RuntimeError):
    """The application did not start; the message names the deployments that failed and their last error."""


@dataclass(frozen=True)
class ServedApp:
    """A running application."""

    url: str
    """Where it listens, without a slash at the end; the OpenAI API is below `<url>/v1`."""
    name: str
    """Its name in Serve."""
    models: tuple[str, ...]
    """The names of its models."""


Front = Literal["haproxy", "serve"]


@contextlib.contextmanager
def serve_locally(
    config: ServingConfig,
    *,
    port: int | None = None,
    front: Front | None = None,
    start_timeout_s: float = START_TIMEOUT_S,
) -> Iterator[ServedApp]:
    """Start the application on the loopback interface, wait until it is ready, and stop it when the block ends.

    Uses the current Ray session, or connects by Ray's own rules. If Serve already runs there, the application is added
    to it, on Serve's port; otherwise Serve is started for the block.

    Args:
        config: the application.
        port: HTTP port, if Serve is started here. None: a free one.
        front: what takes the requests, if Serve is started here: HAProxy, or Serve's own proxy in Python. None: HAProxy
            where it runs.
        start_timeout_s: seconds to wait for the engines.

    Raises:
        ConfigError: a model's folder is missing.
        ServingError: the application failed to start, or not in time.
        FrontError: HAProxy is asked for and does not run here.
    """
    for index, model in enumerate(config.models):
        check_model(model.model, f"models.{index}.model")
    with connected(), _serve(port, front, config.limits.total_timeout_s) as (base, is_ours):
        from ray import serve

        name = f"s1ray-{os.getpid()}-{next(_numbers)}"
        prefix = "/" if is_ours else f"/{name}"
        try:
            url = base if is_ours else f"{base}{prefix}"
            _start(config, name, prefix, start_timeout_s)
            _wait_until_reachable(base, prefix)
            if any(model.autoscaling.min_replicas for model in config.models):
                wait_until_answering(f"{url}/health")
            yield ServedApp(url=url, name=name, models=tuple(m.name for m in config.models))
        finally:
            with contextlib.suppress(ConnectionError), quiet("ray.serve"):
                serve.delete(name)


@contextlib.contextmanager
def _serve(port: int | None, front: Front | None, longest_s: float | None) -> Iterator[tuple[str, bool]]:
    """Serve's URL, and whether this block started Serve."""
    from ray import serve
    from ray.exceptions import RayError

    running = running_serve()
    if running is not None:
        host, its_port = running
        yield f"http://{_reachable(host)}:{its_port}", False
        return
    port = free_port() if port is None else port
    with _haproxy(front, longest_s) as (folder, env):
        try:
            with quiet("ray.serve", "ray.llm", "vllm"):
                serve.start(
                    proxy_location="HeadOnly",
                    http_options={"host": "127.0.0.1", "port": port},
                    controller_options={"runtime_env": {"env_vars": env}} if env else None,
                )
        except BaseException as error:
            with contextlib.suppress(RayError):
                serve.shutdown()
            if not isinstance(error, RayError) or (said := settings.last_words(folder)) is None:
                raise
            raise settings.FrontError(f"HAProxy did not start: {said}") from error
        try:
            yield f"http://127.0.0.1:{port}", True
        finally:
            with quiet("ray.serve"):
                serve.shutdown()


@contextlib.contextmanager
def _haproxy(front: Front | None, longest_s: float | None) -> Iterator[tuple[Path | None, dict[str, str]]]:
    """A folder for HAProxy, and the environment of Serve's controller; nothing of it for Serve's own proxy."""
    if front == "serve":
        yield None, {}
        return
    try:
        settings.program()
        folder = settings.folder()
    except settings.FrontError as error:
        if front == "haproxy":
            raise
        logger.warning("serving: Serve's own proxy takes the requests: %s", error)
        yield None, {}
        return
    try:
        metrics, stats, fallback = free_ports(3)
        env = settings.settings(
            folder,
            longest_s=longest_s or settings.LONGEST_S,
            metrics_port=metrics,
            stats_port=stats,
            fallback_port=fallback,
        )
        yield folder, env
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _start(config: ServingConfig, name: str, prefix: str, timeout_s: float) -> None:
    """Deploy the application and wait until it runs; logs its progress."""
    from ray import serve

    latest: ApplicationStatusOverview | None = None

    def status() -> ApplicationStatusOverview | None:
        nonlocal latest
        latest = serve.status().applications.get(name)
        return latest

    began = time.monotonic()
    logger.info("serving: starting %s", ", ".join(model.name for model in config.models))
    with heartbeat(lambda seconds: f"serving: {progress(latest, seconds)}"):
        _deploy(config, name, prefix)
        wait_until_running(status, timeout_s)
    logger.info("serving: ready after %.0f s", time.monotonic() - began)


def _deploy(config: ServingConfig, name: str, prefix: str) -> None:
    from ray import serve
    from ray.serve.api import RunTarget

    # vLLM sets its loggers up when it is imported, by this variable.
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    from s1ray.serving.app import build_app

    with quiet("ray.serve", "ray.llm", "vllm"):
        target = RunTarget(target=build_app(config), name=name, route_prefix=prefix)
        serve.run_many([target], wait_for_ingress_deployment_creation=False, wait_for_applications_running=False)


def wait_until_running(
    status: Callable[[], ApplicationStatusOverview | None],
    timeout_s: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Wait until an application runs.

    Args:
        status: gives the application's status; None while Serve does not know it yet.
        timeout_s: seconds to wait.
        clock: seconds, for tests.
        sleep: for tests.

    Raises:
        ServingError: the application failed, or did not run in time.
    """
    deadline = clock() + timeout_s
    while True:
        found = status()
        if found is not None and found.status == "RUNNING":
            return
        if found is not None and found.status in ("DEPLOY_FAILED", "UNHEALTHY"):
            raise ServingError(f"the application failed to start:\n{_reasons(found)}")
        if clock() >= deadline:
            state = "  Serve does not know it" if found is None else _reasons(found)
            raise ServingError(f"the application was not ready after {timeout_s:g} s (start_timeout_s):\n{state}")
        sleep(POLL_S)


def progress(status: ApplicationStatusOverview | None, seconds: float) -> str:
    """One line about a start: which deployments are ready, and which are still starting after `seconds`."""
    if status is None or not status.deployments:
        return f"deploying ({seconds:.0f} s)"
    parts = []
    for name, deployment in status.deployments.items():
        state = "ready" if deployment.status == "HEALTHY" else f"starting ({seconds:.0f} s)"
        # A model's deployment is called BudgetForcingServer:<model>.
        parts.append(f"{name.rpartition(':')[2]} {state}")
    return ", ".join(parts)


def _reasons(status: ApplicationStatusOverview) -> str:
    """Serve's message for every deployment that is not healthy, shortened to the error itself."""
    lines = [
        f"  {name}: {deployment.status}: {error_tail(deployment.message)}"
        for name, deployment in status.deployments.items()
        if deployment.status != "HEALTHY"
    ]
    return "\n".join(lines) or f"  {status.status}: {error_tail(status.message)}"


def error_tail(message: str, lines: int = 12) -> str:
    """The last lines of a long error message, without the frames of a traceback."""
    kept = [
        line
        for line in message.strip().splitlines()
        if line.strip() and not re.match(r'\s*(File "|\^+|Traceback |\s{4,}\S)', line)
    ]
    return "\n    ".join(kept[-lines:]) or "(no message)"


def _wait_until_reachable(base: str, prefix: str) -> None:
    wait_until_answering(f"{base}/-/routes", lambda answer: prefix in answer.json())


def wait_until_answering(
    url: str, right: Callable[[httpx.Response], bool] = lambda answer: True, timeout_s: float = ANSWERING_S
) -> None:
    """Wait until a page answers: what takes an application's requests learns of it last.

    Args:
        url: of the page.
        right: whether an answer with status 200 is the right one.
        timeout_s: seconds to wait.

    Raises:
        ServingError: it does not, in time.
    """
    deadline, found = time.monotonic() + timeout_s, "nothing"
    while time.monotonic() < deadline:
        try:
            answer = httpx.get(url, timeout=5.0, trust_env=False)
            if answer.status_code == 200 and right(answer):
                return
            found = f"status {answer.status_code}"
        except (httpx.HTTPError, ValueError) as error:
            found = type(error).__name__
        time.sleep(POLL_S)
    raise ServingError(f"the application runs, but {url} does not answer after {timeout_s:g} s: {found}")


def free_port() -> int:
    """A free TCP port on the loopback interface."""
    return free_ports(1)[0]


def free_ports(number: int) -> list[int]:
    """Free TCP ports on the loopback interface, all different.

    Not those that the system gives to whoever asks for any, as Ray's processes do all the time: they would be taken
    before they are used.
    """
    found: list[int] = []
    for port in random.sample(FREE_PORTS, len(FREE_PORTS)):
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.bind(("127.0.0.1", port))
            found.append(port)
        if len(found) == number:
            return found
    raise ServingError(f"no {number} TCP ports from {FREE_PORTS[0]} to {FREE_PORTS[-1]} are free")


def _reachable(host: str | None) -> str:
    return "127.0.0.1" if host in (None, "0.0.0.0", "::") else str(host)
