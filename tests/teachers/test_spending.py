"""`max_spend`: what could exceed it is not asked."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from s1ray.config import ConfigError, validate_config
from s1ray.generation.base import Call, OnCall, Usage
from s1ray.schemas import Question
from s1ray.teachers.asking import PASSES, ask_all
from s1ray.teachers.base import Ask, Response, Teacher
from s1ray.teachers.bill import Prices
from s1ray.teachers.ledger import Ledger
from s1ray.teachers.spending import Allowance, HeldBack, SpendingError, allowance, exhausted
from s1ray.teachers.tally import Tally
from s1ray.traces.config import TracesConfig
from tests.teachers.test_collect import asks
from tests.teachers.test_teachers import with_transport

PRICES = Prices(prompt=0, completion=1_000_000)
"""One a token."""
MOST = 10


class Telling(Teacher):
    kind: str = "telling"

    @property
    def tells_before_sending(self) -> bool:
        return True


class Concurrent:
    """Tells its calls, some of them in flight at once; each costs `cost()`, or nobody knows (None)."""

    def __init__(self, cost: Iterator[int | None], concurrency: int = 1, useless: float = 0, seed: int = 0) -> None:
        self.cost, self.concurrency = cost, concurrency
        self.useless, self.draw = useless, random.Random(seed)
        self.billed, self.sent = 0, 0

    def respond(self, asks: Sequence[Ask], calls: OnCall) -> Iterator[tuple[Ask, Response]]:
        for begin in range(0, len(asks), self.concurrency):
            batch = asks[begin : begin + self.concurrency]
            going = []
            for ask in batch:
                try:
                    calls(Call(ask.id, 1, "sent"))
                except SpendingError as error:
                    yield ask, Response(error=f"wrapped: {error}")
                else:
                    self.sent += 1
                    going.append(ask)
            for ask in going:
                yield ask, self._end(ask, calls)

    def _end(self, ask: Ask, calls: OnCall) -> Response:
        cost = next(self.cost)
        self.billed += MOST if cost is None else cost
        usage = None if cost is None else Usage(1, 0, cost)
        if self.draw.random() < self.useless:
            calls(Call(ask.id, 1, "failed" if usage else "lost", usage, "of no use"))
            return Response(error="of no use")
        calls(Call(ask.id, 1, "answered", usage))
        return Response("t", "4", usage=usage)

    def close(self) -> None:
        pass


def read(folder: Path) -> Ledger:
    ledger = Ledger(folder)
    ledger.read()
    return ledger


def ask(teacher: Concurrent, count: int, money: float, folder: Path) -> int:
    config = Telling()
    known = read(folder)
    allowed = Allowance(money, PRICES, MOST).after(known.tally(closed=True))
    wanted = [ask for ask in asks(count) if ask.id not in known.answers]
    files = frozenset(path.name for path in folder.glob("*.jsonl"))
    return len(ask_all(teacher, config, wanted, folder, files, allowed))


def test_what_calls_in_flight_did_not_cost_is_spent_in_later_passes(tmp_path: Path) -> None:
    teacher = Concurrent(itertools.repeat(1), concurrency=4)
    held_back = ask(teacher, 100, 40, tmp_path)
    # 31 answers cost 31, and another call could make it 41.
    assert teacher.billed == 31
    assert held_back == 100 - 31
    assert read(tmp_path).tally(closed=True).answered == 31
    assert not read(tmp_path).failures, "what was not asked has not failed"


def test_a_higher_limit_goes_on_and_earlier_starts_count(tmp_path: Path) -> None:
    first = Concurrent(itertools.repeat(1))
    ask(first, 60, 40, tmp_path)
    again = Concurrent(itertools.repeat(1))
    assert ask(again, 60, 40, tmp_path) == 60 - 31
    assert again.sent == 0
    assert ask(again, 60, 100, tmp_path) == 0
    assert first.billed + again.billed == 60


def test_answers_without_a_count_are_taken_at_the_most(tmp_path: Path) -> None:
    teacher = Concurrent(itertools.repeat(None))
    assert ask(teacher, 10, 45, tmp_path) == 6
    assert teacher.sent == 4


def test_a_failing_ask_is_asked_three_times_at_most_whatever_is_held_back(tmp_path: Path) -> None:
    teacher = Concurrent(itertools.repeat(0), concurrency=2, useless=1)
    ask(teacher, 5, 10.5, tmp_path)
    assert teacher.sent <= 5 * PASSES


@given(
    costs=st.lists(st.one_of(st.integers(0, MOST), st.none()), min_size=1, max_size=30),
    concurrency=st.integers(1, 8),
    count=st.integers(1, 40),
    money=st.integers(0, 200),
    useless=st.sampled_from([0, 0.1, 0.5]),
    seed=st.integers(0, 99),
)
def test_no_more_is_ever_spent(
    costs: list[int | None],
    concurrency: int,
    count: int,
    money: int,
    useless: float,
    seed: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("spending")
    teacher = Concurrent(itertools.cycle(costs), concurrency, useless, seed)
    held_back = ask(teacher, count, money, folder)
    assert teacher.billed <= money
    ledger = read(folder)
    assert PRICES.spent_at_most(ledger.tally(closed=True), MOST) == teacher.billed
    assert held_back <= count - len(ledger.answers)
    if held_back:
        left = Allowance(money, PRICES, MOST).left(ledger.tally(closed=True))
        assert left < MOST or useless, "what fits is asked"


class Silent(Concurrent):
    """Tells no calls."""

    def respond(self, asks: Sequence[Ask], calls: OnCall) -> Iterator[tuple[Ask, Response]]:
        for ask in asks:
            self.sent += 1
            cost = next(self.cost) or 0
            self.billed += cost
            yield ask, Response("t", "4", usage=Usage(1, 0, cost))


def test_a_teacher_that_tells_no_calls_is_asked_for_no_more_than_fits(tmp_path: Path) -> None:
    teacher = Silent(itertools.repeat(2))
    held_back = ask_all(teacher, Teacher(kind="silent"), asks(100), tmp_path, allowance=Allowance(45, PRICES, MOST))
    # 4, 3, 3, 2, ... at a time, as long as ten are left.
    assert teacher.billed == 36
    assert len(held_back) == 100 - 18


def test_a_call_that_raises_through_the_teacher_holds_back_what_is_left(tmp_path: Path) -> None:
    class Careless(Concurrent):
        def respond(self, asks: Sequence[Ask], calls: OnCall) -> Iterator[tuple[Ask, Response]]:
            for ask in asks:
                calls(Call(ask.id, 1, "sent"))
                yield ask, self._end(ask, calls)

    teacher = Careless(itertools.repeat(7))
    assert len(ask_all(teacher, Telling(), asks(9), tmp_path, allowance=Allowance(25, PRICES, MOST))) == 6
    assert not read(tmp_path).failures


def api(**fields: JsonValue) -> Teacher:
    teacher: dict[str, JsonValue] = {"kind": "openai", "base_url": "http://127.0.0.1:1/v1", "model": "m"}
    data: dict[str, JsonValue] = {"output": "unused", "questions": "unused.parquet", "tokenizer": "unused"}
    data["teacher"] = teacher | fields
    return validate_config(TracesConfig, data, "test").teacher


def test_a_teacher_whose_calls_can_cost_anything_is_refused() -> None:
    prices: dict[str, JsonValue] = {"prompt": 1, "completion": 2}
    assert allowance(api()) is None
    assert allowance(api(prices=prices, max_spend=3)) == Allowance(3, Prices(prompt=1, completion=2), 32768)
    with pytest.raises(ConfigError, match="max_spend: nobody knows what this teacher costs; give its `prices`"):
        api(max_spend=3).check()
    with pytest.raises(ConfigError, match=r"max_spend: .* give its max_tokens"):
        api(prices=prices, max_spend=3, max_tokens=None).check()


@pytest.mark.parametrize(
    ("fields", "most"),
    [
        ({"max_tokens": 10}, 10),
        ({"max_tokens": 10, "extra_body": {"max_completion_tokens": 70}}, 70),
        ({"max_tokens": 10, "extra_body": {"max_completion_tokens": 7}}, 10),
        ({"max_tokens": 10, "extra_body": {"max_tokens": None, "max_completion_tokens": 7}}, 7),
        ({"max_tokens": 10, "extra_body": {"max_tokens": None}}, None),
        ({"max_tokens": 10, "extra_body": {"max_output_tokens": 1}}, 10),
        ({"max_tokens": 20, "kind": "responses", "extra_body": {"max_output_tokens": 30, "max_tokens": 1}}, 30),
        ({"max_tokens": 20, "kind": "anthropic", "extra_body": {"max_completion_tokens": 1}}, 20),
    ],
)
def test_what_the_further_fields_say_of_the_maximum_wins(fields: dict[str, JsonValue], most: int | None) -> None:
    assert api(**fields).max_response_tokens == most


@pytest.mark.parametrize("answers", [itertools.cycle([200]), itertools.cycle([200, 500])], ids=["good", "faulty"])
def test_no_http_call_is_made_that_could_exceed_the_limit(
    answers: Iterator[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    came = Counter[int]()

    def handler(request: httpx.Request) -> httpx.Response:
        status = next(answers)
        came[status] += 1
        # The prompt costs nothing, the answer's token 1.
        choice = {"index": 0, "message": {"role": "assistant", "content": "4"}, "finish_reason": "stop"}
        body = {"choices": [choice], "usage": {"prompt_tokens": 5, "completion_tokens": 1}}
        return httpx.Response(status, json=body if status == 200 else {}, headers={"retry-after": "0"})

    monkeypatch.setattr("s1ray.generation.problems.FIRST_PAUSE", 0.001)
    transport = httpx.MockTransport(handler)
    monkeypatch.setattr("s1ray.generation.http.HTTPGenerator", with_transport(transport))
    prices: JsonValue = {"prompt": 0, "completion": 1_000_000}
    teacher = api(prices=prices, max_spend=40, max_tokens=MOST, concurrency=4, attempts=9)
    running = teacher.start(0, tmp_path)
    held_back = ask_all(running, teacher, asks(100), tmp_path, allowance=allowance(teacher))
    running.close()
    assert came[200] == 31, "another answer could make 41"
    assert len(held_back) == 100 - 31
    tally = read(tmp_path).tally(closed=True)
    assert (tally.sent, tally.answered, tally.lost) == (came.total(), 31, 0)
    assert not read(tmp_path).failures


def test_the_limit_can_be_raised_in_the_same_run_folder() -> None:
    prices: dict[str, JsonValue] = {"prompt": 1, "completion": 2}
    assert api(prices=prices, max_spend=3).fingerprint() == api(prices=prices, max_spend=4).fingerprint()


DEAR = Prices(prompt=1_000_000, completion=1_000_000)
"""One a token, and a byte of a question is a token at most."""


@pytest.mark.parametrize("running", [Concurrent, Silent])
@pytest.mark.parametrize("place", [0, 2, 5])
def test_a_question_that_does_not_fit_does_not_keep_the_others_waiting(
    running: type[Concurrent], place: int, tmp_path: Path
) -> None:
    texts = ["four"] * 5
    texts.insert(place, "x" * 200)
    wanted = [Ask(Question(id=str(n), question=text), 0) for n, text in enumerate(texts)]
    config = Telling() if running is Concurrent else Teacher(kind="silent")
    held_back = ask_all(running(itertools.repeat(1)), config, wanted, tmp_path, allowance=Allowance(100, DEAR, MOST))
    assert [ask.id for ask in held_back] == [f"{place}-0"]
    assert len(read(tmp_path).answers) == 5


def test_nothing_is_asked_after_what_is_paid_for_in_any_case_and_does_not_fit() -> None:
    wanted = [Ask(Question(id=str(n), question=text), 0) for n, text in enumerate(["xx", "x" * 200, "xx"])]
    allowed = Allowance(100, DEAR, MOST)
    chosen = allowed.that_fit(wanted, Teacher(kind="silent"), Tally())
    assert [ask.id for ask in chosen] == ["0-0", "2-0"]
    chosen = allowed.that_fit(wanted, Teacher(kind="silent"), Tally(), {"1-0"})
    assert [ask.id for ask in chosen] == ["0-0"]


def test_the_end_names_a_question_that_did_not_fit_and_what_its_prompt_costs() -> None:
    texts = ["x" * 300, "x" * 200]
    wanted = [Ask(Question(id=str(n), question=text), 0) for n, text in enumerate(texts)]
    one, other = (HeldBack.among([ask], Telling()) for ask in wanted)
    assert one + other == HeldBack.among(wanted, Telling()) == HeldBack(2, "1-0", 200)
    message = str(exhausted("traces", Allowance(40, DEAR, MOST), Tally(), 0, 2, one + other + HeldBack()))
    assert "(for '1-0', say, whose prompt can cost 200.0000 and whose answer 10.0000)" in message


def test_the_end_says_what_was_spent_and_what_to_do() -> None:
    tally = Tally(answered=3, completion_tokens=25, lost=1)
    assert str(exhausted("traces", Allowance(40, PRICES, MOST), tally, 3, 8, HeldBack(5))) == (
        "traces: 3 of 8 are answered for 25.0000 USD (and up to 10.0000 by calls whose cost nobody knows), and another "
        "call, whose answer alone can cost 10.0000, could exceed max_spend (40.0000); everything is kept: raise "
        "max_spend and run again to ask for the rest"
    )
