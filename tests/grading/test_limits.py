"""Answers that were written to hang, to swell or to fool a grader."""

import json
import resource
import subprocess
import sys
import time

import pytest

from benchmarks.grading.hostile import CPU_SECONDS, HOSTILE, TOWER
from s1ray.grading import extract_answer, grade
from s1ray.grading.comparer import AlgebraProcess
from s1ray.grading.extraction import MAX_TEXT


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_answer_costs_less_than_two_seconds_of_processor_time(name: str) -> None:
    # A warm child: its start is paid once.
    assert grade("x+1", "\\boxed{1+x}").correct
    before = _processor_seconds()
    for gold in ("42", "\\frac{\\sqrt{2}}{x}", "C"):
        assert grade(gold, HOSTILE[name]).correct is not True
    spent = _processor_seconds() - before
    assert spent < 3 * CPU_SECONDS, spent


@pytest.mark.parametrize("unit", ["\\boxed{", "\n", ",", "<|im_end|>", "answer is ", "$", "\\(", "{", "a "])
def test_extraction_is_linear(unit: str) -> None:
    times = []
    for size in (250_000, 2_000_000):
        text, spent = unit * (size // len(unit)), list[float]()
        # The quickest of three: a collection of garbage in a large process can take a second.
        for _ in range(3):
            before = time.process_time()
            for kind in ("number", "choice", None):
                extract_answer(text, kind)
            spent.append(time.process_time() - before)
        times.append(min(spent))
    assert times[1] < 24 * max(times[0], 0.02), times


def test_a_text_beyond_the_limit_has_no_answer_and_the_grade_says_so() -> None:
    verdict = grade("5", "5 " * MAX_TEXT + "\\boxed{5}")
    assert (verdict.verdict, verdict.graded_by) == ("unparsable", "longer than 8,000,000 characters")
    verdict = grade("5", "\\boxed{" + "5+" * 2_000 + "5}")
    assert (verdict.verdict, verdict.graded_by) == ("unparsable", "longer than 2,000 characters")


def test_a_limit_makes_an_answer_undecided_never_wrong_and_the_next_is_graded() -> None:
    assert grade("2", f"\\boxed{{{TOWER}+x}}").verdict in ("undecided", "incorrect")
    assert grade("x", f"\\boxed{{{TOWER}\\cdot x}}").verdict == "undecided"
    assert grade("x+1", "\\boxed{1+x}").correct


def test_the_child_is_replaced_after_its_death() -> None:
    process = AlgebraProcess()
    try:
        assert process.equal("x+1", "1+x") is True
        assert process.equal("x", f"{TOWER}\\cdot x") is None
        assert process.equal("x+1", "x+2") is False
        child = process._child
        assert child is not None
        child.kill()
        child.wait()
        assert process.equal("x+1", "1+x") is True
    finally:
        process.close()


def test_memory_is_bounded() -> None:
    process = AlgebraProcess()
    try:
        assert process.equal("x", "\\binom{10^{9}}{10^{8}}\\cdot x") in (None, False)
        assert process.equal("x+1", "1+x") is True
    finally:
        process.close()


def test_the_child_ends_with_its_parent() -> None:
    code = (
        "from s1ray.grading.comparer import AlgebraProcess; import os\n"
        "p = AlgebraProcess(); p.equal('x', 'y'); print(p._child.pid, flush=True); os._exit(0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    pid = int(json.loads(done.stdout))
    for _ in range(100):
        if not _runs(pid):
            return
        time.sleep(0.1)
    raise AssertionError(f"the child {pid} outlived its parent")


def _runs(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _processor_seconds() -> float:
    """Of this process and of the child's dead workers and living ones."""
    import psutil

    own = resource.getrusage(resource.RUSAGE_SELF)
    total = own.ru_utime + own.ru_stime
    for child in psutil.Process().children(recursive=True):
        times = child.cpu_times()
        total += times.user + times.system + times.children_user + times.children_system
    return total
