"""A Hugging Face Hub on this machine, as far as publishing a data set needs one."""

from __future__ import annotations

import base64
import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class FakeHub:
    """Repositories in memory.

    Attributes:
        repositories: name -> whether it is private.
        files: path -> content, of the last commit.
        tokens: the `Authorization` of every request that had one.
        failing: answer every change with 403.
    """

    def __init__(self) -> None:
        self.repositories: dict[str, bool] = {}
        self.files: dict[str, bytes] = {}
        self.tokens: set[str] = set()
        self.failing = False
        self.address = ""

    def commit(self, lines: list[dict[str, object]]) -> None:
        for line in lines:
            value = line["value"]
            assert isinstance(value, dict)
            if line["key"] == "file":
                self.files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "deletedFile":
                del self.files[value["path"]]


@contextlib.contextmanager
def fake_hub() -> Iterator[FakeHub]:
    """A hub that serves until the block ends."""
    hub = FakeHub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    hub.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _handler(hub: FakeHub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:
            pass

        def reply(self, status: int, body: object, **headers: str) -> None:
            content = json.dumps(body).encode()
            self.send_response(status)
            for name, value in {"Content-Type": "application/json", **headers}.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def do_HEAD(self) -> None:
            self.reply(200, {})

        def do_GET(self) -> None:
            hub.tokens.add(self.headers.get("Authorization", ""))
            name = "/".join(self.path.split("?")[0].split("/")[3:5])
            if name not in hub.repositories:
                self.reply(404, {"error": "Repository not found"}, X_Error_Code="RepoNotFound")
            elif "/tree/" in self.path:
                self.reply(200, [{"type": "file", "path": path, "size": 1, "oid": "0" * 40} for path in hub.files])
            else:
                siblings = [{"rfilename": path} for path in hub.files]
                self.reply(200, {"id": name, "private": hub.repositories[name], "siblings": siblings, "sha": "0" * 40})

        def do_POST(self) -> None:
            hub.tokens.add(self.headers.get("Authorization", ""))
            body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
            if hub.failing:
                self.reply(403, {"error": "You have no rights here"})
            elif self.path == "/api/repos/create":
                made = json.loads(body)
                name = f"{made.get('organization')}/{made['name']}"
                status = 409 if name in hub.repositories else 200
                hub.repositories.setdefault(name, made.get("private", made.get("visibility") == "private"))
                self.reply(status, {"url": f"{hub.address}/datasets/{name}", "error": "You already created it"})
            elif "/preupload/" in self.path:
                asked = json.loads(body)["files"]
                files = [{"path": each["path"], "uploadMode": "regular", "shouldIgnore": False} for each in asked]
                self.reply(200, {"files": files})
            elif "/commit/" in self.path:
                hub.commit([json.loads(line) for line in body.splitlines()])
                name, oid = "/".join(self.path.split("/")[3:5]), "1" * 40
                url = f"{hub.address}/datasets/{name}/commit/{oid}"
                self.reply(200, {"commitUrl": url, "commitOid": oid, "success": True})
            else:
                self.reply(200, {})

    return Handler
