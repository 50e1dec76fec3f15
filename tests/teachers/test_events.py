"""Lines of a ledger that are none, and files that are none: put aside or refused, and never half counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s1ray.manifests import RunError
from s1ray.teachers.events import event_of
from s1ray.teachers.ledger import Ledger, read_answers
from s1ray.teachers.tally import Tally
from s1ray.traces.estimate import first_answers

USAGE = {
    "prompt_tokens": 1,
    "cached_tokens": 0,
    "completion_tokens": 2,
    "reasoning_tokens": None,
    "cache_write_tokens": 0,
}
ANSWERED: dict[str, Any] = {
    "event": "answered",
    "id": "a-0",
    "call": 1,
    "usage": USAGE,
    "seconds": 1.5,
    "thinking": "t",
    "attempt": "x",
    "finish_reason": "stop",
    "raw_finish_reason": None,
    "model_version": None,
}
SENT: dict[str, Any] = {"event": "sent", "id": "a-0", "call": 1, "prompt": 5}
FAILED: dict[str, Any] = {"event": "failed", "id": "a-0", "call": 1, "usage": USAGE, "reason": "r"}
LOST = FAILED | {"event": "lost", "call": None, "key": "k", "prompt": 5, "usage": None}
UNANSWERED = {"event": "unanswered", "id": "a-0", "reason": "r", "details": None}

BAD_PROMPTS: list[Any] = ["x", None, -1, True, float("inf"), float("nan")]
BAD_COUNTS: list[Any] = ["5", None, -5, 1.5, True, float("nan"), float("inf"), 2**63]
BAD_SECONDS: list[Any] = ["x", -1, float("nan"), float("inf"), []]
DAMAGED: dict[str, Any] = {
    "no JSON": b"hello",
    "NUL": b"\0" * 4096,
    "no UTF-8": b"\xff\xfe{}",
    "nested": b"[" * 200_000,
    "long number": b"1" * 6000,
    "list": [1],
    "another event": SENT | {"event": "zzz"},
    "event is a list": SENT | {"event": []},
    "id without a number": ANSWERED | {"id": "a-x"},
    "id of one word": UNANSWERED | {"id": "a"},
    "id with a huge number": ANSWERED | {"id": "a-" + "9" * 30},
    "id is a number": SENT | {"id": 5},
    "id is no text": SENT | {"id": "\ud800-0"},
    "call is a list": SENT | {"call": [1]},
    "key is a list": LOST | {"key": [1]},
    **{
        f"prompt {value!r:.10}": SENT | {"prompt": value} for value in ("x", None, -1, True, float("inf"), float("nan"))
    },
    "lost prompt": LOST | {"prompt": "x"},
    "usage is a list": ANSWERED | {"usage": [1]},
    "usage is text": FAILED | {"usage": "x"},
    "usage of more": ANSWERED | {"usage": USAGE | {"x": 1}},
    **{
        f"count {value!r:.10}": event | {"usage": USAGE | {"completion_tokens": value}}
        for value in BAD_COUNTS
        for event in (ANSWERED, FAILED)
    },
    **{f"seconds {value!r}": ANSWERED | {"seconds": value} for value in BAD_SECONDS},
    "thinking is no text": ANSWERED | {"thinking": "\ud800"},
    "attempt is null": ANSWERED | {"attempt": None},
    "version is a mapping": ANSWERED | {"model_version": {"a": 1}},
    "reason is a number": ANSWERED | {"raw_finish_reason": 5},
    "no reason": {"event": "unanswered", "id": "a-0"},
    "no usage": {key: value for key, value in ANSWERED.items() if key != "usage"},
}


def write(folder: Path, *lines: Any) -> None:
    content = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
    folder.mkdir(exist_ok=True)
    (folder / "1.jsonl").write_bytes(b"".join(line + b"\n" for line in content))


@pytest.mark.parametrize("line", DAMAGED.values(), ids=DAMAGED.keys())
def test_a_damaged_line_is_put_aside_and_nothing_of_it_is_counted(tmp_path: Path, line: Any) -> None:
    whole = (SENT | {"id": "b-0"}, ANSWERED | {"id": "b-0"})
    write(tmp_path, line, *whole)
    ledger = Ledger(tmp_path)
    ledger.read()
    assert (ledger.damaged, list(ledger.answers), ledger.failures) == (1, ["b-0"], {})
    assert ledger.tally(closed=True) == Tally(sent=1, answered=1, prompt_tokens=1, completion_tokens=2)
    assert [answer.attempt for answer in first_answers(tmp_path)] == ["x"]


@pytest.mark.parametrize("event", [SENT, ANSWERED, FAILED, LOST, UNANSWERED, FAILED | {"id": "q-other"}])
def test_what_is_an_event_stays_one(event: dict[str, Any]) -> None:
    assert event_of(json.dumps(event).encode()) == event


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(sorted(USAGE)), inner, max_size=3),
    max_leaves=5,
)


@given(event=st.sampled_from([SENT, ANSWERED, FAILED, LOST, UNANSWERED]), data=st.data())
def test_whatever_a_field_is_nothing_ends_the_reading(
    event: dict[str, Any], data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("responses")
    write(folder, event | {data.draw(st.sampled_from(sorted(event))): data.draw(json_values)})
    ledger = Ledger(folder)
    ledger.read()
    read_answers(folder, ledger.answers.values())
    assert all(value >= 0 for value in vars(ledger.tally(closed=True)).values())


@pytest.mark.parametrize("kind", ["folder", "dangling link"])
def test_a_file_that_is_none_is_named(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "1.jsonl"
    path.mkdir() if kind == "folder" else path.symlink_to("nowhere")
    ledger = Ledger(tmp_path)
    for reading in (ledger.read, ledger.wait_until_closed, lambda: first_answers(tmp_path)):
        with pytest.raises(RunError, match=r"1\.jsonl: is no file, or a link to none"):
            reading()


def test_a_ledger_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "responses").write_text("x")
    with pytest.raises(RunError, match="responses: must be a folder"):
        Ledger(tmp_path / "responses").read()


def test_a_file_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, SENT)

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    ledger = Ledger(tmp_path)
    for reading in (ledger.read, ledger.wait_until_closed, lambda: first_answers(tmp_path)):
        with pytest.raises(RunError, match=r"1\.jsonl: cannot be read: Permission denied"):
            reading()
