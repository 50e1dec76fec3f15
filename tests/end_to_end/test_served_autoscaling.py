"""Replicas that come because requests wait and go because none do: from none to one, to two, to one, to none.

The machine's own times are printed (`pytest -s`) and stand in the test report as properties.
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
from tests.support.served import ENGINE, QUESTION, WRONG

pytestmark = [pytest.mark.end_to_end, pytest.mark.slow]

BATCH = 2
BURST = 40
TOKENS, FEW = 800, 20
PATIENCE_S = 240.0
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
DEPLOYMENT = deployment_names(CONFIG)[1]


@pytest.fixture(scope="module")
def elastic(ray_session: None) -> Iterator[ServedApp]:
    with serve_locally(CONFIG, start_timeout_s=600) as app:
        yield app


class Watch:
    """What Serve says of the replicas, a few times a second, with the time since the beginning."""

    def __init__(self, app: str) -> None:
        self._app = app
        self._begin = time.monotonic()
        self.seen: list[tuple[float, dict[str, int]]] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(30)

    def _look(self) -> None:
        from ray import serve

        while not self._over.wait(0.2):
            deployment = serve.status().applications[self._app].deployments[DEPLOYMENT]
            states = {str(getattr(state, "value", state)): count for state, count in deployment.replica_states.items()}
            if not self.seen or states != self.seen[-1][1]:
                self.seen.append((self.now, states))

    @property
    def now(self) -> float:
        return time.monotonic() - self._begin

    def wait(self, what: str, holds: Callable[[dict[str, int]], bool], after: float = 0.0) -> float:
        """When it first held, not before `after`."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            for index, (at, states) in enumerate(self.seen):
                ended = self.seen[index + 1][0] if index + 1 < len(self.seen) else self.now
                if holds(states) and ended > after:
                    return max(at, after)
            time.sleep(0.1)
        pytest.fail(f"{what}: not within {PATIENCE_S:g} s; seen: {self.seen}")


def running(count: int) -> Callable[[dict[str, int]], bool]:
    return lambda states: states.get("RUNNING", 0) == count


def only_running(count: int) -> Callable[[dict[str, int]], bool]:
    return lambda states: {name: n for name, n in states.items() if n} == ({"RUNNING": count} if count else {})


def reported(app: str) -> dict[str, float]:
    """The last numbers of all replicas, as the controller has them."""
    import ray
    from ray.serve._private.common import DeploymentID
    from ray.serve.context import _get_global_client

    controller = _get_global_client()._controller
    known = ray.get(
        controller._get_metrics_for_deployment_for_testing.remote(DeploymentID(name=DEPLOYMENT, app_name=app))
    )
    return {name: sum(series[-1].value for series in lists if series) for name, lists in known.items()}


def test_replicas_follow_the_queue_and_no_request_is_lost(
    elastic: ServedApp, never_stops: dict[str, int], record_property: Callable[[str, object], None]
) -> None:
    client = openai.OpenAI(base_url=f"{elastic.url}/v1", api_key="unused", max_retries=0, timeout=600)

    def ask(tokens: int) -> float:
        """Ask for exactly so many tokens; the seconds that it took."""
        begun = time.monotonic()
        response = client.chat.completions.create(
            model="elastic", messages=QUESTION, max_tokens=tokens, logit_bias=never_stops, temperature=1.0
        )
        assert response.usage is not None
        assert response.usage.completion_tokens == tokens
        assert response.choices[0].finish_reason == "length"
        return time.monotonic() - begun

    times: dict[str, float] = {}
    with Watch(elastic.name) as watch, ThreadPoolExecutor(BURST) as pool:
        watch.wait("nobody asks", only_running(0))

        for fields, _ in WRONG:
            with pytest.raises(openai.BadRequestError):
                client.chat.completions.create(model="elastic", messages=QUESTION, extra_body=fields)
        assert only_running(0)(watch.seen[-1][1]), "a request that is wrong by its own text started a replica"

        times["first answer, from no replica"] = ask(FEW)
        watch.wait("the first replica", running(1))

        begun = watch.now
        burst = [pool.submit(ask, TOKENS) for _ in range(BURST)]
        asked = watch.wait("a second replica is asked for", lambda states: sum(states.values()) == 2, begun)
        two = watch.wait("the second replica", running(2), begun)
        numbers = reported(elastic.name)
        took = [answer.result(timeout=PATIENCE_S) for answer in burst]
        done = watch.now
        assert len(took) == BURST
        assert two < done, "the burst was over before the second replica came; make it longer"
        times["second replica asked for"] = asked - begun
        times["second replica serves"] = two - begun
        times["burst answered"] = done - begun

        # Short requests all the while: the replica that goes must not take one with it.
        over = threading.Event()

        def trickle() -> int:
            count = 0
            while not over.is_set():
                ask(FEW)
                count += 1
                over.wait(0.5)
            return count

        trickling = pool.submit(trickle)
        try:
            times["back to one replica"] = watch.wait("one replica again", only_running(1), done) - done
        finally:
            over.set()
        times["requests while one replica went"] = trickling.result(timeout=PATIENCE_S)
        assert times["requests while one replica went"] > 0

        quiet = watch.now
        times["back to none"] = watch.wait("no replica", only_running(0), quiet) - quiet
    client.close()

    most = [states.get("RUNNING", 0) for _, states in watch.seen]
    changes = [number for index, number in enumerate(most) if index == 0 or number != most[index - 1]]
    assert changes[changes.index(0) :] == [0, 1, 2, 1, 0], f"replicas came and went: {watch.seen}"
    assert {ENGINE_RUNNING, ENGINE_WAITING, KV_CACHE_USAGE, REQUEST_SECONDS} <= numbers.keys()
    assert 0 < numbers[ENGINE_RUNNING] <= 2 * BATCH
    assert 0 < numbers[KV_CACHE_USAGE] <= 2
    for name, value in times.items():
        record_property(name, value)
        print(f"{name}: {value:.1f}" if isinstance(value, float) else f"{name}: {value}")
