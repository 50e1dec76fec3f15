"""How long grading takes: on two cores against math-verify one by one, and reading answers off texts of any length."""

from __future__ import annotations

import math
import random
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.grading.arms import ARMS, Verdict, judge
from benchmarks.grading.sets import SETS, Case, load_set
from s1ray.grading import Grade, extract_answer
from s1ray.grading.many import CHUNK, Pool

WORKERS = 2
ROWS_OF_A_SET = 800
KIB = 1024
LENGTHS = (*(KIB * 4**power for power in range(7)), 5 * KIB**2)
"""Characters: 1 KiB to 4 MiB, and 5 MiB."""
ENOUGH = 5.0
"""Seconds of one reading after which longer texts of the kind are not tried."""
REPEATS = 3
"""Readings of one text; the shortest counts."""
NOTICEABLE = 1e-3
"""Seconds below which a time says nothing about its growth."""


def mixed_rows(seed: int = 0) -> list[Case]:
    """Up to 800 rows of each set that is there, shuffled."""
    draw = random.Random(seed)
    rows: list[Case] = []
    for name in SETS:
        try:
            cases = load_set(name)
        except FileNotFoundError:
            continue
        rows += draw.sample(cases, min(ROWS_OF_A_SET, len(cases)))
    draw.shuffle(rows)
    return rows


def compare_speed(rounds: int) -> dict[str, object]:
    """s1ray on two cores and math-verify one by one, in turns on the same rows; both are warm when the clock starts."""
    cases = mixed_rows()
    pairs = [(case.gold, case.text) for case in cases]
    ours: list[float] = []
    theirs: list[float] = []
    verdicts: Sequence[Verdict] = ()
    for _ in range(rounds):
        with Pool(WORKERS) as pool:
            list(pool.map([("x+1", "\\boxed{1+x}")] * (8 * WORKERS * CHUNK)))
            began = time.perf_counter()
            grades = list(pool.map(pairs))
            ours.append(time.perf_counter() - began)
        verdicts = judge(ARMS["math_verify"], cases, Path()) or ()
        theirs.append(sum(verdict.seconds for verdict in verdicts))
    said = [grade.correct if isinstance(grade, Grade) else None for grade in grades]
    other = [{"correct": True, "incorrect": False}.get(verdict.verdict) for verdict in verdicts]
    labels = [case.correct for case in cases]
    return {
        "rows": len(cases),
        "workers": WORKERS,
        "seconds": [round(seconds, 2) for seconds in ours],
        "math_verify_seconds": [round(seconds, 2) for seconds in theirs],
        "times_as_fast": round(statistics.median(b / a for a, b in zip(ours, theirs, strict=True)), 2),
        "rows_per_second": round(len(cases) / statistics.median(ours)),
        "same_verdict": sum(a == b for a, b in zip(said, other, strict=True)),
        "right": sum(a is b for a, b in zip(said, labels, strict=True)),
        "math_verify_right": sum(a is b for a, b in zip(other, labels, strict=True)),
        "undecided": said.count(None),
    }


TEXTS: dict[str, Callable[[int], str]] = {
    "nested boxes": lambda n: "\\boxed{" * (n // 8) + "7" + "}" * (n // 8),
    "boxes that never close": lambda n: "\\boxed{" * (n // 7),
    "boxes one after another": lambda n: "\\boxed{7}" * (n // 9),
    "line breaks": lambda n: "\n" * n + "7",
    "spaces": lambda n: " " * n + "7",
    "commas": lambda n: "1," * (n // 2),
    "<|im_end|> repeated": lambda n: "7" + "<|im_end|>" * (n // 10),
    '"answer is" repeated': lambda n: "the answer is " * (n // 14),
    '"answer:" repeated': lambda n: "answer:\n" * (n // 8),
    "dollars": lambda n: "$" * n,
    "\\( repeated": lambda n: "\\(" * (n // 2),
    "\\[ repeated, on lines": lambda n: "\\[\n" * (n // 3),
    "open braces": lambda n: "\\boxed{" + "{" * n,
    '"is" repeated': lambda n: "it is " * (n // 6),
    "one long word": lambda n: "a" * n,
    "ordinary prose": lambda n: "We add 3 and 4, so $x = 7$.\n" * (n // 28) + "\\boxed{7}",
}
"""Kind -> a text of about n characters."""


def extraction_times(lengths: Sequence[int] = LENGTHS) -> dict[str, dict[str, object]]:
    """Kind -> seconds of processor time by length, and the slope of their logarithms (1: linear, 2: quadratic)."""
    found: dict[str, dict[str, object]] = {}
    for kind, make in TEXTS.items():
        seconds: dict[int, float] = {}
        for length in lengths:
            seconds[length] = min(_extraction_time(make(length)) for _ in range(REPEATS))
            if seconds[length] > ENOUGH:
                break
        found[kind] = {
            "seconds": {str(length): round(value, 6) for length, value in seconds.items()},
            "slope": slope(seconds),
        }
    return found


def _extraction_time(text: str) -> float:
    began = time.process_time()
    extract_answer(text)
    return time.process_time() - began


def slope(seconds: dict[int, float]) -> float | None:
    """Growth between the first noticeable time and the last; None if there are not two of them."""
    points = [(length, value) for length, value in seconds.items() if value >= NOTICEABLE]
    if len(points) < 2:
        return None
    (a, first), (b, last) = points[0], points[-1]
    return round(math.log(last / first) / math.log(b / a), 2)
