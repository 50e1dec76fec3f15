from __future__ import annotations

from pathlib import Path

import pytest

from s1ray.evaluation.journal import Journal
from s1ray.runs import RunError
from s1ray.schemas import Evaluation


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


def test_rows_survive_without_the_journal_being_closed(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j" / "a.jsonl").__enter__()
    rows = [row("a", "line\nbreak \u2028 é"), row("b")]
    for each in rows:
        journal.add(each)
    # No __exit__: that is what a kill looks like.
    assert Journal(tmp_path / "j" / "a.jsonl").rows == {"a": rows[0], "b": rows[1]}


@pytest.mark.parametrize("cut", [1, 2, 3, 9, 150, 157, 160, 300])
def test_a_line_cut_short_is_dropped_and_written_over(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "a.jsonl"
    with Journal(path) as journal:
        journal.add(row("a"))
        journal.add(row("b", "é" * 20))
    path.write_bytes(path.read_bytes()[:-cut])
    with Journal(path) as journal:
        assert list(journal.rows) == ["a"]
        journal.add(row("c"))
    assert list(Journal(path).rows) == ["a", "c"]


def test_a_row_that_is_added_again_replaces_the_older_one(tmp_path: Path) -> None:
    with Journal(tmp_path / "a.jsonl") as journal:
        journal.add(row("a", error="timeout"))
        journal.add(row("a"))
    assert Journal(tmp_path / "a.jsonl").rows == {"a": row("a")}


@pytest.mark.parametrize("damaged", [b'{"id": \n', b'{"id": "b"}\n', b"[1]\n"], ids=["cut", "fields missing", "no row"])
def test_damage_in_the_middle_is_refused_with_its_line(tmp_path: Path, damaged: bytes) -> None:
    path = tmp_path / "a.jsonl"
    with Journal(path) as journal:
        journal.add(row("a"))
    whole = path.read_bytes()
    path.write_bytes(whole + damaged + whole)
    with pytest.raises(RunError, match=r"a\.jsonl: line 2 is damaged; pass --force"):
        Journal(path)
