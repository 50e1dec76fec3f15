from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from s1ray.cli import app
from s1ray.evaluation.report.compare import write_comparison
from s1ray.manifests import RunError
from s1ray.schemas import Evaluation
from tests.evaluation.conftest import MakeRun


def better(row: Evaluation) -> dict[str, object]:
    """The first of two runs, with four questions more that are right."""
    return {"correct": True, "verdict": "correct"} if row.gold in ("1", "2", "3", "4") else {}


def worse(row: Evaluation) -> dict[str, object]:
    return {"correct": False, "verdict": "incorrect"} if row.gold in ("1", "2", "3", "4", "5") else {}


def test_gained_and_lost_questions_are_listed_with_links_to_both_responses(make_run: MakeRun, tmp_path: Path) -> None:
    first, second = make_run(name="a", change=worse), make_run(name="b", change=better, seed=7)
    found = write_comparison(first, second, tmp_path / "c.html")
    assert [(each.before.model, each.after.model) for each in found] == [("A: base", "B: base")] * 5 + [
        ("A: sft", "B: sft")
    ] * 5
    assert all(each.test is not None and each.test.gained >= 4 and each.test.lost == 0 for each in found)
    html = (tmp_path / "c.html").read_text()
    links = re.findall(r'href="#trace=([^"]+?)&amp;with=([^"]+)"', html)
    assert len(links) == sum(each.test.gained for each in found if each.test)
    assert all("A%3A%20" in a and "B%3A%20" in b and a.rpartition("/")[2] == b.rpartition("/")[2] for a, b in links)
    assert re.search(r"<td>config\.seed</td><td[^>]*>0</td><td[^>]*>7</td>", html)
    assert "config.output" not in html


def test_two_arms_of_one_run_are_compared_by_name(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(share=lambda model, arm: 0.2 if arm == "max=0" else 0.8)
    done = CliRunner().invoke(
        app,
        [
            *("report", "compare", str(run), str(run), "-o", str(tmp_path / "c.html")),
            *("--models", "sft", "sft", "--arms", "max=0", "max=64"),
        ],
    )
    assert done.exit_code == 0, done.output
    assert "A: sft max=0 → B: sft max=64: +60.0 points" in done.output
    assert "Nothing: settings, versions, inputs and seeds are the same." in (tmp_path / "c.html").read_text()


def test_what_cannot_be_compared_is_refused_in_words(make_run: MakeRun, tmp_path: Path) -> None:
    first, out = make_run(name="a"), tmp_path / "c.html"
    others = {
        r"asked other questions \(40 and 30, 30 of them shared\)": make_run(name="b", questions=30),
        "40 question.s. have another reference answer": make_run(name="c", change=lambda row: {"gold": row.gold + "0"}),
        "have no model in common": make_run(name="d", models=[{"label": "x", "name": "x"}]),
        "the first was graded by rules, the second by s1ray.grading": make_run(
            name="e", grader="s1ray.grading.grade:grade"
        ),
    }
    for message, second in others.items():
        with pytest.raises(RunError, match=message):
            write_comparison(first, second, out)
    with pytest.raises(RunError, match="the two runs are the same; name two models"):
        write_comparison(first, first, out)
    with pytest.raises(RunError, match="the two runs are the same; name two models"):
        write_comparison(first, first, out, models=("base", "base"))
    with pytest.raises(RunError, match="there is no arm 'max=1'"):
        write_comparison(first, first, out, arms=("max=1", "max=0"))
    assert not out.exists()


def test_arms_that_share_no_decided_question_are_refused_in_words(make_run: MakeRun, tmp_path: Path) -> None:
    def undecided(odd: bool) -> Callable[[Evaluation], dict[str, object]]:
        return lambda row: {"correct": None, "verdict": "undecided"} if int(row.gold) % 2 == odd else {}

    first, second = make_run(name="a", change=undecided(True)), make_run(name="b", change=undecided(False))
    with pytest.raises(RunError, match="no question was decided by both 'base' with 'max=0' and 'base' with 'max=0'"):
        write_comparison(first, second, tmp_path / "c.html")


def test_a_report_of_runs_is_still_written_without_a_subcommand(plain_run: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["report", str(plain_run), "-o", str(tmp_path / "r.html"), "--markdown"])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "r.html").exists()
    assert "| sft | max=64 |" in done.output
