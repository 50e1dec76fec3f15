"""The pool of questions that curation starts from, with flaws at known rates, and the benchmark that is held out of it.

A row's flaw is in its metadata (`flaw`, None for a sound row), so that a test can measure how much of each kind
curation finds. Curation itself must not look there.
"""

from __future__ import annotations

import json
import random
from functools import cache

from s1ray.miniature.domains import DOMAINS
from s1ray.miniature.questions import Problem, Row, draw, row
from s1ray.miniature.seeding import generator
from s1ray.schemas import question_id

FLAW_RATES = {
    "exact_duplicate": 0.02,
    "near_duplicate": 0.03,
    "broken_format": 0.04,
    "missing_solution": 0.01,
    "missing_answer": 0.01,
    "benchmark_leak": 0.015,
}
"""Parts of the pool with each flaw."""

POOL_LEVELS = (1, 1.5, 2, 2, 2, 2)
BENCHMARK_LEVELS = (0, 1, 2, 3, 3, 3)
"""Weights of the levels 1 to 6: the benchmark leans to the middle and the hard end."""

BENCHMARK_SIZE = 600


def build_benchmark(size: int = BENCHMARK_SIZE, seed: int = 0) -> list[Row]:
    """The held-out questions, all different, domains in equal shares; the same `size` and `seed` give the same rows."""
    return [row(problem) for problem in _distinct(generator("benchmark", seed), size, BENCHMARK_LEVELS, set())]


@cache
def benchmark_keys(size: int = BENCHMARK_SIZE, seed: int = 0) -> frozenset[str]:
    """`Problem.key` of every question of the benchmark."""
    return frozenset(problem.key for problem in _distinct(generator("benchmark", seed), size, BENCHMARK_LEVELS, set()))


def build_pool(size: int = 20_000, seed: int = 0) -> list[Row]:
    """The pool: `size` rows in random order, of which `FLAW_RATES` have a flaw; no sound row asks a benchmark question.

    Its leaks come from the default benchmark. The same `size` and `seed` give the same rows.
    """
    rng = generator("pool", seed)
    counts = {flaw: round(rate * size) for flaw, rate in FLAW_RATES.items()}
    copies = counts["exact_duplicate"] + counts["near_duplicate"] + counts["benchmark_leak"]
    sound = [row(problem) for problem in _distinct(rng, size - copies, POOL_LEVELS, benchmark_keys())]
    rows = [_marked(question, None) for question in sound]
    in_place = [flaw for flaw in ("broken_format", "missing_solution", "missing_answer") for _ in range(counts[flaw])]
    for index, flaw in zip(rng.sample(range(len(rows)), len(in_place)), in_place, strict=True):
        rows[index] = _flawed(rows[index], flaw, rng)
    intact = [question for question in rows if json.loads(question["metadata"])["flaw"] is None]
    benchmark = build_benchmark()
    originals = rng.sample(intact, counts["exact_duplicate"] + counts["near_duplicate"])
    for index, original in enumerate(originals):
        rows.append(
            _flawed(original, "exact_duplicate" if index < counts["exact_duplicate"] else "near_duplicate", rng)
        )
    for _ in range(counts["benchmark_leak"]):
        rows.append(_flawed(_marked(rng.choice(benchmark), None), "benchmark_leak", rng))
    rng.shuffle(rows)
    return rows


def _distinct(
    rng: random.Random, size: int, levels: tuple[float, ...], held_out: set[str] | frozenset[str]
) -> list[Problem]:
    """Problems with different texts, domain by domain; a domain that runs out of them leaves its share to others."""
    names = list(DOMAINS)
    found: dict[str, Problem] = {}
    misses = dict.fromkeys(names, 0)
    while len(found) < size:
        for name in list(names):
            if len(found) == size:
                break
            problem = draw(rng, name, rng.choices(range(1, 7), levels)[0])
            if problem.text in found or problem.key in held_out:
                misses[name] += 1
                if misses[name] > 2 * size:
                    names.remove(name)
            else:
                found[problem.text] = problem
    return list(found.values())


def _marked(original: Row, flaw: str | None, **changes: str | None) -> Row:
    metadata = json.loads(original["metadata"]) | {"flaw": flaw}
    marked = original | changes | {"metadata": json.dumps(metadata)}
    return marked | {"id": question_id(marked["question"])}


def _flawed(question: Row, flaw: str, rng: random.Random) -> Row:
    text = question["question"]
    match flaw:
        case "exact_duplicate":
            return _marked(question, flaw)
        case "near_duplicate":
            return _marked(question, flaw, question=_nearly(text, rng))
        case "broken_format":
            return _marked(question, flaw, question=_broken(text, rng))
        case "missing_solution":
            return _marked(question, flaw, solution=rng.choice((None, "", "  ")))
        case "missing_answer":
            return _marked(question, flaw, answer=rng.choice((None, "")))
        case _:
            leaked = (
                text
                if rng.random() < 0.5
                else f"{rng.choice(('Warm up.', 'Homework:', 'Easy one:'))} {text} Show work."
            )
            return _marked(question, flaw, question=leaked)


def _nearly(text: str, rng: random.Random) -> str:
    """The same question, written a little differently: case, white space, the final mark, or a word more."""
    return rng.choice(
        (
            text.upper() if text.upper() != text else text + " ",
            text.replace(" ", "  "),
            f"  {text}\n",
            text[:-1] + " " + text[-1],
            f"Please: {text}",
        )
    )


def _broken(text: str, rng: random.Random) -> str:
    """The question with a trace of bad extraction: an image, drawing code, a problem number, bold debris, mojibake."""
    return rng.choice(
        (
            f"{text} ![Image](figure{rng.randint(1, 9)}.png)",
            f"[asy] draw((0,0)--(1,{rng.randint(1, 9)})); [/asy] {text}",
            f"p{rng.randint(1, 30)}. {text}",
            f"**{rng.randint(1, 9)}** {text}",
            f"{text} \u00e2\u20ac\u2122\u00c3\u00a9",
        )
    )
