from __future__ import annotations

import time
from pathlib import Path

import pytest

from s1ray.evaluation.journal import Journal
from s1ray.manifests import RunError
from s1ray.schemas import Evaluation
from s1ray.storage import Location, StorePath, remove
from tests.support.object_store import bucket, s3_environment, s3_server

__all__ = ["bucket", "s3_environment", "s3_server"]


def row(name: str, text: str = "", error: str | None = None) -> Evaluation:
    return Evaluation(
        id=name,
        question_id=name,
        sample=0,
        model="m",
        arm="a",
        max_thinking_tokens=None,
        waits_asked=0,
        gold="1",
        extracted=None,
        correct=False,
        verdict="unparsable" if error is None else "failed",
        graded_by="exact",
        thinking="",
        thinking_tokens=1,
        answer_tokens=1,
        waits=0,
        error=error,
        # Last in a line, but for three short fields.
        answer=text,
    )


NAMES = "abc"


def journal_at(path: Location) -> Journal:
    return Journal(path, len(NAMES), lambda row: NAMES.index(row.id))


def rows_of(path: Location) -> dict[str, Evaluation]:
    journal = journal_at(path)
    there = [place for place in range(len(NAMES)) if not journal.is_missing(place)]
    return {row.id: row for row in map(journal.row, there)}


def test_rows_survive_without_the_journal_being_closed(tmp_path: Path) -> None:
    journal = journal_at(tmp_path / "j" / "a.jsonl").__enter__()
    rows = [row("a", "line\nbreak \u2028 é"), row("b")]
    for each in rows:
        journal.add(each)
    # No __exit__: that is what a kill looks like.
    assert rows_of(tmp_path / "j" / "a.jsonl") == {"a": rows[0], "b": rows[1]}


@pytest.mark.parametrize("cut", [1, 2, 3, 9, 150, 157, 160, 300])
def test_a_line_cut_short_is_dropped_and_written_over(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "a.jsonl"
    with journal_at(path) as journal:
        journal.add(row("a"))
        journal.add(row("b", "é" * 20))
    path.write_bytes(path.read_bytes()[:-cut])
    with journal_at(path) as journal:
        assert journal.missing == 2
        assert journal.row(0) == row("a")
        journal.add(row("c"))
    assert list(rows_of(path)) == ["a", "c"]


def test_a_row_that_is_added_again_replaces_the_older_one(tmp_path: Path) -> None:
    with journal_at(tmp_path / "a.jsonl") as journal:
        journal.add(row("a", error="timeout"))
        assert (journal.failed, journal.missing) == ([0], 3)
        journal.add(row("a"))
        assert (journal.failed, journal.missing) == ([], 2)
    assert rows_of(tmp_path / "a.jsonl") == {"a": row("a")}


@pytest.mark.parametrize("damaged", [b'{"id": \n', b'{"id": "b"}\n', b"[1]\n"], ids=["cut", "fields missing", "no row"])
def test_damage_in_the_middle_is_refused_with_its_line(tmp_path: Path, damaged: bytes) -> None:
    path = tmp_path / "a.jsonl"
    with journal_at(path) as journal:
        journal.add(row("a"))
    whole = path.read_bytes()
    path.write_bytes(whole + damaged + whole)
    with pytest.raises(RunError, match=r"a\.jsonl: line 2 is damaged; pass --force"):
        journal_at(path)


def test_rows_come_in_the_order_of_their_places_with_their_seconds(tmp_path: Path) -> None:
    seen: list[str] = []
    with journal_at(tmp_path / "a.jsonl") as journal:
        for seconds, name in enumerate("cab"):
            journal.add(row(name), float(seconds))
        assert [(each.id, seconds) for each, seconds in journal.rows()] == [("a", 1.0), ("b", 2.0), ("c", 0.0)]
    Journal(tmp_path / "a.jsonl", 3, lambda row: NAMES.index(row.id), lambda row: seen.append(row.id))
    assert seen == ["c", "a", "b"]


def test_a_row_that_is_none_of_the_runs_is_damage(tmp_path: Path) -> None:
    with journal_at(tmp_path / "a.jsonl") as journal:
        journal.add(row("a"))
    with pytest.raises(RunError, match="line 1 is damaged"):
        Journal(tmp_path / "a.jsonl", 1, lambda row: {"b": 0}[row.id])


def test_in_a_store_rows_survive_several_starts_and_go_with_the_journal(
    bucket: StorePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("s1ray.storage.appending.FLUSH_S", 0.2)
    path = bucket / "journals" / "a=1 b.jsonl"
    with journal_at(path) as journal:
        journal.add(row("a", "line\nbreak \u2028 é"), seconds=1.5)
        journal.add(row("b", error="no luck"))
    killed = journal_at(path).__enter__()
    killed.add(row("b"))
    until = time.monotonic() + 20
    while len(list(path.glob("*"))) < 2 and time.monotonic() < until:
        time.sleep(0.1)
    # No __exit__: that is what a kill looks like.
    assert rows_of(path) == {"a": row("a", "line\nbreak \u2028 é"), "b": row("b")}
    remove(path.parent)
    assert rows_of(path) == {}
