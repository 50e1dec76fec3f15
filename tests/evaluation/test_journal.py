import pytest

from s1ray.evaluation.journal import Journal
from s1ray.runs import RunError


def test_rows_survive_without_the_journal_being_closed(tmp_path):
    journal = Journal(tmp_path / "j" / "a.jsonl").__enter__()
    journal.add({"id": "a", "text": "line\nbreak \u2028 é"})
    journal.add({"id": "b", "text": ""})
    # No __exit__: that is what a kill looks like.
    assert Journal(tmp_path / "j" / "a.jsonl").rows == {
        "a": {"id": "a", "text": "line\nbreak \u2028 é"},
        "b": {"id": "b", "text": ""},
    }


@pytest.mark.parametrize("cut", range(1, 24))
def test_a_line_cut_short_is_dropped_and_written_over(tmp_path, cut):
    path = tmp_path / "a.jsonl"
    with Journal(path) as journal:
        journal.add({"id": "a"})
        journal.add({"id": "b", "x": "ééé"})
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    with Journal(path) as journal:
        assert list(journal.rows) == ["a"]
        journal.add({"id": "c"})
    assert list(Journal(path).rows) == ["a", "c"]


def test_a_row_that_is_added_again_replaces_the_older_one(tmp_path):
    with Journal(tmp_path / "a.jsonl") as journal:
        journal.add({"id": "a", "error": "timeout"})
        journal.add({"id": "a", "error": None})
    assert Journal(tmp_path / "a.jsonl").rows == {"a": {"id": "a", "error": None}}


def test_damage_in_the_middle_is_refused_with_its_line(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"id": "a"}\n{"id": \n{"id": "c"}\n')
    with pytest.raises(RunError, match=r"a\.jsonl: line 2 is damaged; pass --force"):
        Journal(path)
