"""Answers with a gold and a label that says whether a mathematician would call them right, from public sources.

The files are read from a folder that is given (`S1RAY_SHARED_DATA`, or ../shared/data); nothing of them is part of the
project. A set whose file is not there is left out, in words.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

DATA = Path(os.environ.get("S1RAY_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data"))
GSM8K_MODELS = ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification")


@dataclass(frozen=True)
class Case:
    """One text to grade, and what should come of it."""

    gold: str
    text: str
    correct: bool
    note: str = ""
    """What the source says of it: a kind of case, a row."""


def load_set(name: str) -> list[Case]:
    """The cases of a set.

    Raises:
        FileNotFoundError: its file is not here.
    """
    return list(SETS[name]())


def _parquet(name: str) -> list[dict[str, object]]:
    import pyarrow.parquet as pq

    if not (DATA / name).exists():
        raise FileNotFoundError(f"{DATA / name}: no such file")
    rows: list[dict[str, object]] = pq.read_table(DATA / name).to_pylist()
    return rows


def _lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _grader_cases(source: str) -> Iterator[Case]:
    for row in _parquet("grader_cases.parquet"):
        if row["source"] == source and row["equal"] is not None:
            yield Case(str(row["gold"]), str(row["pred"]), bool(row["equal"]), str(row["note"]))


def _hard() -> Iterator[Case]:
    for row in _lines(DATA.parent / "cases" / "grading_hard.jsonl"):
        yield Case(str(row["gold"]), str(row["text"]), bool(row["equal"]), f"{row['id']} {row['kind']}")


def _gsm8k() -> Iterator[Case]:
    for number, row in enumerate(_parquet("gsm8k.parquet")):
        for model in GSM8K_MODELS:
            if row["split"] == "test":
                label = row[f"{model}_correct"]
                yield Case(
                    str(row["final_answer"]), str(row[f"{model}_solution"]), bool(label), f"row {number} {model}"
                )


def _math_chains() -> Iterator[Case]:
    for number, row in enumerate(_parquet("math_cot_100x8.parquet")):
        responses, scores = row["responses"], row["score"]
        assert isinstance(responses, list)
        assert isinstance(scores, list)
        for sample, (text, score) in enumerate(zip(responses, scores, strict=True)):
            yield Case(str(row["gt"]), text, score, f"row {number} sample {sample}")


def _r1_distill() -> Iterator[Case]:
    for row in _lines(DATA / "thought_anchors_r1_distill_40.jsonl"):
        solution = str(row["solution"])
        # The grader's text is what follows the thinking, as everywhere.
        answer = solution.rpartition("</think>")[2]
        yield Case(str(row["gt_answer"]), answer, row["is_correct"] in (True, "True"), str(row["problem_id"]))


def _math_solutions() -> Iterator[Case]:
    for row in _parquet("math_12500.parquet"):
        if not str(row["answer"]).strip():
            continue
        yield Case(str(row["answer"]), str(row["solution"]), True, f"{row['subject']} level {row['level']}")


SETS: dict[str, Callable[[], Iterator[Case]]] = {
    "hard cases": _hard,
    "math-verify's tests": lambda: _grader_cases("math-verify tests"),
    "MATH500 variants": lambda: _grader_cases("math500 mechanical variants"),
    "GSM8K generations": _gsm8k,
    "MATH generations": _math_chains,
    "R1-distill traces": _r1_distill,
    "MATH solutions": _math_solutions,
}
"""Name -> its cases. "MATH solutions": the reference solutions against their own answers, all of which are right."""
