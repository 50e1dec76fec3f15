"""The live line."""

from __future__ import annotations

import contextlib
from pathlib import Path

from s1ray.generation.base import Call
from s1ray.teachers.base import Teacher
from s1ray.teachers.bill import Prices
from s1ray.teachers.ledger import Ledger, Writer
from s1ray.teachers.progress import Progress


class Priced(Teacher):
    kind: str = "priced"

    @property
    def price_list(self) -> Prices:
        return Prices(prompt=0, completion=1_000_000)

    @property
    def max_response_tokens(self) -> int:
        return 500

    @property
    def spending_limit(self) -> float:
        return 9_000.0


def answer(writer: Writer, ask: str, tokens: int | None = 10) -> None:
    writer.call(Call(ask, 1, "sent"), prompt=0)
    usage = None if tokens is None else {"prompt_tokens": 1, "completion_tokens": tokens}
    fields = {"thinking": "t", "attempt": "4", "finish_reason": "stop", "raw_finish_reason": None}
    writer.add("answered", ask, call=1, usage=usage, model_version=None, **fields)


def test_rates_are_of_this_start_and_money_is_of_all(tmp_path: Path) -> None:
    with contextlib.closing(Writer(tmp_path)) as earlier:
        for ask in ("a-0", "b-0", "probed-0"):
            answer(earlier, ask, 1000)
        # Killed: it never ends.
        earlier.call(Call("c-0", 1, "sent"), prompt=0)
    ledger = Ledger(tmp_path)
    ledger.read()
    progress = Progress(ledger, ["c-0", "d-0", "e-0", "f-0"], 6, Priced())
    assert progress.line(30) == "traces: 2 of 6 after 30 s, 3,000.00 USD so far of 9,000.00"
    with contextlib.closing(Writer(tmp_path)) as writer:
        answer(writer, "c-0")
        answer(writer, "d-0")
        writer.call(Call("e-0", 1, "sent"), prompt=0)
        # The thirty seconds before the first answer are the teacher's start.
        assert progress.line(40) == (
            "traces: 4 of 6 after 40 s, 12.0 a minute, 2 tokens/s, 3,020.00 USD so far of 9,000.00, about 10 s left"
        )
        writer.call(Call("e-0", 1, "lost", None, "no answer within 1 s"))
        answer(writer, "f-0", None)
    assert "3,020.00 USD so far (and up to 1,000.00)" in progress.line(50)


def test_a_teacher_without_prices_or_calls_has_a_line_as_well(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    progress = Progress(ledger, ["a-0"], 1, Teacher(kind="free"), "judge")
    assert progress.line(10) == "judge: 0 of 1 after 10 s"


def test_long_times_are_in_minutes_and_hours(tmp_path: Path) -> None:
    wanted = [f"q-{n}" for n in range(1000)]
    progress = Progress(Ledger(tmp_path), wanted, 1000, Teacher(kind="free"))
    progress.line(10)
    with contextlib.closing(Writer(tmp_path)) as writer:
        answer(writer, "q-0")
        assert progress.line(20).endswith("about 2.8 hours left")
        for ask in wanted[1:4]:
            answer(writer, ask)
        assert progress.line(20).endswith("about 42 min left")
