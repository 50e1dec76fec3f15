from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from benchmarks.grading import accuracy, arms, load, sets
from benchmarks.grading.accuracy import Score, markdown, measure, merged, wrong_rows
from benchmarks.grading.arms import ARMS, Arm, judge
from benchmarks.grading.plot import plot_extraction
from benchmarks.grading.sets import Case
from benchmarks.grading.speed import TEXTS, extraction_times, slope

CASES = [Case("1", text, correct) for text, correct in (("1", True), ("hang", False), ("die", True), ("2", True))]
GRADER = """
import os, time
from loop import run

def judge(gold, text):
    if text == "hang":
        time.sleep(60)
    if text == "die":
        os._exit(1)
    if text == "raise":
        raise ValueError("no")
    return ("correct" if text == gold else "incorrect"), text

run(judge)
"""


@pytest.fixture
def grader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Arm:
    """An arm whose grader hangs, dies and raises where the text says so."""
    shutil.copy(arms.SCRIPTS / "loop.py", tmp_path)
    (tmp_path / "odd.py").write_text(GRADER)
    monkeypatch.setattr(arms, "SCRIPTS", tmp_path)
    monkeypatch.setattr(arms, "PATIENCE", 0.5)
    return Arm("odd", "odd.py")


def test_a_grader_that_hangs_or_dies_loses_one_case_each(grader: Arm, tmp_path: Path) -> None:
    verdicts = judge(grader, [*CASES, Case("1", "raise", True)], tmp_path)
    assert verdicts is not None
    assert [v.verdict for v in verdicts] == ["correct", "undecided", "undecided", "incorrect", "undecided"]
    assert verdicts[-1].detail == "ValueError: no"


def test_rows_are_counted_against_their_labels(grader: Arm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cases = [*CASES, Case("3", "3", False, "a | b")]
    monkeypatch.setattr(accuracy, "load_set", lambda name: cases)
    score = measure("any", grader, tmp_path)
    assert (score.cases, score.right, score.false_positives, score.false_negatives) == (5, 1, 1, 1)
    assert (score.undecided, score.wrong) == (2, 2)
    assert "| any | odd | a \\| b | '3' | '3' | incorrect | correct | 3 |" in wrong_rows([score])
    assert "| any | 5 | 1 / 1 / 2 |" in markdown([score])
    assert json.loads(json.dumps(score.figures()))["right"] == 1


def test_figures_are_added_to_those_of_other_graders(tmp_path: Path) -> None:
    path = tmp_path / "accuracy.json"
    path.write_text(
        json.dumps([{"set": "a", "grader": "odd", "right": 7}, {"set": "a", "grader": "other", "right": 8}])
    )
    rows = merged(path, [Score("a", "odd", ())])
    assert [(row["grader"], row["right"]) for row in rows] == [("other", 8), ("odd", 0)]


def test_what_is_not_here_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sets, "DATA", tmp_path)
    assert "gsm8k.parquet" in str(measure("GSM8K generations", ARMS["ours"], tmp_path).missing)
    monkeypatch.setattr(accuracy, "load_set", lambda name: CASES)
    missing = measure("any", ARMS["trl"], tmp_path)
    assert missing.missing == f"no environment {tmp_path / 'trl'}"
    assert missing.figures() == {"set": "any", "grader": "trl", "missing": missing.missing}


def test_our_own_arm_grades(tmp_path: Path) -> None:
    for name in ("ours", "math_verify"):
        verdicts = judge(ARMS[name], [Case("1/2", "\\boxed{0.5}", True), Case("7", "\\boxed{8}", False)], tmp_path)
        assert verdicts is not None
        assert [verdict.verdict for verdict in verdicts] == ["correct", "incorrect"]


def test_growth_is_the_slope_of_the_logarithms() -> None:
    assert slope({1000: 0.01, 10_000: 1.0}) == 2.0
    assert slope({1000: 1e-6, 10_000: 0.1}) is None
    times = extraction_times((1024, 2048))
    assert times.keys() == TEXTS.keys()


def test_the_plot_of_extraction_is_a_picture(tmp_path: Path) -> None:
    seconds = {"1024": 0.001, "4096": 0.004}
    kinds = {f"kind {number}": {"seconds": seconds, "slope": 1.0} for number in range(8)}
    plot_extraction(kinds, tmp_path / "extraction.png")
    assert (tmp_path / "extraction.png").read_bytes().startswith(b"\x89PNG")


def test_verdicts_are_compared_under_load(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "HARD_ON_ALGEBRA", [("x+1", "1+x")])
    monkeypatch.setattr(load, "mixed_rows", lambda: CASES)
    monkeypatch.setattr(load, "RISING_S", 0.0)
    figures = load.compare_under_load(1, rows=3, workers=1)
    assert (figures["rows"], figures["verdicts"], figures["differing"]) == (3, {"correct": 2, "unparsable": 1}, [])
