"""Streams behind nginx, whose idle time-out is shorter than the silence in them."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from s1ray.serving.http.access import RequestContext
from s1ray.serving.http.admission import Admission, Ticket
from s1ray.serving.http.replica_call import ReplicaCall
from s1ray.serving.http.responses import EventStream, Part, is_lost
from tests.support.attempts import Attempt

NGINX = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin:/opt/homebrew/bin")

pytestmark = pytest.mark.skipif(NGINX is None, reason="nginx is not installed (Debian: apt-get install nginx-light)")

CONF = """
daemon off; master_process off; pid {folder}/pid; error_log stderr; worker_processes 1;
events {{ worker_connections 64; }}
http {{
  access_log off;
  {temporary}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://127.0.0.1:{upstream};
      proxy_http_version 1.1;
      proxy_read_timeout {idle_ms}ms;
    }}
  }}
}}
"""
TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


def app(silent_s: float) -> Starlette:
    """Answers with streams that are silent in the queue, and again while they think.

    The path is the interval of the comments in milliseconds; `off`: none.
    """

    async def answer(request: Request) -> Response:
        ticket, every = Admission().enter(None), request.path_params["every"]
        assert isinstance(ticket, Ticket)
        parts: list[Any] = [silent_s, ["data: begun\n\n"], *([["hidden"], 0.05] * round(silent_s / 0.05))]
        call: ReplicaCall[Part] = ReplicaCall(lambda: Attempt(*parts, ["data: [DONE]\n\n"]), is_lost=is_lost)
        keep_alive_s = None if every == "off" else int(every) / 1000
        context = RequestContext(ticket)
        return EventStream(call, shown, context, keep_alive_s=keep_alive_s, silence=": keep-alive\n\n")

    return Starlette(routes=[Route("/{every}", answer)])


def shown(events: Sequence[str]) -> str:
    return "".join(event for event in events if event != "hidden")


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


def wait_for(port: int) -> None:
    deadline = time.monotonic() + 10
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        assert time.monotonic() < deadline, f"nothing listens on port {port}"
        time.sleep(0.02)


@contextlib.contextmanager
def behind_nginx(folder: Path, *, silent_s: float, idle_s: float) -> Iterator[str]:
    """The app's address behind nginx."""
    upstream, port = free_port(), free_port()
    server = uvicorn.Server(uvicorn.Config(app(silent_s), host="127.0.0.1", port=upstream, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    temporary = " ".join(f"{name}_temp_path {folder}/{name};" for name in TEMPORARY)
    conf = folder / "nginx.conf"
    fields = {"folder": folder, "temporary": temporary, "port": port, "upstream": upstream}
    conf.write_text(CONF.format(idle_ms=round(idle_s * 1000), **fields))
    assert NGINX is not None
    nginx = subprocess.Popen([NGINX, "-p", str(folder), "-c", str(conf)], stderr=subprocess.DEVNULL)
    try:
        wait_for(upstream)
        wait_for(port)
        yield f"http://127.0.0.1:{port}"
    finally:
        nginx.terminate()
        nginx.wait(10)
        server.should_exit = True
        thread.join(10)


def ask(url: str, *paths: str) -> list[tuple[int, str, bool]]:
    """Status, text, and whether the stream came to its end, of some requests at once."""

    async def one(client: httpx.AsyncClient, path: str) -> tuple[int, str, bool]:
        text = ""
        async with client.stream("GET", f"{url}/{path}") as response:
            with contextlib.suppress(httpx.RemoteProtocolError):
                async for piece in response.aiter_text():
                    text += piece
        return response.status_code, text, text.endswith("data: [DONE]\n\n")

    async def all_of() -> list[tuple[int, str, bool]]:
        async with httpx.AsyncClient(timeout=300, trust_env=False) as client:
            return await asyncio.gather(*(one(client, path) for path in paths))

    return asyncio.run(all_of())


def test_a_stream_outlives_the_idle_timeout_of_a_proxy(tmp_path: Path) -> None:
    with behind_nginx(tmp_path, silent_s=1.2, idle_s=0.6) as url:
        (status, text, complete), (without, _, _) = ask(url, "200", "off")
    assert (status, complete) == (200, True)
    queued, hidden = text.split("data: begun")
    assert min(queued.count(": keep-alive"), hidden.count(": keep-alive")) >= 3
    assert without == 504


@pytest.mark.slow
def test_two_minutes_of_silence_behind_a_proxy_with_thirty_seconds(tmp_path: Path) -> None:
    with behind_nginx(tmp_path, silent_s=120.0, idle_s=30.0) as url:
        (status, text, complete), (without, _, _) = ask(url, "10000", "off")
    assert (status, complete) == (200, True)
    queued, hidden = text.split("data: begun")
    assert min(queued.count(": keep-alive"), hidden.count(": keep-alive")) >= 10
    assert without == 504
