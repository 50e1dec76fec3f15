"""Autoscaling of a served model: from no replica to one, to two, back to one and to none.

The times of this machine are printed (`pytest -s`) and recorded as properties in the test report.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pytest

from s1ray.config import validate_config
from s1ray.serving.check import deployment_names
from s1ray.serving.config import ServingConfig
from s1ray.serving.local import ServedApp, serve_locally
from s1ray.serving.scaling.policy import ENGINE_RUNNING, ENGINE_WAITING, KV_CACHE_USAGE, REQUEST_SECONDS
from tests.support.modes import Mode
from tests.support.served import ENGINE, QUESTION, WRONG

pytestmark = [pytest.mark.end_to_end, pytest.mark.slow]

BATCH = 2
BURST = 40
MANY_TOKENS, FEW_TOKENS = 800, 20
TIMEOUT_S = 240.0
MODEL: dict[str, Any] = {
    **ENGINE,
    "name": "elastic",
    "max_num_seqs": BATCH,
    "max_queued_requests": 4 * BURST,
    "graceful_shutdown_timeout_s": 120,
    "autoscaling": {
        "min_replicas": 0,
        "max_replicas": 2,
        "target_ongoing_requests": BATCH,
        "upscale_delay_s": 1,
        "downscale_delay_s": 15,
        "scale_to_zero_delay_s": 20,
        "replica_start_s": 1,
    },
}
CONFIG = validate_config(ServingConfig, {"models": [MODEL]}, "test")
DEPLOYMENT = deployment_names(CONFIG)[-1]


@pytest.fixture(scope="module")
def elastic(ray_session: None, mode: Mode) -> Iterator[ServedApp]:
    config = CONFIG.model_copy(update={"http": mode.http})
    with serve_locally(config, front=mode.front, start_timeout_s=600) as app:
        yield app


class Replicas:
    """The replicas' states, polled from Serve a few times per second, with seconds since the start."""

    def __init__(self, app: str) -> None:
        self._app = app
        self._started = time.monotonic()
        self.history: list[tuple[float, dict[str, int]]] = []
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._poll, daemon=True)

    def __enter__(self) -> Replicas:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join(30)

    def _poll(self) -> None:
        from ray import serve

        while not self._stopped.wait(0.2):
            deployment = serve.status().applications[self._app].deployments[DEPLOYMENT]
            states = {str(getattr(state, "value", state)): count for state, count in deployment.replica_states.items()}
            if not self.history or states != self.history[-1][1]:
                self.history.append((self.now, states))

    @property
    def now(self) -> float:
        return time.monotonic() - self._started

    def wait(self, what: str, holds: Callable[[dict[str, int]], bool], after: float = 0.0) -> float:
        """Wait until `holds` is true of the states; returns when it first was, `after` at the earliest."""
        deadline = time.monotonic() + TIMEOUT_S
        while time.monotonic() < deadline:
            for index, (at, states) in enumerate(self.history):
                ended = self.history[index + 1][0] if index + 1 < len(self.history) else self.now
                if holds(states) and ended > after:
                    return max(at, after)
            time.sleep(0.1)
        pytest.fail(f"{what}: not within {TIMEOUT_S:g} s: {self.history}")


def running(count: int) -> Callable[[dict[str, int]], bool]:
    return lambda states: states.get("RUNNING", 0) == count


def only_running(count: int) -> Callable[[dict[str, int]], bool]:
    return lambda states: {name: n for name, n in states.items() if n} == ({"RUNNING": count} if count else {})


def reported(app: str) -> dict[str, float]:
    """The last numbers that the controller received from all replicas."""
    import ray
    from ray.serve._private.common import DeploymentID
    from ray.serve.context import _get_global_client

    controller = _get_global_client()._controller
    known = ray.get(
        controller._get_metrics_for_deployment_for_testing.remote(DeploymentID(name=DEPLOYMENT, app_name=app))
    )
    return {name: sum(series[-1].value for series in lists if series) for name, lists in known.items()}


def test_replicas_follow_the_queue_and_no_request_is_lost(
    elastic: ServedApp, mode: Mode, never_stops: dict[str, int], record_property: Callable[[str, object], None]
) -> None:
    client = openai.OpenAI(base_url=f"{elastic.url}/v1", api_key="unused", max_retries=0, timeout=600)

    def ask(tokens: int) -> float:
        """Ask for exactly this number of tokens; returns the seconds that it took."""
        begun = time.monotonic()
        response = client.chat.completions.create(
            model="elastic", messages=QUESTION, max_tokens=tokens, logit_bias=never_stops, temperature=1.0
        )
        assert response.usage is not None
        assert response.usage.completion_tokens == tokens
        assert response.choices[0].finish_reason == "length"
        return time.monotonic() - begun

    times: dict[str, float] = {}
    with Replicas(elastic.name) as replicas, ThreadPoolExecutor(BURST) as pool:
        replicas.wait("no replica at first", only_running(0))

        # Where a replica reads requests, the wrong ones start one, too.
        for fields, _ in WRONG if mode.http == "worker" else []:
            with pytest.raises(openai.BadRequestError):
                client.chat.completions.create(model="elastic", messages=QUESTION, extra_body=fields)
        assert only_running(0)(replicas.history[-1][1]), "an invalid request started a replica"

        times["first answer, from no replica"] = ask(FEW_TOKENS)
        replicas.wait("the first replica", running(1))

        begun = replicas.now
        burst = [pool.submit(ask, MANY_TOKENS) for _ in range(BURST)]
        requested = replicas.wait("a second replica requested", lambda states: sum(states.values()) == 2, begun)
        two = replicas.wait("the second replica", running(2), begun)
        numbers = reported(elastic.name)
        took = [answer.result(timeout=TIMEOUT_S) for answer in burst]
        done = replicas.now
        assert len(took) == BURST
        assert two < done, "the burst ended before the second replica was ready; make it longer"
        times["second replica requested"] = requested - begun
        times["second replica ready"] = two - begun
        times["burst answered"] = done - begun

        # Short requests all the time, of which the removed replica must not lose any.
        stop = threading.Event()

        def trickle() -> int:
            count = 0
            while not stop.is_set():
                ask(FEW_TOKENS)
                count += 1
                stop.wait(0.5)
            return count

        trickling = pool.submit(trickle)
        try:
            times["back to one replica"] = replicas.wait("one replica again", only_running(1), done) - done
        finally:
            stop.set()
        times["requests during the removal"] = trickling.result(timeout=TIMEOUT_S)
        assert times["requests during the removal"] > 0

        quiet = replicas.now
        times["back to none"] = replicas.wait("no replica", only_running(0), quiet) - quiet
    client.close()

    counts = [states.get("RUNNING", 0) for _, states in replicas.history]
    changes = [number for index, number in enumerate(counts) if index == 0 or number != counts[index - 1]]
    assert changes[changes.index(0) :] == [0, 1, 2, 1, 0], str(replicas.history)
    assert {ENGINE_RUNNING, ENGINE_WAITING, KV_CACHE_USAGE, REQUEST_SECONDS} <= numbers.keys()
    assert 0 < numbers[ENGINE_RUNNING] <= 2 * BATCH
    assert 0 < numbers[KV_CACHE_USAGE] <= 2
    for name, value in times.items():
        record_property(name, value)
        print(f"{name}: {value:.1f}" if isinstance(value, float) else f"{name}: {value}")
