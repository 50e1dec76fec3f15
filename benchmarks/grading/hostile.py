"""Answers written to hang, to swell or to fool a grader: 1,000 of them, each within a limit of processor time."""

from __future__ import annotations

import os
import random
import resource
import tempfile
from pathlib import Path
from typing import Any

import psutil

from s1ray.grading import grade

CPU_SECONDS = 2.0
GOLDS = ("42", "\\frac{\\sqrt{2}}{x}", "C")
TOWER = "9^{9^{9^{9}}}"
HOSTILE = {
    "nested boxes": "\\boxed{" * 20_000,
    "nested boxes, closed": "\\boxed{" * 5_000 + "1" + "}" * 5_000,
    "line breaks": "\n" * 200_000,
    "commas": "\\boxed{" + "1," * 20_000 + "}",
    "commas in prose": "1," * 200_000,
    "control tokens": "5 <|im_end|>" * 50_000,
    "labels": "answer is " * 50_000,
    "labels without a value": "Answer:\n" * 50_000,
    "dollars": "$" * 200_000,
    "odd dollars": "$1" * 100_001,
    "open displays": "\\(" * 100_000,
    "open brackets": "\\[ x" * 100_000,
    "spaces": "answer" + " " * 500_000,
    "braces": "\\boxed{" + "{" * 50_000 + "}" * 50_000 + "}",
    "fractions": "\\boxed{" + "\\frac{1}{" * 80 + "2" + "}" * 80 + "}",
    "fractions without arguments": "\\boxed{" + "\\frac" * 300 + "}",
    "roots": "\\boxed{" + "\\sqrt" * 300 + "}",
    "tower": f"\\boxed{{{TOWER}}}",
    "factorials": "\\boxed{9!!!!!!!!!!}",
    "powers of ten": "\\boxed{10^{10^{10^{10}}}}",
    "sum": "\\boxed{\\sum_{k=1}^{10^{12}} \\frac{1}{k^k}}",
    "integral": "\\boxed{\\int_0^{10^9} \\sin(x^{x}) dx}",
    "product": "\\boxed{" + "(x+1)" * 200 + "}",
    "plus or minus": "\\boxed{" + "\\pm 1 " * 60 + "}",
    "letters": "\\boxed{" + "x" * 1_900 + "}",
    "primes": "\\boxed{f" + "'" * 1_000 + "}",
    "digits": "\\boxed{" + "9" * 1_900 + "}",
    "sines": "\\boxed{" + "\\sin" * 200 + " x}",
    "equals": "\\boxed{" + "1=" * 500 + "1}",
    "nested lists": "\\boxed{" + "(1," * 300 + "2" + ")" * 300 + "}",
    "several boxes": "\\boxed{1} and " * 20_000,
    "boxes apart": "\\boxed{1} x " * 20_000,
    "transposed": "\\boxed{" + "(" * 200 + "1,2" + ")^T" * 200 + "}",
    "systems": "\\boxed{" + "\\begin{cases}" * 60 + "\\end{cases}" * 60 + "}",
    "residues": "\\boxed{2^{999999999999} \\equiv 3 \\pmod{999999999989}}",
    "open ends": "\\boxed{" + "]1,2[" * 250 + "}",
    "double factorials": "\\boxed{999!!+n!!!!}",
    "progression": "\\boxed{1,2,\\ldots,999999999999}",
    "unit vectors": "\\boxed{" + "i+j+k" * 300 + "}",
    "points in points": "\\boxed{" + "A(" * 300 + "1,2" + ")" * 300 + "}",
    "huge and nearly": "\\boxed{\\pi^{1000}+10^{-300}}",
    "points in a number": "\\boxed{" + "0.12" * 400 + "}",
    "NUL and surrogate": "\\boxed{\x00\ud800}",
    "code": "\\boxed{__import__('os').system('touch /tmp/pwned')}",
    "json": '{"answer": ' * 20_000,
    "tags": "<answer>" * 50_000,
}


def hostile_answers(number: int, seed: int) -> list[tuple[str, str]]:
    """That many answers: every kind as it is, then cut, rotated, boxed, repeated and joined with another."""
    rng = random.Random(seed)
    kinds = list(HOSTILE)
    answers = [(kind, HOSTILE[kind]) for kind in kinds]
    while len(answers) < number:
        kind, other = rng.sample(kinds, 2)
        text = HOSTILE[kind]
        place = rng.randrange(len(text))
        match rng.randrange(5):
            case 0:
                answers.append((f"{kind}, cut", text[:place]))
            case 1:
                answers.append((f"{kind}, rotated", text[place:] + text[:place]))
            case 2:
                answers.append((f"{kind}, boxed", "\\boxed{" + text[:1_900] + "}"))
            case 3:
                answers.append((f"{kind}, twice", text + " The answer is " + text))
            case _:
                answers.append((f"{kind} and {other}", text[:place] + HOSTILE[other]))
    return answers[:number]


def grade_hostile(number: int, seed: int) -> dict[str, Any]:
    """Grade that many hostile answers against three references each.

    Returns:
        The dearest answers (processor seconds of this process and its child, for the three references together),
        verdicts by name, the growth of memory (bytes, after the first tenth) and the files that appeared in an empty
        working folder.
    """
    seconds: list[tuple[float, str]] = []
    verdicts: dict[str, int] = {}
    start = 0
    home = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            grade("x+1", "\\boxed{1+x}")  # a warm child: its start is paid once
            for index, (kind, text) in enumerate(hostile_answers(number, seed)):
                before = _processor_seconds()
                for gold in GOLDS:
                    verdict = grade(gold, text)
                    verdicts[verdict.verdict] = verdicts.get(verdict.verdict, 0) + 1
                seconds.append((round(_processor_seconds() - before, 2), kind))
                if index == number // 10:
                    start = _resident_bytes()
            files = sorted(path.name for path in Path(folder).iterdir())
        finally:
            os.chdir(home)
    seconds.sort(reverse=True)
    return {
        "answers": number,
        "references": len(GOLDS),
        "over_limit": sum(spent > CPU_SECONDS for spent, _ in seconds),
        "dearest": [{"kind": kind, "processor_seconds": spent} for spent, kind in seconds[:5]],
        "verdicts": dict(sorted(verdicts.items())),
        "growth_bytes": _resident_bytes() - start,
        "files_written": files,
    }


def _processor_seconds() -> float:
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    own = psutil.Process()
    spent = ended.ru_utime + ended.ru_stime
    for process in (own, *own.children(recursive=True)):
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        spent += times.user + times.system
    return spent


def _resident_bytes() -> int:
    own = psutil.Process()
    return int(sum(process.memory_info().rss for process in (own, *own.children(recursive=True))))
