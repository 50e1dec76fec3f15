from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest
from ray.serve._private.common import DeploymentHandleSource, DeploymentID, ReplicaID, RequestMetadata
from ray.serve._private.request_router.common import PendingRequest

from s1ray.serving.scaling.router import EarliestDeadlineRouter

MODEL = DeploymentID(name="model", app_name="app")


class Replica:
    """One replica with a number of slots."""

    def __init__(self, slots: int) -> None:
        self.replica_id = ReplicaID(unique_id="r", deployment_id=MODEL)
        self.node_id, self.availability_zone = "node", None
        self.multiplexed_model_ids: set[str] = set()
        self.max_ongoing_requests, self.running = slots, 0
        self.is_cross_language = False

    def update_replica_info(self, info: object) -> None:
        raise NotImplementedError

    async def get_queue_len(self, *, deadline_s: float) -> int:
        return self.running


@pytest.fixture
def depths(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """The values that the queue's gauge was set to."""
    values: list[tuple[str, int]] = []
    # The class's own module: Ray may have imported another one of this name in this process.
    names = EarliestDeadlineRouter._choose_replica_for_request.__globals__
    monkeypatch.setitem(names, "set_queue_depth", lambda *args: values.append(args))
    return values


@pytest.mark.parametrize("adapter", ["", "m:french"])
def test_waiting_requests_are_routed_by_their_deadlines(depths: list[tuple[str, int]], adapter: str) -> None:
    async def run() -> list[float]:
        replica = Replica(slots=1)
        routing = EarliestDeadlineRouter(
            deployment_id=MODEL,
            handle_source=DeploymentHandleSource.REPLICA,
            use_replica_queue_len_cache=False,
            initial_backoff_s=0.001,
            max_backoff_s=0.005,
        )
        routing.initialize_state(model="m")
        routing.update_replicas([replica])
        served: list[float] = []

        async def request(deadline: float) -> None:
            metadata = RequestMetadata(
                request_id=str(deadline), internal_request_id=str(deadline), multiplexed_model_id=adapter
            )
            pending = PendingRequest(args=["body", SimpleNamespace(deadline=deadline)], kwargs={}, metadata=metadata)
            assert await routing._choose_replica_for_request(pending) is replica
            replica.running += 1
            served.append(deadline)
            await asyncio.sleep(0.02)
            replica.running -= 1

        first = asyncio.create_task(request(0.0))
        await asyncio.sleep(0.01)
        left = asyncio.create_task(request(5.0))
        others = [asyncio.create_task(request(deadline)) for deadline in (40.0, 10.0, 30.0, 20.0)]
        await asyncio.sleep(0.005)
        left.cancel()
        await asyncio.wait_for(asyncio.gather(first, *others), 120)
        return served

    assert asyncio.run(run()) == [0.0, 10.0, 20.0, 30.0, 40.0]
    assert max(depth for _, depth in depths) >= 4
    assert depths[-1] == ("m", 0)


def test_places_that_are_free_are_taken_at_once_whoever_has_the_earliest_deadline(
    depths: list[tuple[str, int]],
) -> None:
    """Each request that comes is the most urgent one, and no task of the router finds a place for its own."""

    async def run() -> float:
        replica = Replica(slots=8)
        routing = EarliestDeadlineRouter(
            deployment_id=MODEL,
            handle_source=DeploymentHandleSource.REPLICA,
            use_replica_queue_len_cache=False,
            initial_backoff_s=1.0,
            max_backoff_s=1.0,
        )
        routing.initialize_state(model="m")
        routing.update_replicas([replica])
        replica.running = 8

        async def request(deadline: float) -> None:
            metadata = RequestMetadata(request_id=str(deadline), internal_request_id=str(deadline))
            pending = PendingRequest(args=["body", SimpleNamespace(deadline=deadline)], kwargs={}, metadata=metadata)
            assert await routing._choose_replica_for_request(pending) is replica
            replica.running += 1

        tasks = []
        for deadline in range(10, 0, -1):
            tasks.append(asyncio.create_task(request(float(deadline))))
            await asyncio.sleep(0.01)
        clock = asyncio.get_running_loop().time
        freed, replica.running = clock(), 0
        await asyncio.wait(tasks, timeout=20, return_when=asyncio.FIRST_COMPLETED)
        while sum(task.done() for task in tasks) < 8:
            assert clock() < freed + 20
            await asyncio.sleep(0.005)
        taken = clock() - freed
        assert sorted(number for number, task in enumerate(tasks) if not task.done()) == [0, 1]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return taken

    # One rest of a second, and not four.
    assert asyncio.run(run()) < 2.5
