"""A small job server in place of a Ray head's, with scripts for what goes wrong, and followers of its jobs."""

from __future__ import annotations

import http.server
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from s1ray.submission.api import Cluster
from s1ray.submission.following import Follower
from s1ray.submission.naming import submission

STATUS = """======== Autoscaler status: 2026-08-01 10:00:00 ========
Node status
---------------------------------------------------------------
Active:
 1 head
Pending:
 10.0.0.7: train_h100, waiting-for-ssh
Recent failures:
 (no failures)

Resources
---------------------------------------------------------------
Total Usage:
 0.0/8.0 CPU
Pending Demands:
 {'GPU': 8.0} * 2 (PACK): 1+ pending placement groups
"""


@dataclass
class Head:
    """A job server. `script` is what a job goes through, one step a look."""

    script: list[dict[str, Any]] = field(default_factory=list)
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    submitted: list[dict[str, Any]] = field(default_factory=list)
    packages: dict[str, bytes] = field(default_factory=dict)
    nodes: list[dict[str, Any]] = field(default_factory=list)
    down: int = 0
    """Requests that are answered with 503 from now on."""
    down_after: int = 0
    """Requests after which one is answered with 503."""
    broken: tuple[str, ...] = ()
    """Ends of paths that are answered with 500, as Ray does for the log of a node that is gone."""
    at_post: list[str] = field(default_factory=list)
    """What befalls the next submissions: a status ("503 why"); "lost", no answer after the job was taken; "silent"."""
    forgets: bool = False
    """At the next look: a new head, which knows no job."""
    lost: bool = False
    token: str | None = None
    address: str = ""
    closing: threading.Event = field(default_factory=threading.Event)

    def step(self, job: dict[str, Any]) -> None:
        if self.script and job["status"] in ("PENDING", "RUNNING"):
            job |= self.script.pop(0)


@contextmanager
def job_server() -> Iterator[Head]:
    """A job server on this machine, until the block ends."""
    state = Head()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if state.token is not None and self.headers.get("Authorization") != f"Bearer {state.token}":
                return self.give(401, "Unauthorized")
            if state.down > 0:
                state.down -= 1
                return self.give(503, "starting")
            state.down, state.down_after = int(state.down_after == 1), state.down_after - 1
            if path.endswith(state.broken):
                return self.give(500, "Traceback (most recent call last): ...")
            match path.strip("/").split("/"):
                case ["api", "version"]:
                    self.give(200, {"version": "4", "ray_version": "2.60.0", "ray_commit": "", "session_name": ""})
                case ["api", "jobs"]:
                    self.give(200, list(state.jobs.values()))
                case ["api", "jobs", job] if state.forgets:
                    state.jobs.clear()
                    state.forgets = False
                    self.give(404, f"no job {job}")
                case ["api", "jobs", job] if job in state.jobs:
                    state.step(state.jobs[job])
                    self.give(200, state.jobs[job])
                case ["api", "jobs", job, "logs"] if job in state.jobs:
                    self.give(200, {"logs": state.jobs[job].get("printed", "")})
                case ["api", "cluster_status"]:
                    self.give(200, {"result": True, "msg": "", "data": {"clusterStatus": STATUS}})
                case ["api", "v0", "nodes"]:
                    self.give(200, {"result": True, "msg": "", "data": {"result": {"result": state.nodes}}})
                case ["api", "packages", *rest] if "/".join(rest) in state.packages:
                    self.give(200, {})
                case _:
                    self.give(404, "not found")

        def do_PUT(self) -> None:
            state.packages[self.path.removeprefix("/api/packages/")] = self.rfile.read(
                int(self.headers["Content-Length"])
            )
            self.give(200, {})

        def do_POST(self) -> None:
            job = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            fault = state.at_post.pop(0) if state.at_post else ""
            if fault[:3].isdecimal():
                return self.give(int(fault[:3]), fault[4:])
            if fault == "silent":
                state.closing.wait(30)
                return
            state.submitted.append(job)
            state.jobs[job["submission_id"]] = new_job(job["submission_id"], "PENDING")
            if fault == "lost":
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            self.give(200, {"job_id": job["submission_id"], "submission_id": job["submission_id"]})

        def give(self, status: int, content: object) -> None:
            body = (content if isinstance(content, str) else json.dumps(content)).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        state.address = f"http://127.0.0.1:{running.server_port}"
        try:
            yield state
        finally:
            state.closing.set()
            running.shutdown()


def new_job(name: str, status: str, **more: Any) -> dict[str, Any]:
    """A job as the server lists it."""
    job = {
        "type": "SUBMISSION",
        "job_id": None,
        "submission_id": name,
        "status": status,
        "entrypoint": "",
        "message": "",
    }
    return job | {"start_time": 1000, "end_time": None, "error_type": None, "driver_exit_code": None} | more


def follower(head: Head, *command: str, **options: Any) -> tuple[Follower, list[str]]:
    """A follower whose sleeps take no time, but are seen on its clock; and the list that takes the job's lines."""
    printed: list[str] = []
    slept = [0.0]
    found = Follower(
        Cluster(head.address),
        submission(command[0] if command else "doctor", command[1:]),
        out=printed.append,
        sleep=slept.append,
        **{"clock": lambda: sum(slept)} | options,
    )
    return found, printed


DONE = {"status": "SUCCEEDED", "printed": "one\ntwo\nthree\n"}
