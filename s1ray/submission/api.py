"""The cluster's HTTP API: jobs, their logs, nodes, and what the autoscaler waits for."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from s1ray.config import ConfigError
from s1ray.errors import S1rayError, UnreachableError
from s1ray.ray_private import job_client, token_headers

SECONDS = 20.0
SUBMIT_S = 120.0
"""That the head may be silent while it takes a folder, or a job."""
MODE, TOKEN_PATH = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH"
ENDED = ("SUCCEEDED", "FAILED", "STOPPED")
"""States in which a job stays."""
LOST = ("JOB_SUPERVISOR_ACTOR_DIED", "JOB_SUPERVISOR_ACTOR_UNKNOWN_FAILURE")
"""Errors that are the cluster's, not the command's."""
LOST_UNSEEN = ("JOB_SUPERVISOR_ACTOR_START_FAILURE", "failed to get job supervisor")
"""Error, and part of its message, where a head that kept its state (Redis) comes back and the driver's node is gone.
With another message the error says that the job could not be started."""


class RefusedError(S1rayError):
    """The cluster does not take the token, or the request."""


@dataclass(frozen=True)
class Job:
    """A job, as the cluster tells it."""

    id: str
    status: str
    message: str
    error_type: str | None
    exit_code: int | None
    start: float | None
    end: float | None
    """Seconds since the epoch."""

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> Job:
        """From the API's JSON."""
        start, end = data.get("start_time"), data.get("end_time")
        return cls(
            id=str(data.get("submission_id") or ""),
            status=str(data["status"]),
            message=str(data.get("message") or ""),
            error_type=data.get("error_type"),
            exit_code=data.get("driver_exit_code"),
            start=start / 1000 if start else None,
            end=end / 1000 if end else None,
        )

    @property
    def ended(self) -> bool:
        """Whether it stays as it is."""
        return self.status in ENDED

    @property
    def lost(self) -> bool:
        """Whether it ended because the node that ran it, or the head, was lost."""
        error, message = LOST_UNSEEN
        unseen = self.error_type == error and message in self.message
        return self.status == "FAILED" and (self.error_type in LOST or unseen)


class Cluster:
    """Asks one cluster. Every question ends within `SECONDS`, whatever became of the head.

    Args:
        address: of the dashboard: http://127.0.0.1:8265.
        transport: replaces the network, for tests.
    """

    def __init__(self, address: str, transport: httpx.BaseTransport | None = None) -> None:
        self.address = address.rstrip("/")
        use_token(self.address)
        self._client = httpx.Client(
            base_url=self.address,
            headers=_token_headers(),
            timeout=SECONDS,
            transport=transport,
            trust_env=False,
            # Loading the authorities takes a while.
            verify=self.address.startswith("https"),
        )

    def jobs(self) -> list[Job]:
        """Jobs that were submitted, in the order of their starts."""
        found = [Job.read(job) for job in self._get("/api/jobs/") if job.get("submission_id")]
        return sorted(found, key=lambda job: job.start or 0.0)

    def job(self, job_id: str) -> Job | None:
        """A job. None: the cluster knows none of that name, so that it is another cluster than before."""
        answer = self._get(f"/api/jobs/{job_id}", missing=True)
        return None if answer is None else Job.read(answer)

    def logs(self, job_id: str) -> str:
        """All that a job has printed."""
        answer = self._get(f"/api/jobs/{job_id}/logs", missing=True)
        return "" if answer is None else str(answer.get("logs") or "")

    def status(self) -> str:
        """What `ray status` says; empty where there is no autoscaler to ask."""
        answer = self._get("/api/cluster_status?format=1", missing=True) or {}
        return str((answer.get("data") or {}).get("clusterStatus") or "")

    def nodes(self) -> list[dict[str, Any]]:
        """Every node, dead ones too."""
        answer = self._get("/api/v0/nodes?detail=1&limit=10000", missing=True) or {}
        return list(((answer.get("data") or {}).get("result") or {}).get("result") or [])

    def submit(self, job_id: str, entrypoint: str, folder: Path | None, options: Mapping[str, Any]) -> None:
        """Submit a job; uploads the folder.

        Raises:
            UnreachableError: the cluster does not answer; it may have taken the job.
            RefusedError: it does not take the job, or the token.
        """
        from ray.exceptions import AuthenticationError

        # Ray's client lets this variable win over what it is told.
        before = os.environ.pop("RAY_ADDRESS", None)
        try:
            client = job_client(self.address, SUBMIT_S)
            environment = {"working_dir": str(folder)} if folder is not None else {}
            client.submit_job(entrypoint=entrypoint, submission_id=job_id, runtime_env=environment, **options)
        except AuthenticationError:
            raise self._no_token() from None
        except (RuntimeError, ValueError) as error:
            raise RefusedError(f"{self.address} does not take the job: {error}") from None
        finally:
            if before is not None:
                os.environ["RAY_ADDRESS"] = before

    def _get(self, path: str, *, missing: bool = False) -> Any:
        try:
            response = self._client.get(path)
        except httpx.HTTPError as error:
            raise UnreachableError(f"{self.address}: no answer ({type(error).__name__}: {error})") from None
        if response.status_code in (401, 403):
            raise self._no_token()
        if response.status_code == 404 and missing:
            return None
        if response.status_code != 200:
            why = f"status {response.status_code}: {response.text.strip()[-200:]}"
            # While a head starts, or its agent is lost, it answers with 5xx.
            raise UnreachableError(f"{self.address}{path}: {why}")
        try:
            return response.json()
        except ValueError:
            raise UnreachableError(f"{self.address}{path}: no JSON; is that a Ray dashboard?") from None

    def _no_token(self) -> RefusedError:
        return RefusedError(
            f"{self.address}: the cluster wants its token: set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN_PATH to the "
            "file with it (or put it into ~/.ray/auth_token)"
        )


def dashboard_address(given: str | None) -> str:
    """The dashboard's address, from the command line or Ray's variables.

    Raises:
        ConfigError: it is none.
    """
    address = given or os.environ.get("RAY_API_SERVER_ADDRESS") or os.environ.get("RAY_ADDRESS")
    address = address or "http://127.0.0.1:8265"
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
        raise ConfigError(
            "--address: must be that of the dashboard, for example http://127.0.0.1:8265 (`ray dashboard cluster.yaml` "
            "forwards it here)"
        )
    return address


def use_token(address: str) -> None:
    """Use our token for a dashboard on loopback (a tunnel); another host gets it only where RAY_AUTH_MODE says so."""
    path = os.environ.get(TOKEN_PATH) or os.path.expanduser("~/.ray/auth_token")
    there = "RAY_AUTH_TOKEN" in os.environ or os.path.isfile(path)
    if MODE not in os.environ and there and urlsplit(address).hostname in ("127.0.0.1", "localhost", "::1"):
        os.environ[MODE] = "token"


def _token_headers() -> dict[str, str]:
    if os.environ.get(MODE, "").lower() != "token":
        return {}
    return token_headers()
