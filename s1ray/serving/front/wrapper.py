"""The program that Ray Serve starts in place of HAProxy: it makes Serve's configuration safe, and becomes HAProxy.

Serve writes HAProxy's configuration, and lets it publish statistics on every interface and take orders from every user
of the machine. Here

- every socket of HAProxy's is on loopback but the one that takes requests, which stays where Serve's `http_options`
  put it;
- the admin socket is the user's alone;
- its errors are JSON, in the form of OpenAI's API; where no replica answers, with `Retry-After`;
- headers with which a client would command Serve are taken off;
- a client has a minute for its request, which HAProxy keeps until it can no longer need to be sent again;
- a host that is silent for half a minute is taken for lost, and its streams end;
- requests of one session, by the header that Serve takes it from, go to one replica, which has their prefix in its
  cache;
- where its manager is killed, HAProxy finishes its streams and ends; one that is left behind gives its port up.

What is not as expected is refused: then HAProxy does not start, and nothing listens.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import re
import signal
import sys
from pathlib import Path

from s1ray.serving.front.settings import FrontError, haproxy

FRONTEND = "http_frontend"
"""Serve's name of the frontend that takes requests."""

NOWHERE = "default_backend"
"""Serve's name of where requests go that are for no application."""

PR_SET_PDEATHSIG = 1
"""Linux's prctl: the signal that a process gets when its parent ends."""

REQUEST_S = 60
"""Seconds that a client may take for its headers, and for a body that fits into HAProxy's buffer."""

OURS = (
    "timeout http-request",
    "option http-buffer-request",
    "http-request del-header",
    "option srvtcpka",
    "srvtcpka-",
    "default-server tcp-ut",
    "http-request set-var(txn.session)",
    "stick-table",
    "stick ",
    "timeout check",
)
"""How lines begin that are written here, and therefore left out where they were before."""

COMMANDS = (
    "x-request-disconnect-disabled",
    "x-request-timeout-seconds",
    "^serve[-_]multiplexed[-_]model[-_]id$ -m reg",
)
"""Headers that Serve obeys: to work on for nobody, to stop earlier, to say that a request is for an adapter."""

SESSION = "x-session-id"
"""The header that names a session."""

STICKY = (
    "stick-table type string len 128 size 100k expire 1h",
    f"http-request set-var(txn.session) req.fhdr({SESSION})",
    "stick match var(txn.session)",
    "stick store-response var(txn.session) if { status 200 }",
)
"""Of every group of replicas: the one that answered a session's last request gets the next. The table begins anew where
the replicas change; where a session's replica is lost, another one answers and is remembered."""

CHECK_S = 10
"""Seconds within which a replica answers whether it lives: a long response may hold its event loop for some."""

ERRORS = {
    400: ("Bad Request", "this is no HTTP request that can be read", "invalid_request_error"),
    408: ("Request Timeout", f"the request was not complete after {REQUEST_S} s", "invalid_request_error"),
    502: ("Service Unavailable", "the replica that had this request was lost; try again", "server_error"),
    503: ("Service Unavailable", "no replica of the model answers now; try again", "server_error"),
    504: ("Gateway Timeout", "the response was not complete in time", "server_error"),
}
"""What HAProxy answers itself, by its own status: HTTP's words, a message, and OpenAI's type of the error."""

AGAIN_S = 2
"""Seconds after which a request that found no replica is worth another try."""


def secured(text: str, errors: Path) -> str:
    """A configuration of Serve's, safe.

    Args:
        text: the configuration.
        errors: the folder of its `error_files`.

    Raises:
        FrontError: it is not as Ray 2.60 writes it.
    """
    lines, section, found = [], "", {"bind": 0, "loopback": 0, "socket": 0}
    for line in text.splitlines():
        words = line.split()
        if words and not line[0].isspace():
            section = words[-1] if words[0] in ("frontend", "listen", "backend") else words[0]
        if words[:1] == ["bind"]:
            if section == FRONTEND:
                found["bind"] += 1
                lines.append(line)
                lines += [f"    http-request del-header {name}" for name in COMMANDS]
                continue
            found["loopback"] += 1
            line = re.sub(r"bind\s+\S*:", "bind 127.0.0.1:", line)
            _check(line.split()[1].startswith("127.0.0.1:"), line)
        elif words[:2] == ["stats", "socket"]:
            found["socket"] += 1
            line = re.sub(r"\bmode \d+", "mode 600", line)
            _check("mode 600" in line, line)
        elif words[:1] == ["errorfile"] or line.strip().startswith(OURS):
            continue
        elif words[:1] == ["server"] and "backup" in words and "non-stick" not in words:
            # Serve's own proxy, for as long as there is no replica.
            line += " non-stick"
        lines.append(line)
        if words[:1] == ["backend"] and section != NOWHERE:
            lines += [f"    {line}" for line in STICKY]
        if words == ["defaults"]:
            # HAProxy sends a request again only if it had all of it before.
            lines += [f"    timeout http-request {REQUEST_S}s", "    option http-buffer-request"]
            # A host that loses its power or its link says nothing, and a stream would wait for it for an hour.
            lines += ["    option srvtcpka", "    srvtcpka-idle 10s", "    srvtcpka-intvl 5s", "    srvtcpka-cnt 3"]
            lines += ["    default-server tcp-ut 25s", f"    timeout check {CHECK_S}s"]
            lines += [f"    errorfile {status} {errors / f'{status}.json.http'}" for status in ERRORS]
    grpc = any(line.split()[:2] == ["frontend", "grpc_frontend"] for line in lines)
    if found != {"bind": 1, "loopback": 2, "socket": 1} or grpc:
        raise FrontError(f"Serve's configuration of HAProxy is not as expected ({found}, gRPC {grpc}): not started")
    return "\n".join(lines) + "\n"


def _check(right: bool, line: str) -> None:
    if not right:
        raise FrontError(f"Serve's configuration of HAProxy is not as expected ({line.strip()!r}): not started")


def error_files() -> dict[str, str]:
    """The HTTP responses of `ERRORS`, by the names of their files."""
    files = {}
    for asked, (words, message, kind) in ERRORS.items():
        status = 503 if asked == 502 else asked
        body = json.dumps({"error": {"message": message, "type": kind, "param": None, "code": status}})
        head = [f"HTTP/1.1 {status} {words}", "Content-Type: application/json", "Cache-Control: no-cache"]
        head += [f"Retry-After: {AGAIN_S}"] * (status == 503)
        head += [f"Content-Length: {len(body)}", "Connection: close"]
        files[f"{asked}.json.http"] = "\r\n".join(head) + "\r\n\r\n" + body
    return files


def main() -> None:
    """Make the configuration after `-f` safe, and become HAProxy."""
    arguments = sys.argv[1:]
    try:
        path = Path(arguments[arguments.index("-f") + 1])
        for name, response in error_files().items():
            _write(path.with_name(name), response)
        _write(path, secured(path.read_text(encoding="utf-8"), path.parent))
        binary, left = haproxy(), _left_behind(path)
        if "-sf" not in arguments and left:
            arguments += ["-sf", *map(str, left)]
        # The process stays the same, so this is HAProxy's number.
        _write(path.with_name("haproxy.pid"), " ".join(map(str, [*left, os.getpid()])))
    except (FrontError, OSError, ValueError, IndexError) as error:
        sys.exit(f"s1ray-haproxy: {error}")
    _end_with(os.getppid())
    os.execv(binary, [binary, *arguments])  # no shell


def _end_with(parent: int) -> None:
    """Let HAProxy finish its streams and end when the manager that started it has ended, in whatever way."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGUSR1)
    if os.getppid() != parent:
        sys.exit("s1ray-haproxy: the manager has ended")


def _write(path: Path, text: str) -> None:
    new = path.with_name(f"{path.name}.{os.getpid()}")
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    new.replace(path)


def _left_behind(config: Path) -> list[int]:
    """The HAProxies that were started with this configuration before, and still run."""
    left = []
    with contextlib.suppress(OSError, ValueError):
        for number in map(int, config.with_name("haproxy.pid").read_text(encoding="utf-8").split()):
            with contextlib.suppress(OSError):
                if os.fsencode(config) in Path(f"/proc/{number}/cmdline").read_bytes().split(b"\0"):
                    left.append(number)
    return left


if __name__ == "__main__":
    main()
