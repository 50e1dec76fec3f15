"""The difficulty stage with a real small model on real questions, against labels that others have measured.

The labels say whether larger models ever solve a question (MATH: Qwen2.5-7B in any of its samples, Tulu-8B in any of
70; GSM8K: models of 6B and 175B parameters, of which each verdict is of one answer) and which level people gave it. A
pass rate that says something about difficulty ranks the questions that are easy by a label above the others. Beside it
stand the more frequent answer ("all are easy") and the length of the reference working, which costs nothing.
"""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import comb
from pathlib import Path
from typing import Any

import numpy as np

from s1ray.config import validate_config
from s1ray.curation.config import CurationConfig
from s1ray.curation.pipeline import curate
from s1ray.grading.interval import wilson_interval
from s1ray.manifests import read_complete
from s1ray.schemas import Question, question_id, read_table, to_table, write_table

MODEL = "model"
"""Its label in the config."""
DRAWS = 2000
"""Resampled sets of questions from which an interval is read."""
PROMPT = "{question}\n\nGive only the final answer, without any explanation."
"""A model of 135 million parameters seldom ends its working within a hundred tokens or two, and what is cut is wrong
whatever the question."""
MAX_TOKENS = 48
Record = Mapping[str, Any]

LABELS: dict[str, dict[str, Callable[[Record], bool]]] = {
    "MATH": {
        "level 1 or 2": lambda row: row["level"] <= 2,
        "level 1 to 4": lambda row: row["level"] <= 4,
        "Qwen2.5-7B was right once": lambda row: not row["qwen7b_zero_correct"],
        "Tulu-8B was right once in 70": lambda row: not row["tulu8b_zero_of_70"],
    },
    "GSM8K": {
        "6B fine-tuned is right": lambda row: bool(row["6b_finetuning_correct"]),
        "175B with a verifier is right": lambda row: bool(row["175b_verification_correct"]),
        "half of four models are right": lambda row: _rate_of_four(row) >= 0.5,
    },
}
"""Set -> label -> whether it calls a row easy."""
FOUR = ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification")


def _rate_of_four(row: Record) -> float:
    return sum(bool(row[f"{name}_correct"]) for name in FOUR) / len(FOUR)


@dataclass(frozen=True)
class Labelled:
    """A question, and what is known of its difficulty."""

    set: str
    question: str
    answer: str
    words: int
    """Of the reference working."""
    easy: Mapping[str, bool]


def draw(folder: Path, count: int, seed: int = 0) -> list[Labelled]:
    """Questions of both sets: of MATH's training rows as many of each level, of GSM8K's test rows any.

    Args:
        folder: with `math_12500.parquet` and `gsm8k.parquet`.
        count: of questions; three of five are of MATH.
        seed: of the draw.
    """
    import pyarrow.parquet as pq

    rng = random.Random(seed)
    rows = pq.read_table(folder / "math_12500.parquet").to_pylist()
    levels: dict[int, list[Record]] = {}
    for row in rows:
        if row["split"] == "train" and row["level"] and "[asy]" not in row["problem"]:
            levels.setdefault(row["level"], []).append(row)
    math = [row for level in sorted(levels) for row in rng.sample(levels[level], 3 * count // 25)]
    graded = [row for row in pq.read_table(folder / "gsm8k.parquet").to_pylist() if row["split"] == "test"]
    gsm8k = rng.sample(graded, count - len(math))
    found = [_labelled("MATH", row, row["problem"], row["answer"], row["solution"]) for row in math]
    return found + [_labelled("GSM8K", row, row["question"], row["final_answer"], row["answer"]) for row in gsm8k]


def _labelled(name: str, row: Record, question: str, answer: str, working: str) -> Labelled:
    easy = {label: is_easy(row) for label, is_easy in LABELS[name].items()}
    return Labelled(name, question, answer, len(working.split()), easy)


def pass_rates(questions: Sequence[Labelled], model: str, samples: int, folder: Path) -> tuple[list[float], Record]:
    """The model's pass rate at each question, by the stage on Ray Data; and what the run says of its attempts.

    Args:
        questions: all different.
        model: folder or id.
        samples: attempts at each.
        folder: of the run; one that was killed goes on there.
    """
    rows = [
        Question(id=question_id(each.question), question=each.question, answer=each.answer, domain=each.set)
        for each in questions
    ]
    write_table(to_table(rows, Question), folder / "pool.parquet")
    run = curate(validate_config(CurationConfig, _config(model, samples, folder), "the benchmark's config"))
    found = read_table(run.path / "questions.parquet", Question)
    texts = dict(zip(found.column("question").to_pylist(), found.column("pass_rates").to_pylist(), strict=True))
    rates = [json.loads(texts[each.question])[MODEL] for each in questions]
    return rates, read_complete(run.path, "curate")["figures"]["difficulty"][MODEL]


def _config(model: str, samples: int, folder: Path) -> dict[str, Any]:
    columns = {"question": "question", "answer": "answer", "domain": "domain"}
    teacher = {
        "kind": "vllm",
        "engine": {"model": model, "device": "cpu", "max_model_len": 1024, "max_num_seqs": 32, "kv_cache_gib": 1.5},
        "prompt": PROMPT,
        "temperature": 0.6,
        "max_tokens": MAX_TOKENS,
    }
    return {
        "output": str(folder / "run"),
        "sources": [{"kind": "files", "path": str(folder / "pool.parquet"), "columns": columns}],
        "quality": {"missing_solution": False, "inconsistent_numbering": False, "bold_number": False},
        "deduplication": {"jaccard": None, "normalised": False},
        # Nothing is dropped: the rates of all questions are wanted.
        "difficulty": {"kind": "model", "models": {MODEL: teacher}, "samples": samples, "max_pass_rate": 1.0},
        "selection": {"method": "all"},
    }


@dataclass(frozen=True)
class Agreement:
    """How a model's pass rates fit a label; ranges hold in 95 of 100 cases."""

    set: str
    label: str
    questions: int
    easy: int
    """By the label."""
    majority: float
    """Share of the questions that the more frequent side of the label has."""
    agrees: float
    """Share where s1's rule (solved once: too easy) says the same as the label."""
    agrees_range: tuple[float, float]
    solved_are_easy: float | None
    """Share of easy ones among the questions that the model solved."""
    others_are_easy: float | None
    by_chance: float
    """How often as many of the solved questions would be easy, were the solved ones drawn by lot. Where a model solves
    few, the range of the area is too narrow, and this says more."""
    auc: float
    """Chance that an easy question has a higher pass rate than a hard one; equal ones count half."""
    auc_range: tuple[float, float]
    words_auc: float
    """The same of short reference workings."""


def agreements(questions: Sequence[Labelled], rates: Sequence[float]) -> list[Agreement]:
    """Every label beside the rates."""
    found = []
    for name, labels in LABELS.items():
        chosen = [(each, rate) for each, rate in zip(questions, rates, strict=True) if each.set == name]
        found += [_agreement(name, label, chosen) for label in labels if chosen]
    return found


def _agreement(name: str, label: str, chosen: Sequence[tuple[Labelled, float]]) -> Agreement:
    easy = np.array([each.easy[label] for each, _ in chosen])
    rates, words = np.array([rate for _, rate in chosen]), np.array([-each.words for each, _ in chosen])
    same = int((easy == (rates > 0)).sum())
    return Agreement(
        set=name,
        label=label,
        questions=len(easy),
        easy=int(easy.sum()),
        majority=round(max(easy.mean(), 1 - easy.mean()), 3),
        agrees=round(same / len(easy), 3),
        agrees_range=_rounded(wilson_interval(same, len(easy))),
        solved_are_easy=_share(easy[rates > 0]),
        others_are_easy=_share(easy[rates == 0]),
        by_chance=round(by_chance(len(easy), int(easy.sum()), int((rates > 0).sum()), int(easy[rates > 0].sum())), 3),
        auc=round(auc(rates, easy), 3),
        auc_range=_rounded(auc_range(rates, easy)),
        words_auc=round(auc(words, easy), 3),
    )


def by_chance(questions: int, easy: int, solved: int, easy_solved: int) -> float:
    """Chance that so many of the solved questions or more are easy, if they are drawn by lot (Fisher's exact test)."""
    ways = (comb(easy, k) * comb(questions - easy, solved - k) for k in range(easy_solved, min(easy, solved) + 1))
    return sum(ways) / comb(questions, solved)


def auc(scores: np.ndarray[Any, Any], positive: np.ndarray[Any, Any]) -> float:
    """Area under the ROC curve; NaN where all questions are of one side.

    Args:
        scores: shape (N,).
        positive: truth values; shape (N,).
    """
    high, low = scores[positive], scores[~positive]
    if not len(high) or not len(low):
        return float("nan")
    above = (high[:, None] > low[None, :]).mean()
    return float(above + (high[:, None] == low[None, :]).mean() / 2)


def auc_range(scores: np.ndarray[Any, Any], positive: np.ndarray[Any, Any]) -> tuple[float, float]:
    """Where the area lies in 95 of 100 resampled sets of questions."""
    rng = np.random.default_rng(0)
    draws = (rng.integers(len(scores), size=len(scores)) for _ in range(DRAWS))
    low, high = np.nanpercentile([auc(scores[draw], positive[draw]) for draw in draws], [2.5, 97.5])
    return float(low), float(high)


def _share(values: np.ndarray[Any, Any]) -> float | None:
    return round(float(values.mean()), 3) if len(values) else None


def _rounded(ends: tuple[float, float]) -> tuple[float, float]:
    return round(ends[0], 3), round(ends[1], 3)


def summary(
    model: str, found: Sequence[Agreement], rates: Sequence[float], samples: int, run: Record
) -> dict[str, Any]:
    """What is written."""
    solved = sum(rate > 0 for rate in rates)
    return {
        "model": Path(model).name,
        "questions": len(rates),
        "samples": samples,
        "solved": solved,
        "attempts": {name: run[name] for name in ("answered", "right", "wrong", "undecided", "cut", "failed")},
        "tokens": run["bill"]["tokens"],
        "labels": [dataclasses.asdict(each) for each in found],
    }
