from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from s1ray.serving.http.admission import WINDOW_S, Admission, Refusal, Ticket
from s1ray.serving.http.keys import ApiKey


def key(name: str = "a", **caps: int) -> ApiKey:
    return ApiKey.model_validate({"name": name, "sha256": "0" * 64, **caps})


def test_without_a_key_or_caps_everything_is_admitted() -> None:
    admission = Admission()
    for who in (None, key()):
        tickets = [admission.enter(who) for _ in range(1000)]
        assert all(isinstance(ticket, Ticket) and ticket.reserve(10**9) is None for ticket in tickets)


def test_the_rate_holds_in_every_window_and_the_refusal_says_when_to_retry() -> None:
    now = 100.0
    admission = Admission(clock=lambda: now)
    alice = key(requests_per_minute=2)
    assert isinstance(admission.enter(alice), Ticket)
    now += 20
    assert isinstance(admission.enter(alice), Ticket)
    refused = admission.enter(alice)
    assert isinstance(refused, Refusal)
    assert refused.retry_after_s == 40
    assert isinstance(admission.enter(key("b", requests_per_minute=2)), Ticket)
    now += refused.retry_after_s
    assert isinstance(admission.enter(alice), Ticket)
    assert isinstance(admission.enter(alice), Refusal)


def test_after_a_rate_is_lowered_the_wait_covers_all_surplus_requests() -> None:
    now = 0.0
    admission = Admission(clock=lambda: now)
    for _ in range(5):
        admission.enter(key(requests_per_minute=5))
        now += 1
    refused = admission.enter(key(requests_per_minute=2))
    assert isinstance(refused, Refusal)
    now += refused.retry_after_s
    assert isinstance(admission.enter(key(requests_per_minute=2)), Ticket)


def test_a_request_that_leaves_releases_its_slot_and_its_thinking_tokens() -> None:
    admission = Admission()
    alice = key(concurrent_requests=2, outstanding_thinking_tokens=100)
    first, second = admission.enter(alice), admission.enter(alice)
    assert isinstance(first, Ticket)
    assert isinstance(second, Ticket)
    assert isinstance(admission.enter(alice), Refusal)
    assert first.reserve(60) is None
    waits = second.reserve(50)
    assert waits is not None
    assert waits.retry_after_s > 0
    assert second.reserve(40) is None
    first.leave()
    first.leave()
    third = admission.enter(alice)
    assert isinstance(third, Ticket)
    assert third.reserve(61) is not None
    assert third.reserve(60) is None
    # More than the cap never fits, so waiting is useless.
    never = third.reserve(101)
    assert never is not None
    assert never.retry_after_s == 0


def test_workers_share_a_cap_and_every_worker_grants_something() -> None:
    admission = Admission(workers=lambda: 4)
    entered = [admission.enter(key(concurrent_requests=10)) for _ in range(10)]
    assert sum(isinstance(ticket, Ticket) for ticket in entered) == 3
    assert isinstance(admission.enter(key("b", concurrent_requests=1)), Ticket)


def test_a_request_above_a_workers_share_is_admitted_where_nothing_else_runs() -> None:
    admission = Admission(workers=lambda: 4)
    alice = key(outstanding_thinking_tokens=100)
    first, second = admission.enter(alice), admission.enter(alice)
    assert isinstance(first, Ticket)
    assert isinstance(second, Ticket)
    assert first.reserve(90) is None
    waits = second.reserve(20)
    assert waits is not None
    assert waits.retry_after_s > 0
    never = second.reserve(101)
    assert never is not None
    assert never.retry_after_s == 0
    assert "cap of 100 " in never.message
    first.leave()
    assert second.reserve(90) is None


@given(st.lists(st.tuples(st.floats(0, 30), st.booleans(), st.integers(0, 40)), max_size=60))
def test_no_cap_is_exceeded_and_nothing_leaks(steps: list[tuple[float, bool, int]]) -> None:
    now = 0.0
    inside: list[tuple[Ticket, int]] = []
    entered: list[float] = []
    admission = Admission(clock=lambda: now)
    alice = key(requests_per_minute=5, concurrent_requests=3, outstanding_thinking_tokens=50)
    for wait, leaves, tokens in steps:
        now += wait
        if leaves and inside:
            inside.pop()[0].leave()
        ticket = admission.enter(alice)
        if isinstance(ticket, Ticket):
            entered.append(now)
            granted = ticket.reserve(tokens) is None
            inside.append((ticket, tokens if granted else 0))
        assert len(inside) == admission.running <= 3
        assert sum(tokens for _, tokens in inside) <= 50
        assert sum(at > now - WINDOW_S for at in entered) <= 5
    for ticket, _ in inside:
        ticket.leave()
    assert admission.running == 0
    fresh = admission.enter(key(outstanding_thinking_tokens=50))
    assert isinstance(fresh, Ticket)
    assert fresh.reserve(50) is None
