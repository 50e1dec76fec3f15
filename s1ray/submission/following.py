"""The loop of `s1ray submit`: attach or submit, follow the logs, say what is waited for, and outlive the head.

A job that the cluster lost (its head or the node of its driver died) is submitted again, a few times; one that failed
by itself is not, since it would fail again. What a job waits for is said whenever that changes.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from s1ray.errors import UnreachableError
from s1ray.submission.api import Cluster, Job
from s1ray.submission.costs import NodePrices, cost_line
from s1ray.submission.naming import Submission, attempt_of

log = logging.getLogger("s1ray")

POLL_S, SLOW_POLL_S = 2.0, 15.0
"""Between two looks at the logs; longer where they are long, as each look reads them whole."""
LONG_LOG = 1_000_000
STATUS_EVERY_S = 20.0
COST_EVERY_S = 600.0
LOG_TRIES = 3
"""To read the last lines of a job that has ended: its log is gone where its node is."""
SUBMISSIONS = 5
"""Of one command that loses its cluster again and again."""


@dataclass
class Follower:
    """Follows one submission to its end.

    Args:
        cluster: that runs it.
        submission: what to run.
        working_folder: to upload. None: nothing but a config of this machine.
        options: of Ray's job (entrypoint_num_cpus, ...).
        prices: of nodes. None: no cost is told.
        patience: seconds that the cluster may not answer.
        again: submit the next attempt even where one is complete.
        out: takes the job's lines.
        clock: seconds, for tests.
        sleep: for tests.
    """

    cluster: Cluster
    submission: Submission
    working_folder: Path | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    prices: NodePrices | None = None
    patience: float = 1800.0
    again: bool = False
    out: Callable[[str], None] = print
    clock: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep

    def __post_init__(self) -> None:
        self._shown = 0
        self._waiting: list[str] = []
        self._alive: dict[str, str] = {}
        self._looked = self._counted = float("-inf")
        self._before: set[tuple[str, float | None]] | None = None
        """Attempts (their ids and starts) that had ended when the command was given; None: not known yet."""
        self._submitted = 0
        self._cut = False

    def attach(self) -> Job | None:
        """The job of this submission that runs or is complete, or a new attempt.

        Returns:
            The job; None where the cluster took it but does not tell of it yet.
        """
        name = self.submission.name
        found = {attempt: job for job in self.cluster.jobs() if (attempt := attempt_of(job.id, name)) is not None}
        if self._before is None:
            self._before = {(job.id, job.start) for job in found.values() if job.ended}
        if found:
            latest = found[max(found)]
            if not latest.ended:
                log.info("submit: attached to %s, which is %s", latest.id, latest.status.lower())
                return latest
            if (latest.id, latest.start) not in self._before and not latest.lost:
                return latest  # Submitted by this command, whose cluster then did not answer for a while.
            if latest.status == "SUCCEEDED" and not self.again:
                log.info("submit: %s is complete; --again submits it once more", latest.id)
                return latest
        attempt = max(found, default=0) + 1
        job_id = name if attempt == 1 else f"{name}-{attempt}"
        with self.submission.working_folder(self.working_folder) as folder:
            self.cluster.submit(job_id, self.submission.entrypoint, folder, self.options)
        self._submitted += 1
        log.info("submit: submitted as %s: %s", job_id, self.submission.entrypoint)
        return self.cluster.job(job_id)

    def follow(self) -> int:
        """Follow the job to its end.

        Returns:
            The exit code: the job's own; 1 where it ended without one.

        Raises:
            UnreachableError: the cluster did not answer for longer than `patience`.
            RefusedError: the cluster does not take the token or the job.
        """
        job = self._patiently(self.attach)
        while True:
            current = None if job is None else self._patiently(lambda job=job: self._look(job))  # type: ignore[misc]
            if current is not None and current.ended:
                self._show_last(current)
            if current is None or current.lost:
                why = "does not know it any more" if current is None else f"lost it ({current.message[:200]})"
                if self._submitted >= SUBMISSIONS:
                    log.error("submit: the cluster %s, for the %d. time; give the command again", why, self._submitted)
                    return 1
                log.warning("submit: the cluster %s; submitting it again, the stage resumes", why)
                self._shown = 0
                job = self._patiently(self.attach)
                continue
            if current.ended:
                return self._ended(current)
            job = current
            self.sleep(min(SLOW_POLL_S, POLL_S * (1 + self._shown / LONG_LOG)))

    def _look(self, job: Job) -> Job | None:
        """The job now. While it goes on, its new lines are shown, and what changed on the cluster."""
        current = self.cluster.job(job.id)
        if current is None or current.ended:
            return current
        self._show(self.cluster.logs(job.id))
        if self.clock() - self._looked >= STATUS_EVERY_S:
            self._looked = self.clock()
            self._tell_nodes()
            self._tell_waiting(current)
        if self.prices is not None and self.clock() - self._counted >= COST_EVERY_S:
            self._tell_cost(current)
        return current

    def _show_last(self, job: Job) -> None:
        for _ in range(LOG_TRIES):
            try:
                self._show(self.cluster.logs(job.id), whole=True)
                return
            except UnreachableError as error:
                why = error
                self.sleep(SLOW_POLL_S / 3)
        log.warning("submit: the last lines of %s cannot be read (%s); its node may be gone", job.id, why)

    def _show(self, logs: str, *, whole: bool = False) -> None:
        # Whole lines while it goes on: the next look continues after them.
        end = len(logs) if whole else logs.rfind("\n") + 1
        if end > self._shown:
            self.out(logs[self._shown : end].rstrip("\n"))
            self._shown = end

    def _tell_waiting(self, job: Job) -> None:
        waiting = waited_for(self.cluster.status())
        if job.status == "PENDING" and not waiting:
            waiting = [job.message or "the job has not started yet"]
        for line in waiting:
            if line not in self._waiting:
                log.info("submit: waiting: %s", line)
        self._waiting = waiting

    def _tell_nodes(self) -> None:
        for node in self.cluster.nodes():
            name = str(node.get("node_ip"))
            before, now = self._alive.get(str(node.get("node_id"))), str(node.get("state"))
            self._alive[str(node.get("node_id"))] = now
            if before == "ALIVE" and now == "DEAD":
                log.warning("submit: the node %s is lost: %s", name, node.get("state_message") or "no reason is known")
            elif before is None and now == "ALIVE" and len(self._alive) > 1 and self._cut:
                log.info("submit: the node %s has joined", name)
        self._cut = True

    def _tell_cost(self, job: Job) -> None:
        assert self.prices is not None
        self._counted = now = self.clock()
        if job.start is not None:
            log.info("submit: %s", cost_line(self.prices, self.cluster.nodes(), job.start, job.end or now))

    def _ended(self, job: Job) -> int:
        if self.prices is not None:
            try:
                self._tell_cost(job)
            except UnreachableError as error:
                log.warning("submit: the cost is not known (%s)", error)
        if job.status == "SUCCEEDED":
            log.info("submit: %s is complete", job.id)
            return 0
        log.error("submit: %s %s: %s", job.id, job.status.lower(), job.message.strip()[-500:] or "no reason is known")
        return job.exit_code or 1

    def _patiently(self, ask: Callable[[], Job | None]) -> Job | None:
        """Ask, again and again while the cluster does not answer."""
        since, told = self.clock(), False
        while True:
            try:
                answer = ask()
            except UnreachableError as error:
                if self.clock() - since >= self.patience:
                    raise UnreachableError(f"{error}; given up after {self.patience:,.0f} s (--patience)") from None
                if not told:
                    log.warning("submit: %s; waiting for the cluster", error)
                    told = True
                self.sleep(SLOW_POLL_S / 3)
                continue
            if told:
                log.info("submit: the cluster answers again")
            return answer


def waited_for(status: str) -> list[str]:
    """What the autoscaler waits for, from what `ray status` prints: nodes that come, demands, and what failed."""
    found = []
    for title, words in (
        ("Pending", "a node that is starting"),
        ("Recent failures", "a node failed"),
        ("Pending Demands|Demands", "resources for"),
    ):
        section = re.search(rf"^ *(?:{title}):[^\n]*\n((?:[ \t]+[^\n]*\n|\n)*)", f"{status}\n", re.MULTILINE)
        for line in section[1].splitlines() if section else ():
            text = line.strip()
            if text and not re.match(r"\(?no |None", text):
                found.append(f"{words}: {text}")
    return found
