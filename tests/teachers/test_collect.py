"""What the teacher writes is kept as it comes: kills, damage, odd responses, failing teachers."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s1ray.generation.base import Call, OnCall, Usage
from s1ray.manifests import RunError
from s1ray.schemas import Question, question_id, to_table
from s1ray.storage import Location
from s1ray.teachers.asking import PASSES, ask_all
from s1ray.teachers.asks import Asks, asks_of
from s1ray.teachers.base import HOPELESS, Ask, Response, Teacher, TeacherError
from s1ray.teachers.collect import _Actor
from s1ray.teachers.ledger import QUARANTINE, Ledger, Place, Writer, read_answers
from tests.support.mounts import available, small_disk

TEACHER = Teacher(kind="scripted")


def asks(count: int) -> list[Ask]:
    texts = [f"What is {number} + {number}?" for number in range(count)]
    return [Ask(Question(id=question_id(text), question=text), 0) for text in texts]


class Scripted:
    """Responds to one ask after another; `script` gives, returns or raises whatever it wants."""

    def __init__(self, script: Callable[[Ask], Any], last: Callable[[], object] = lambda: None) -> None:
        self.script, self.last = script, last
        self.asked: list[str] = []

    def respond(self, asks: Sequence[Ask], calls: OnCall) -> Iterator[tuple[Ask, Response]]:
        for ask in asks:
            self.asked.append(ask.id)
            yield ask, self.script(ask)
        self.last()

    def close(self) -> None:
        pass


def good(ask: Ask) -> Response:
    return Response(f"thinking of {ask.id}", "4", usage=Usage(5, 1, 7))


def read(folder: Path) -> Ledger:
    ledger = Ledger(folder)
    ledger.read()
    return ledger


def test_a_killed_run_asks_again_only_for_what_was_in_flight(tmp_path: Path) -> None:
    script = f"""
        import time
        from pathlib import Path
        from s1ray.teachers.asking import ask_all
        from tests.teachers.test_collect import TEACHER, Scripted, asks, good

        def slowly(ask):
            time.sleep(0.01)
            return good(ask)

        ask_all(Scripted(slowly), TEACHER, asks(10_000), Path({str(tmp_path)!r}))
    """
    child = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)])
    try:
        ledger, until = Ledger(tmp_path), time.monotonic() + 60
        while len(ledger.answers) < 20:
            assert time.monotonic() < until
            assert child.poll() is None
            time.sleep(0.02)
            ledger.read()
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    wanted = asks(2_000)
    kept = set(read(tmp_path).answers)
    assert kept == {ask.id for ask in wanted[: len(kept)]}
    again = Scripted(good)
    ask_all(again, TEACHER, wanted, tmp_path)
    assert again.asked == [ask.id for ask in wanted[len(kept) :]]
    whole = read(tmp_path)
    texts = [answer.thinking for answer in read_answers(tmp_path, (whole.answers[ask.id] for ask in wanted))]
    assert texts == [f"thinking of {ask.id}" for ask in wanted]
    assert whole.damaged == 0


def test_a_file_is_known_to_be_written_until_its_process_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("s1ray.teachers.ledger.CLOSING_S", 0.3)
    writer = Writer(tmp_path)
    with pytest.raises(RunError, match="still writes there"):
        Ledger(tmp_path).wait_until_closed()
    threading.Timer(0.1, writer.close).start()
    Ledger(tmp_path).wait_until_closed()


def test_a_damaged_line_is_put_aside_and_its_ask_is_asked_again(tmp_path: Path) -> None:
    wanted = asks(5)
    ask_all(Scripted(good), TEACHER, wanted, tmp_path)
    (file,) = tmp_path.glob("*.jsonl")
    lines = file.read_bytes().splitlines(keepends=True)
    lines[1] = lines[1][:20] + b"\xff\x00" + lines[1][22:]
    lines[4] = lines[4][:-9]
    file.write_bytes(b"".join(lines))
    again = Scripted(good)
    ask_all(again, TEACHER, wanted, tmp_path)
    assert again.asked == [wanted[1].id, wanted[4].id]
    ledger = read(tmp_path)
    assert set(ledger.answers) == {ask.id for ask in wanted}
    assert ledger.damaged == 1
    assert [path.read_bytes() for path in (tmp_path / QUARANTINE).iterdir()] == [lines[1]]


@given(line=st.binary(max_size=200))
def test_no_line_ends_the_reading(line: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("responses")
    (folder / "1.jsonl").write_bytes(line.replace(b"\n", b"") + b"\n")
    ask_all(Scripted(good), TEACHER, asks(1), folder)
    assert set(read(folder).answers) == {asks(1)[0].id}


class Unspeakable:
    def __str__(self) -> str:
        raise ValueError("no words")


def raising(error: BaseException) -> Callable[[Ask], Response]:
    def script(ask: Ask) -> Response:
        raise error

    return script


@pytest.mark.parametrize(
    ("odd", "reason"),
    [
        (lambda ask: None, "NoneType in place of a Response"),
        (lambda ask: Response(thinking=None), "thinking is NoneType"),  # type: ignore[arg-type]
        (lambda ask: Response("a", ["b"]), "attempt is list"),  # type: ignore[arg-type]
        (lambda ask: Response("a", "b", finish_reason=3), "finish_reason is int"),  # type: ignore[arg-type]
        (lambda ask: Response("half \ud83d", "b"), "cannot be written as UTF-8"),
        (lambda ask: Response(error="503 \ud83d"), r"503 \ud83d"),
        (lambda ask: Response(error=Unspeakable()), "Unspeakable"),  # type: ignore[arg-type]
        (lambda ask: Response(error=""), "no reason"),
        (raising(KeyError("choices")), "KeyError: 'choices'"),
        (raising(Exception(Unspeakable())), "Exception"),
    ],
)
def test_an_odd_response_is_one_failed_ask(odd: Callable[[Ask], Any], reason: str, tmp_path: Path) -> None:
    wanted = asks(21)
    teacher = Scripted(lambda ask: odd(ask) if ask == wanted[7] else good(ask))
    ask_all(teacher, TEACHER, wanted, tmp_path)
    ledger = read(tmp_path)
    assert set(ledger.answers) == {ask.id for ask in wanted} - {wanted[7].id}
    assert list(ledger.failures) == [wanted[7].id]
    assert reason in ledger.failures[wanted[7].id]
    ledger.failures[wanted[7].id].encode()
    once = [ask.id for ask in wanted[:7]]
    assert teacher.asked[:7] == once
    assert not set(teacher.asked[7:]) & set(once), "what has an answer is not asked again"


def test_odd_counts_do_not_cost_the_response(tmp_path: Path) -> None:
    odd = Usage("5", 0, 2**70)  # type: ignore[arg-type]
    ask_all(Scripted(lambda ask: replace(good(ask), usage=odd, model_version=7)), TEACHER, asks(2), tmp_path)  # type: ignore[arg-type]
    ledger = read(tmp_path)
    (first, _) = read_answers(tmp_path, ledger.answers.values())
    assert (first.usage, first.model_version) == (None, "7")
    assert ledger.tally(closed=True).unmetered == 2


def test_a_teacher_that_forgets_an_ask_or_answers_another_loses_nothing(tmp_path: Path) -> None:
    wanted = asks(3)

    class Confused(Scripted):
        def respond(self, asks: Sequence[Ask], calls: OnCall) -> Iterator[tuple[Ask, Response]]:
            yield Ask(Question(id="other", question="?"), 0), Response("x", "y")
            for ask in asks[:1]:
                yield ask, good(ask)
                yield ask, Response("another", "one")

    ask_all(Confused(good), TEACHER, wanted, tmp_path)
    ledger = read(tmp_path)
    assert set(ledger.answers) == {ask.id for ask in wanted}, "the other two passes ask for the rest"
    assert read_answers(tmp_path, [ledger.answers[wanted[0].id]])[0].thinking == f"thinking of {wanted[0].id}"


def test_what_fails_is_asked_again_in_the_same_run(tmp_path: Path) -> None:
    wanted, tries = asks(6), dict.fromkeys((ask.id for ask in asks(6)), 0)

    def at_the_third(ask: Ask) -> Response:
        tries[ask.id] += 1
        return good(ask) if ask == wanted[0] or tries[ask.id] == PASSES or ask == wanted[tries[ask.id]] else BUSY

    ask_all(Scripted(at_the_third), TEACHER, wanted, tmp_path)
    ledger = read(tmp_path)
    assert set(ledger.answers) == {ask.id for ask in wanted}
    assert not ledger.failures


BUSY = Response(error="503")


def test_an_exception_at_the_end_loses_nothing(tmp_path: Path) -> None:
    def last() -> None:
        raise OSError("gone")

    ask_all(Scripted(good, last), TEACHER, asks(3), tmp_path)
    assert len(read(tmp_path).answers) == 3


def test_an_actor_stops_where_nothing_is_answered_any_more(tmp_path: Path) -> None:
    wanted = asks(200)
    answered = {ask.id for ask in wanted[:50]}
    teacher = Scripted(lambda ask: good(ask) if ask.id in answered else Response(error="402: no money"))
    ask_all(teacher, TEACHER, wanted, tmp_path)
    ledger = read(tmp_path)
    assert set(ledger.answers) == answered
    assert set(ledger.failures) == {ask.id for ask in wanted[50 : 50 + HOPELESS]}
    assert len(teacher.asked) == 50 + HOPELESS


def test_a_teacher_can_stop_the_asking_and_what_came_is_kept(tmp_path: Path) -> None:
    def stop() -> None:
        raise TeacherError("the key is refused; give another one")

    with pytest.raises(TeacherError, match="the key is refused"):
        ask_all(Scripted(good, stop), TEACHER, asks(3), tmp_path)
    assert len(read(tmp_path).answers) == 3


def test_a_teacher_says_how_many_failures_in_a_row_are_hopeless(tmp_path: Path) -> None:
    class Patient(Teacher):
        @property
        def hopeless_after(self) -> int:
            return 100

    wanted = asks(60)
    ask_all(Scripted(lambda ask: BUSY), Patient(kind="scripted"), wanted, tmp_path)
    assert len(read(tmp_path).failures) == 60


def test_a_full_disk_ends_the_run_and_is_not_taken_for_the_teachers_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    written = os.write

    def full(file: int, data: bytes) -> int:
        if asks(5)[3].id.encode() in data:
            raise OSError(28, "No space left on device")
        return written(file, data)

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(RunError, match="No space left on device; make room"):
        ask_all(Scripted(good), TEACHER, asks(5), tmp_path)
    assert len(read(tmp_path).answers) == 3


@pytest.mark.skipif(not available(), reason="needs root, to mount a small file system")
def test_a_run_goes_on_after_a_full_disk(tmp_path: Path) -> None:
    def long(ask: Ask) -> Response:
        return replace(good(ask), thinking="two and two " * 1000)

    with small_disk(tmp_path, mebibytes=1):
        (filler := tmp_path / "filler").write_bytes(b"x" * (700 << 10))
        with pytest.raises(RunError, match=r"\.jsonl: cannot be written: No space left on device; make room there"):
            ask_all(Scripted(long), TEACHER, asks(50), tmp_path / "responses")
        came = set(read(tmp_path / "responses").answers)
        assert 10 < len(came) < 50
        filler.unlink()
        again = Scripted(long)
        ask_all(again, TEACHER, asks(50), tmp_path / "responses")
        assert set(again.asked) == {ask.id for ask in asks(50)} - came
        ledger = read(tmp_path / "responses")
        assert (len(ledger.answers), ledger.damaged) == (50, 0)


def test_a_disk_that_is_found_full_only_when_it_is_synced_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(file: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(RunError, match="No space left on device; make room"):
        ask_all(Scripted(good), TEACHER, asks(5), tmp_path)


class Calling(Scripted):
    """Tells its calls: the first of each ask is of no use, the second is answered; the last ask's never comes."""

    def respond(self, asks: Sequence[Ask], calls: OnCall) -> Iterator[tuple[Ask, Response]]:
        for ask in asks[:-1]:
            calls(Call(ask.id, 1, "sent"))
            calls(Call(ask.id, 1, "retried", Usage(10, 0, 3), "no text"))
            calls(Call(ask.id, 2, "sent"))
            calls(Call(ask.id, 2, "answered", Usage(10, 4, 20, 15)))
            yield ask, good(ask)
        calls(Call(asks[-1].id, 1, "sent"))
        calls(Call(asks[-1].id, 2, "sent"))
        calls(Call(asks[-1].id, 2, "answered", Usage(10, 0, 1)))
        yield asks[-1], Response(error="cannot be read")


def test_calls_and_their_tokens_are_counted_those_without_a_use_too(tmp_path: Path) -> None:
    wanted = asks(3)
    ask_all(Calling(good), TEACHER, wanted, tmp_path)
    tally = read(tmp_path).tally(closed=True)
    # Two passes: the second one asks for the last ask alone, and ends as it answers nothing.
    assert (tally.sent, tally.answered, tally.retried, tally.failed, tally.lost) == (8, 2, 2, 2, 2)
    assert (tally.prompt_tokens, tally.cached_tokens, tally.completion_tokens) == (60, 8, 48)
    assert tally.lost_prompt_tokens == 2 * len(wanted[2].question.question)
    answer = read_answers(tmp_path, [read(tmp_path).answers[wanted[0].id]])[0]
    assert answer.usage == Usage(10, 4, 20, 15)


class KeepsTheLast(Scripted):
    """Every call is aborted; the last one's answer is kept, although it was told as failed."""

    def respond(self, asks: Sequence[Ask], calls: OnCall) -> Iterator[tuple[Ask, Response]]:
        for ask in asks:
            calls(Call(ask.id, 1, "sent"))
            calls(Call(ask.id, 1, "failed", Usage(10, 0, 3), "it ended with 'abort'"))
            yield ask, Response("t", "4", "abort", usage=Usage(10, 0, 3))


def test_an_answer_that_is_kept_although_its_call_failed_is_billed_once(tmp_path: Path) -> None:
    ask_all(KeepsTheLast(good), TEACHER, asks(2), tmp_path)
    tally = read(tmp_path).tally(closed=True)
    assert (tally.sent, tally.failed, tally.answered, tally.completion_tokens) == (2, 2, 0, 6)
    assert len(read(tmp_path).answers) == 2


class ToldLate(Scripted):
    """Tells of calls when they have ended, some of them in every start once more."""

    def respond(self, asks: Sequence[Ask], calls: OnCall) -> Iterator[tuple[Ask, Response]]:
        for ask in asks[1:]:
            yield ask, good(ask)
        calls(Call("q-other", 1, "failed", Usage(10, 0, 3), "no text", key="batch-7"))
        calls(Call(asks[0].id, 1, "lost", None, "damaged", key="batch-8"))
        yield asks[0], BUSY


def test_a_call_that_is_told_again_after_a_kill_counts_once(tmp_path: Path) -> None:
    for _ in range(2):
        ask_all(ToldLate(good), TEACHER, asks(3), tmp_path)
    tally = read(tmp_path).tally(closed=True)
    assert (tally.sent, tally.answered, tally.failed, tally.lost) == (4, 2, 1, 1)
    assert (tally.prompt_tokens, tally.completion_tokens) == (20, 17)
    assert tally.lost_prompt_tokens == len(asks(1)[0].question.question)


def test_nothing_is_written_to_a_file_that_is_closed(tmp_path: Path) -> None:
    writer = Writer(tmp_path)
    writer.close()
    with pytest.raises(RunError, match="is closed already"):
        writer.call(Call("q-0", 1, "lost"))


def test_answers_are_where_the_ledger_says(tmp_path: Path) -> None:
    ask_all(Scripted(good), TEACHER, asks(2), tmp_path)
    (file,) = tmp_path.glob("*.jsonl")
    first, second = read(tmp_path).answers.values()
    assert first == Place(file.name, 0, file.read_bytes().index(b"\n"))
    assert second.offset == first.length + 1


def test_an_actor_says_in_words_what_kept_it_from_asking(tmp_path: Path) -> None:
    table = to_table([ask.question for ask in asks(3)], Question)
    part = Asks(table, [(row, 0) for row in range(3)]).part([0, 2])

    def asked(teacher: Teacher, folder: Path) -> tuple[str | None, int]:
        actor = _Actor(teacher, 0, asks_of, folder, frozenset(), None)
        (row,) = actor(part).to_pylist()
        return row["error"], row["count"]

    (tmp_path / "a").mkdir()
    assert asked(Obliging(kind="obliging"), tmp_path / "a") == (None, 0)
    assert set(read(tmp_path / "a").answers) == {asks(3)[0].id, asks(3)[2].id}
    (tmp_path / "b").mkdir()
    problem, _ = asked(Teacher(kind="base"), tmp_path / "b")
    assert str(problem).startswith("NotImplementedError: Teacher does not implement start (details: ")
    problem, _ = asked(Stopping(kind="stopping"), tmp_path / "b")
    assert problem == "nothing more may be asked"


class Obliging(Teacher):
    def start(self, seed: int, folder: Location) -> Scripted:
        return Scripted(good)


class Stopping(Teacher):
    def start(self, seed: int, folder: Location) -> Scripted:
        return Scripted(raising(TeacherError("nothing more may be asked")))
