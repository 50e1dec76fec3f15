"""The program that Ray Serve starts in place of HAProxy: it makes Serve's configuration safe, and becomes HAProxy.

Serve writes HAProxy's configuration, and lets it publish statistics on every interface and take orders from every user
of the machine. Here

- every socket is on loopback but the one that takes requests, which stays where Serve's `http_options` put it;
- the admin socket is the user's alone;
- what HAProxy answers itself is JSON, in the form of OpenAI's API, with `Retry-After`;
- headers with which a client would command Serve are taken off;
- a client has a minute for its request, which HAProxy keeps until it can no longer need to be sent again;
- a host that is silent for half a minute is taken for lost, and its streams end;
- a HAProxy that a killed manager left behind gives its port up.

What is not as expected is refused: then HAProxy does not start, and nothing listens.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
from pathlib import Path

from s1ray.serving.front.settings import FrontError, haproxy

FRONTEND = "http_frontend"
"""Serve's name of the frontend that takes requests."""

REQUEST_S = 60
"""Seconds that a client may take for its headers, and for a body that fits into HAProxy's buffer."""

OURS = (
    "timeout http-request",
    "option http-buffer-request",
    "http-request del-header",
    "option srvtcpka",
    "srvtcpka-",
    "default-server tcp-ut",
)
"""How lines begin that are written here, and therefore left out where they were before."""

COMMANDS = (
    "x-request-disconnect-disabled",
    "x-request-timeout-seconds",
    "serve_multiplexed_model_id",
    "serve-multiplexed-model-id",
)
"""Headers that Serve obeys: to work on for nobody, to stop earlier, to load an adapter."""

UNAVAILABLE = "no replica of the model answers now; try again"


def secured(text: str, errors: Path) -> str:
    """A configuration of Serve's, safe.

    Args:
        text: the configuration.
        errors: the file of the response where no replica answers.

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
        elif words[:2] == ["stats", "socket"]:
            found["socket"] += 1
            line = re.sub(r"\bmode \d+", "mode 600", line)
        elif words[:1] == ["errorfile"]:
            line = f"    errorfile {words[1]} {errors}"
        elif line.strip().startswith(OURS):
            continue
        lines.append(line)
        if words == ["defaults"]:
            # HAProxy sends a request again only if it had all of it before.
            lines += [f"    timeout http-request {REQUEST_S}s", "    option http-buffer-request"]
            # A host that loses its power or its link says nothing, and a stream would wait for it for an hour.
            lines += ["    option srvtcpka", "    srvtcpka-idle 10s", "    srvtcpka-intvl 5s", "    srvtcpka-cnt 3"]
            lines += ["    default-server tcp-ut 25s"]
    grpc = any(line.split()[:2] == ["frontend", "grpc_frontend"] for line in lines)
    if found != {"bind": 1, "loopback": 2, "socket": 1} or grpc:
        raise FrontError(f"Serve's configuration of HAProxy is not as expected ({found}, gRPC {grpc}): not started")
    return "\n".join(lines) + "\n"


def unavailable() -> str:
    """The HTTP response where no replica answers."""
    error = {"message": UNAVAILABLE, "type": "server_error", "param": None, "code": 503}
    body = json.dumps({"error": error})
    head = ["HTTP/1.1 503 Service Unavailable", "Content-Type: application/json", "Retry-After: 2"]
    head += ["Cache-Control: no-cache", f"Content-Length: {len(body)}", "Connection: close"]
    return "\r\n".join(head) + "\r\n\r\n" + body


def main() -> None:
    """Make the configuration after `-f` safe, and become HAProxy."""
    arguments = sys.argv[1:]
    try:
        path = Path(arguments[arguments.index("-f") + 1])
        errors = path.with_name("unavailable.http")
        _write(errors, unavailable())
        _write(path, secured(path.read_text(encoding="utf-8"), errors))
        binary = haproxy()
        if "-sf" not in arguments and (left := _left_behind(path)):
            arguments += ["-sf", str(left)]
        # The process stays the same, so this is HAProxy's number.
        _write(path.with_name("haproxy.pid"), str(os.getpid()))
    except (FrontError, OSError, ValueError, IndexError) as error:
        sys.exit(f"s1ray-haproxy: {error}")
    os.execv(binary, [binary, *arguments])  # no shell


def _write(path: Path, text: str) -> None:
    new = path.with_name(f"{path.name}.{os.getpid()}")
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    new.replace(path)


def _left_behind(config: Path) -> int | None:
    """The HAProxy that was started with this configuration before, where it still runs."""
    with contextlib.suppress(OSError, ValueError):
        number = int(config.with_name("haproxy.pid").read_text(encoding="utf-8"))
        if os.fsencode(config) in Path(f"/proc/{number}/cmdline").read_bytes().split(b"\0"):
            return number
    return None


if __name__ == "__main__":
    main()
