"""Where Serve would listen: its ports and host, and who could then use the applications."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from s1ray.serving.config import ServingConfig
from s1ray.serving.http.keys import SECRET

if TYPE_CHECKING:
    from ray.serve.schema import ServeDeploySchema

MAX_PORT = 65_535
SYSTEM_PORTS = 1024
"""Ports below it need privileges."""

RAY_PORTS = {6379: "Ray's head", 8265: "Ray's dashboard", 10001: "Ray's client server"}
"""Ports that a Ray head listens on unless it is told otherwise."""

HOST_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?")

DEFAULT_HOST = "0.0.0.0"
"""Where Serve listens if a file gives no `http_options.host`."""

DEFAULT_PORT = 8000


def listening_problems(schema: ServeDeploySchema) -> Iterator[str]:
    """Ports and hosts that cannot be; one message each."""
    http, grpc = schema.http_options, schema.grpc_options
    for name, options in (("http_options", http), ("grpc_options", grpc)):
        if options is None:
            continue
        if not 0 <= options.port <= MAX_PORT:
            yield f"{name}.port: must be from 0 to {MAX_PORT}, not {options.port}"
        timeout = options.request_timeout_s
        if timeout is not None and timeout <= 0:
            yield f"{name}.request_timeout_s: must be more than 0 seconds, not {timeout:g}; leave it out for no limit"
    if http is None:
        return
    if http.keep_alive_timeout_s < 0:
        yield f"http_options.keep_alive_timeout_s: must be 0 seconds or more, not {http.keep_alive_timeout_s}"
    if not _is_host(http.host):
        yield f"http_options.host: {http.host!r} is no address; give one without scheme and port, such as 127.0.0.1"
    if http.root_path and not http.root_path.startswith("/"):
        yield f"http_options.root_path: must begin with '/', not {http.root_path!r}"
    if grpc is not None and grpc.grpc_servicer_functions and grpc.port == http.port:
        yield f"grpc_options.port: http_options has port {http.port}, too; give another"


def listening_warnings(options: Mapping[str, object], configs: Mapping[str, ServingConfig]) -> Iterator[str]:
    """What is risky about where Serve listens.

    Args:
        options: `http_options` as the file gives them, valid.
        configs: the file's applications, by name.
    """
    host, port = str(options.get("host", DEFAULT_HOST)), options.get("port", DEFAULT_PORT)
    if port in RAY_PORTS:
        yield f"http_options.port: {port} is the port of {RAY_PORTS[port]}; give another"
    elif isinstance(port, int) and 0 < port < SYSTEM_PORTS:
        yield f"http_options.port: {port} is below {SYSTEM_PORTS}, which only a privileged process may open"
    for name, config in configs.items():
        if not _is_loopback(host) and config.access.keys_file is None and not config.access.required:
            given = "" if "host" in options else " (Serve's default, because the file gives no http_options.host)"
            yield (
                f"{name}: anyone who reaches {host}{given} may use it: give args.access.keys_file, or set {SECRET} on "
                "the cluster and args.access.required, or put a gateway that checks keys in front"
            )


def _is_host(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        # Four numbers that are no address are no name either.
        return HOST_NAME.fullmatch(host) is not None and not re.fullmatch(r"[\d.]+", host)
    return True


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
