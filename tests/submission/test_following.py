"""A job is followed to its end: found again, submitted anew where the cluster lost it, and what is said meanwhile."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from s1ray.errors import UnreachableError
from s1ray.submission.api import Job, RefusedError
from s1ray.submission.costs import NodePrices, cost_line
from s1ray.submission.following import waited_for
from tests.support.job_server import DONE, STATUS, Head, follower, new_job

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
