"""`s1ray submit` against a small job server: found again, followed, submitted anew, and in words where it cannot be."""

from __future__ import annotations

import http.server
import json
import logging
import os
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from s1ray.cli import app
from s1ray.config import ConfigError
from s1ray.errors import UnreachableError
from s1ray.pipelines import load_pipeline
from s1ray.recipes import find_recipe
from s1ray.submission.api import Cluster, Job, RefusedError, dashboard_address, use_token
from s1ray.submission.costs import NodePrices, cost_line
from s1ray.submission.following import Follower, waited_for
from s1ray.submission.naming import attempt_of, submission

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


@pytest.fixture
def head(monkeypatch: pytest.MonkeyPatch) -> Iterator[Head]:
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
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
        yield state
        state.closing.set()
        running.shutdown()


def new_job(name: str, status: str, **more: Any) -> dict[str, Any]:
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
LOST = {"status": "FAILED", "error_type": "JOB_SUPERVISOR_ACTOR_DIED", "message": "the node died"}


def test_a_job_is_submitted_followed_and_found_again(head: Head, caplog: pytest.LogCaptureFixture) -> None:
    head.script = [{"status": "RUNNING", "printed": "one\ntw"}, {"printed": "one\ntwo\n"}, DONE]
    follow, printed = follower(head)
    with caplog.at_level(logging.INFO, logger="s1ray"):
        assert follow.follow() == 0
    assert "\n".join(printed).splitlines() == ["one", "two", "three"]
    assert "waiting: a node that is starting: 10.0.0.7: train_h100, waiting-for-ssh" in caplog.text
    assert "waiting: resources for: {'GPU': 8.0} * 2 (PACK): 1+ pending placement groups" in caplog.text
    again, printed = follower(head)
    with caplog.at_level(logging.INFO, logger="s1ray"):
        assert again.follow() == 0
    assert "is complete; --again" in caplog.text
    assert [job["submission_id"] for job in head.submitted] == [again.submission.name]
    once_more, _ = follower(head, again=True)
    head.script = [DONE]
    assert once_more.follow() == 0
    assert head.submitted[-1]["submission_id"] == f"{again.submission.name}-2"


def test_a_job_that_runs_is_attached_to(head: Head) -> None:
    follow, printed = follower(head)
    head.jobs[follow.submission.name] = new_job(follow.submission.name, "RUNNING", printed="begun\n")
    head.script = [{}, {}, DONE | {"printed": "begun\nthree\n"}]
    assert follow.follow() == 0
    assert not head.submitted
    assert "\n".join(printed).splitlines() == ["begun", "three"], "what was shown is not shown again"


def test_a_job_is_submitted_again_after_the_head_was_lost(head: Head, caplog: pytest.LogCaptureFixture) -> None:
    follow, _ = follower(head)
    head.script = [{"status": "RUNNING", "printed": "one\n"}, {}, {"status": "RUNNING"}, DONE]

    def sleep(seconds: float) -> None:
        if len(head.submitted) == 1 and len(head.script) == 2 and not head.lost:
            head.down, head.forgets, head.lost = 4, True, True

    follow.sleep = sleep
    with caplog.at_level(logging.INFO, logger="s1ray"):
        assert follow.follow() == 0
    assert "waiting for the cluster" in caplog.text
    assert "the cluster answers again" in caplog.text
    assert "does not know it any more; submitting it again" in caplog.text
    assert [job["submission_id"] for job in head.submitted] == [follow.submission.name] * 2


IN_USE = "500 RuntimeError: Request failed with status code 400: ValueError: Job with submission_id x already exists."


@pytest.mark.parametrize("fault", ["lost", "silent", "500 no agent", "502 bad gateway", "503 starting", IN_USE])
def test_a_head_that_fails_while_a_job_is_submitted_is_waited_for(
    head: Head, fault: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("s1ray.submission.api.SUBMIT_S", 1.0)
    follow, printed = follower(head)
    head.at_post, head.script = [fault], [DONE]
    assert follow.follow() == 0
    assert [job["submission_id"] for job in head.submitted] == [follow.submission.name], "and it is submitted once"
    assert printed == ["one\ntwo\nthree"]
    assert "waiting for the cluster" in caplog.text


def test_a_head_that_fails_between_the_list_and_the_submission_is_waited_for(head: Head) -> None:
    follow, _ = follower(head)
    head.down_after, head.script = 1, [DONE]
    assert follow.follow() == 0
    assert len(head.submitted) == 1


def test_again_is_not_forgotten_where_the_head_fails(head: Head) -> None:
    follow, _ = follower(head, again=True)
    name = follow.submission.name
    head.jobs[name] = new_job(name, **DONE)
    head.at_post, head.script = ["503 starting"], [DONE]
    assert follow.follow() == 0
    assert [job["submission_id"] for job in head.submitted] == [f"{name}-2"]


@pytest.mark.parametrize(("end", "code"), [({"status": "SUCCEEDED"}, 0), ({"status": "FAILED"}, 1)])
def test_what_ends_while_the_head_does_not_answer_is_not_submitted_twice(
    head: Head, end: dict[str, Any], code: int
) -> None:
    follow, _ = follower(head, again=True)
    name = follow.submission.name
    head.jobs[name] = new_job(name, **DONE)
    head.at_post = ["lost"]
    sleep = follow.sleep

    def finish(seconds: float) -> None:
        for job in head.jobs.values():
            if job["status"] == "PENDING":
                job |= end
        sleep(seconds)

    follow.sleep = finish
    assert follow.follow() == code
    assert [job["submission_id"] for job in head.submitted] == [f"{name}-2"]


REFUSED = "500 RuntimeError: Request failed with status code 400: ValueError: no such resource"


@pytest.mark.parametrize(
    ("fault", "message"),
    [("400 no such field", "does not take the job"), (REFUSED, "no such resource"), ("401 no", "wants its token")],
)
def test_a_job_that_the_head_refuses_is_not_submitted_again(head: Head, fault: str, message: str) -> None:
    follow, _ = follower(head)
    head.at_post = [fault]
    with pytest.raises(RefusedError, match=message):
        follow.follow()


def test_a_job_that_its_new_head_never_heard_of_is_submitted_again(head: Head) -> None:
    follow, _ = follower(head)
    head.forgets, head.script = True, [DONE]
    assert follow.follow() == 0
    assert [job["submission_id"] for job in head.submitted] == [follow.submission.name] * 2


def test_a_job_that_the_cluster_lost_has_a_next_attempt_and_not_for_ever(head: Head) -> None:
    follow, _ = follower(head)
    head.script = [{"status": "RUNNING"}, LOST, {"status": "RUNNING"}, DONE]
    assert follow.follow() == 0
    name = follow.submission.name
    assert [job["submission_id"] for job in head.submitted] == [name, f"{name}-2"]
    follow, _ = follower(head, again=True)
    head.script = [LOST] * 20
    assert follow.follow() == 1
    assert len(head.submitted) == 2 + 5


def test_a_job_is_submitted_again_although_the_log_of_its_node_is_gone(
    head: Head, caplog: pytest.LogCaptureFixture
) -> None:
    follow, printed = follower(head)
    name = follow.submission.name
    head.broken = (f"/{name}/logs",)
    head.script = [LOST, {"status": "RUNNING"}, DONE]
    assert follow.follow() == 0
    assert [job["submission_id"] for job in head.submitted] == [name, f"{name}-2"]
    assert printed == ["one\ntwo\nthree"]
    assert f"the last lines of {name} cannot be read" in caplog.text


def test_a_complete_job_is_complete_whatever_became_of_its_node(head: Head, caplog: pytest.LogCaptureFixture) -> None:
    follow, printed = follower(head, prices=NodePrices(per_hour={"head": 1.0}))
    head.jobs[follow.submission.name] = new_job(follow.submission.name, **DONE)
    head.broken = ("/logs", "/nodes")
    assert follow.follow() == 0
    assert not printed
    assert "cannot be read" in caplog.text
    assert "the cost is not known" in caplog.text


def test_a_head_that_is_busy_for_a_moment_costs_no_line(head: Head) -> None:
    follow, printed = follower(head)
    head.jobs[follow.submission.name] = new_job(follow.submission.name, **DONE)
    sleep = follow.sleep
    head.broken = ("/logs",)

    def recover(seconds: float) -> None:
        head.broken = ()
        sleep(seconds)

    follow.sleep = recover
    assert follow.follow() == 0
    assert printed == ["one\ntwo\nthree"]


def test_a_job_whose_node_was_lost_with_the_head_is_told_from_one_that_could_not_be_started() -> None:
    failed = new_job("n", "FAILED", error_type="JOB_SUPERVISOR_ACTOR_START_FAILURE")
    assert Job.read(failed | {"message": "Unexpected error occurred: failed to get job supervisor."}).lost
    assert not Job.read(failed | {"message": "Failed to start supervisor actor n: 'bad option'. Full traceback:"}).lost


def test_a_job_that_failed_gives_its_exit_code_and_is_not_repeated(head: Head) -> None:
    follow, printed = follower(head)
    failed = {"status": "FAILED", "error_type": "JOB_ENTRYPOINT_COMMAND_ERROR", "driver_exit_code": 2}
    head.script = [failed | {"printed": "error: no such file"}]
    assert follow.follow() == 2
    assert printed == ["error: no such file"]
    assert len(head.submitted) == 1
    head.script = [DONE]
    again, _ = follower(head)
    assert again.follow() == 0
    assert head.submitted[-1]["submission_id"].endswith("-2")


def test_a_cluster_that_does_not_answer_is_given_up_after_a_while(head: Head) -> None:
    clock = iter(range(0, 10_000, 100))
    follow, _ = follower(head, patience=600.0, clock=lambda: float(next(clock)))
    head.down = 10**6
    with pytest.raises(UnreachableError, match=r"given up after 600 s \(--patience\)"):
        follow.follow()


def test_a_lost_node_is_told(head: Head, caplog: pytest.LogCaptureFixture) -> None:
    clock = iter(range(0, 10_000, 100))
    follow, _ = follower(head, clock=lambda: float(next(clock)))
    node = {"node_id": "n", "node_ip": "10.0.0.7", "state": "ALIVE", "state_message": None}
    head.nodes = [node]
    head.script = [{"status": "RUNNING"}, {}, {}, DONE]

    follow.sleep = lambda seconds: node.update(state="DEAD", state_message="health check failed")
    with caplog.at_level(logging.INFO, logger="s1ray"):
        assert follow.follow() == 0
    assert caplog.text.count("the node 10.0.0.7 is lost: health check failed") == 1


def test_a_config_of_this_machine_travels_and_decides_the_name(head: Head, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("output: /shared/run\nsources: [{kind: miniature, size: 100}]\n")
    first = submission("curate", ["--config", str(file), "--root", "/shared"])
    assert first.entrypoint == "python -m s1ray.cli curate --config config.yaml --root /shared"
    assert first.name == submission("curate", ["--config", str(file), "--root", "/shared"]).name
    assert first.name != submission("curate", ["--config", str(file), "--root", "/other"]).name
    copy = tmp_path / "copy.yaml"
    copy.write_text(file.read_text())
    assert first.name == submission("curate", ["--config", str(copy), "--root", "/shared"]).name, "wherever it lies"
    follow, _ = follower(head, "curate", "--config", str(file))
    head.script = [DONE]
    assert follow.follow() == 0
    (package,) = head.packages.values()
    assert b"config.yaml" in package
    file.write_text("output: /shared/run\nsources: [{kind: miniature, size: 101}]\n")
    assert submission("curate", ["--config", str(file), "--root", "/shared"]).name != first.name
    recipe = submission("curate", ["--config", "miniature"])
    assert recipe.entrypoint == "python -m s1ray.cli curate --config miniature"
    assert not recipe.files


@pytest.fixture
def run_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recipe of `run` that names files, by a relative and an absolute path, and a recipe."""
    monkeypatch.chdir(tmp_path)
    for name, stage in {"mine.yaml": "curate", "config.yaml": "eval", "served.yaml": "serve"}.items():
        (tmp_path / name).write_bytes(find_recipe("miniature", stage).read_bytes())
    recipe = tmp_path / "run.yaml"
    recipe.write_text(
        "output: /shared/run\nstages:\n- {stage: curate, config: mine.yaml}\n- {stage: traces, config: miniature}\n"
        f"- {{stage: eval, name: eval_1, config: config.yaml, serve: {{config: {tmp_path / 'served.yaml'}}}}}\n"
    )
    return recipe


@pytest.mark.parametrize(
    "options", [["--output", "/shared/o", "RECIPE"], ["-sx.seed=1", "RECIPE", "-o/shared/o"], ["--force", "RECIPE"]]
)
def test_a_recipe_of_a_run_is_found_wherever_it_stands(run_recipe: Path, options: list[str]) -> None:
    given = [option.replace("RECIPE", "run.yaml").replace("x.seed", "curate.seed") for option in options]
    sent = submission("run", given)
    assert list(sent.arguments) == ["config.yaml" if argument == "run.yaml" else argument for argument in given]
    assert sent.files


def test_the_files_that_a_recipe_names_travel_with_it(run_recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = submission("run", ["run.yaml"])
    assert set(sent.files) == {
        "config.yaml",
        "config-curate.yaml",
        "config-eval_1.yaml",
        "config-eval_1-serve.yaml",
    }
    here = [config for _, config in load_pipeline("run.yaml").configs()]
    with sent.working_folder(None) as folder:
        assert folder is not None
        monkeypatch.chdir(folder)
        assert [config for _, config in load_pipeline("config.yaml").configs()] == here
        serving = load_pipeline("config.yaml").config.stages[2].serve
        assert serving is not None
        assert Path(serving.config).read_bytes() == find_recipe("miniature", "serve").read_bytes()
        monkeypatch.chdir(run_recipe.parent)
    Path("mine.yaml").write_text(Path("mine.yaml").read_text() + "# changed\n")
    assert submission("run", ["run.yaml"]).name != sent.name


def test_a_recipe_that_names_no_file_travels_as_it_is(tmp_path: Path) -> None:
    recipe = tmp_path / "run.yaml"
    recipe.write_text("# mine\noutput: /shared/run\nstages: [{stage: curate, config: miniature}]\n")
    assert submission("run", [str(recipe)]).files == {"config.yaml": recipe.read_bytes()}


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["serve"], "'serve' is none of curate"),
        (["curate", "--config", "nowhere.yaml"], "no such file, and no recipe of curate"),
        (["curate", "--config", "miniature", "--set", "sizes=3"], "sizes: unknown field"),
        (["run"], "name a recipe of `run`"),
        (["run", "miniature", "--set", "curate.sizes=3"], "sizes: unknown field"),
        (["run", "-o", "nowhere.yaml"], "name a recipe of `run`"),
        (["traces", "--config", "r1", "--set", "teacher.base_url=https://me:hush@h/v1"], "must not hold a user"),
    ],
)
def test_mistakes_are_told_before_anything_is_submitted(head: Head, command: list[str], message: str) -> None:
    result = CliRunner().invoke(app, ["submit", "--address", head.address, *command])
    assert result.exit_code == 2
    assert message in result.output + result.stderr
    assert "hush" not in result.output + result.stderr
    assert not head.submitted


def test_the_command_ends_with_the_jobs_exit_code(head: Head, tmp_path: Path) -> None:
    head.script = [{"status": "FAILED", "driver_exit_code": 3, "message": "no", "start_time": 10_000}]
    prices = tmp_path / "prices.yaml"
    prices.write_text("per_hour: {head: 0.4}\n")
    command = ["submit", "--address", head.address, "--entrypoint-num-cpus", "1", "--prices", str(prices), "doctor"]
    result = CliRunner().invoke(app, [*command, "--storage", "/shared"])
    assert result.exit_code == 3
    assert head.submitted[0]["entrypoint"] == "python -m s1ray.cli doctor --storage /shared"
    assert head.submitted[0]["entrypoint_num_cpus"] == 1


def test_the_labels_of_the_drivers_node_are_checked_and_sent(head: Head) -> None:
    head.script = [{"status": "SUCCEEDED", "start_time": 10_000}]

    def submit(labels: str) -> Any:
        command = ["submit", "--address", head.address, "--entrypoint-label-selector", labels, "doctor"]
        return CliRunner().invoke(app, command)

    for wrong, message in (
        ("s1ray/role=cpu", "node_labels: Input should be a valid dictionary"),
        ("{s1ray/role: 1}", "node_labels.s1ray/role: Input should be a valid string"),
        ("{a b: cpu}", "'a b' is no label"),
        ("{", "--entrypoint-label-selector: not valid YAML"),
    ):
        result = submit(wrong)
        assert result.exit_code == 2
        assert message in result.output + result.stderr
    assert not head.submitted
    assert submit('{"s1ray/role": "cpu"}').exit_code == 0
    assert head.submitted[0]["entrypoint_label_selector"] == {"s1ray/role": "cpu"}


def test_a_token_goes_to_loopback_and_to_nobody_else_unasked(
    head: Head, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text("hush")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.delenv("RAY_AUTH_MODE")
    use_token("http://10.0.0.1:8265")
    assert "RAY_AUTH_MODE" not in os.environ
    use_token("http://127.0.0.1:8265")
    assert os.environ["RAY_AUTH_MODE"] == "token"
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    head.token = "hush"
    result = CliRunner().invoke(app, ["submit", "--address", head.address, "doctor"])
    assert result.exit_code == 2
    assert "the cluster wants its token: set RAY_AUTH_MODE=token" in result.output + result.stderr


@pytest.mark.parametrize("address", ["127.0.0.1:8265", "ray://h:10001", "auto", "http://me:hush@h:8265", "http://"])
def test_an_address_that_is_no_dashboards_is_refused(address: str) -> None:
    with pytest.raises(ConfigError, match="--address: must be that of the dashboard") as raised:
        dashboard_address(address)
    assert "hush" not in str(raised.value)


def test_the_attempts_of_a_name() -> None:
    assert attempt_of("s1ray-train-0123456789", "s1ray-train-0123456789") == 1
    assert attempt_of("s1ray-train-0123456789-3", "s1ray-train-0123456789") == 3
    assert attempt_of("s1ray-train-0123456789-x", "s1ray-train-0123456789") is None
    assert attempt_of("raysubmit_1", "s1ray-train-0123456789") is None


def test_the_cost_is_that_of_the_time_that_nodes_and_job_share() -> None:
    prices = NodePrices(per_hour={"head": 1.0, "train": 100.0})
    nodes = [
        {"is_head_node": True, "labels": {}, "start_time_ms": 1, "end_time_ms": 0},
        {"labels": {"ray.io/node-group": "train"}, "start_time_ms": 4_600_000, "end_time_ms": 6_400_000},
        {"labels": {"ray.io/node-group": "train"}, "start_time_ms": 1, "end_time_ms": 900_000},
        {"labels": {"ray.io/node-group": "other"}, "start_time_ms": 1, "end_time_ms": 0},
    ]
    line = cost_line(prices, nodes, start=1000.0, now=8200.0)
    assert line == "cost so far: 52.00 USD (2.00 h of head, 0.50 h of train; without a price: 1 x other)"


def test_what_is_waited_for_is_read_from_the_status() -> None:
    assert waited_for(STATUS) == [
        "a node that is starting: 10.0.0.7: train_h100, waiting-for-ssh",
        "resources for: {'GPU': 8.0} * 2 (PACK): 1+ pending placement groups",
    ]
    assert waited_for("") == []
    assert (
        waited_for("Pending:\n (no pending nodes)\nRecent failures:\n (no failures)\nDemands:\n (no resource demands)")
        == []
    )
