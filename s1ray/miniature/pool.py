"""The pool of questions that curation starts from, with flaws at known rates, and the benchmark held out of it.

Each question's metadata names its flaw (`flaw`, null for a sound question), so that tests can measure how much of each
kind curation finds. Curation itself must not look there.
"""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Set as AbstractSet
from functools import cache

from s1ray.miniature.domains import DOMAINS
from s1ray.miniature.questions import Problem, draw, to_question
from s1ray.miniature.seeding import generator
from s1ray.schemas import Question, question_id

FLAW_RATES = {
    "exact_duplicate": 0.02,
    "near_duplicate": 0.03,
    "broken_format": 0.04,
    "missing_solution": 0.01,
    "missing_answer": 0.01,
    "benchmark_leak": 0.015,
}
"""Share of the pool with each flaw."""

POOL_LEVELS = (1, 1.5, 2, 2, 2, 2)
BENCHMARK_LEVELS = (0, 1, 2, 3, 3, 3)
"""Weights of the levels 1 to 6; the benchmark leans towards the hard end."""

BENCHMARK_SIZE = 600


def build_benchmark(size: int = BENCHMARK_SIZE, seed: int = 0) -> list[Question]:
    """The held-out questions: all different, domains in equal shares, the same for the same `size` and `seed`."""
    return [to_question(problem) for problem in _distinct(generator("benchmark", seed), size, BENCHMARK_LEVELS, set())]


@cache
def benchmark_keys(size: int = BENCHMARK_SIZE, seed: int = 0) -> frozenset[str]:
    """`Problem.key` of every question of the benchmark."""
    return frozenset(problem.key for problem in _distinct(generator("benchmark", seed), size, BENCHMARK_LEVELS, set()))


def build_pool(size: int = 20_000, seed: int = 0) -> list[Question]:
    """The pool: `size` questions in random order, with flaws at `FLAW_RATES`; the same for the same `size` and `seed`.

    Leaks come from the default benchmark; no sound question is in it.
    """
    rng = generator("pool", seed)
    counts = {flaw: round(rate * size) for flaw, rate in FLAW_RATES.items()}
    copies = counts["exact_duplicate"] + counts["near_duplicate"] + counts["benchmark_leak"]
    sound = [to_question(problem) for problem in _distinct(rng, size - copies, POOL_LEVELS, benchmark_keys())]
    rows = [_marked(question, None) for question in sound]
    in_place = [flaw for flaw in ("broken_format", "missing_solution", "missing_answer") for _ in range(counts[flaw])]
    flawed = dict(zip(rng.sample(range(len(rows)), len(in_place)), in_place, strict=True))
    for index, flaw in flawed.items():
        rows[index] = _flawed(rows[index], flaw, rng)
    intact = [question for index, question in enumerate(rows) if index not in flawed]
    benchmark = build_benchmark()
    copied = [flaw for flaw in ("exact_duplicate", "near_duplicate") for _ in range(counts[flaw])]
    rows += [_flawed(*pair, rng) for pair in zip(rng.sample(intact, len(copied)), copied, strict=True)]
    rows += [_flawed(rng.choice(benchmark), "benchmark_leak", rng) for _ in range(counts["benchmark_leak"])]
    rng.shuffle(rows)
    return rows


def _distinct(rng: random.Random, size: int, levels: tuple[float, ...], held_out: AbstractSet[str]) -> list[Problem]:
    """Problems with different texts, domain by domain; when a domain runs out of them, the others fill its share."""
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


def _marked(original: Question, flaw: str | None, text: str | None = None) -> Question:
    text = original.question if text is None else text
    metadata = json.dumps(json.loads(original.metadata) | {"flaw": flaw})
    return dataclasses.replace(original, id=question_id(text), question=text, metadata=metadata)


def _flawed(question: Question, flaw: str, rng: random.Random) -> Question:
    text = question.question
    match flaw:
        case "exact_duplicate":
            return _marked(question, flaw)
        case "near_duplicate":
            return _marked(question, flaw, _nearly(text, rng))
        case "broken_format":
            return _marked(question, flaw, _broken(text, rng))
        case "missing_solution":
            return dataclasses.replace(_marked(question, flaw), solution=rng.choice((None, "", "  ")))
        case "missing_answer":
            return dataclasses.replace(_marked(question, flaw), answer=rng.choice((None, "")))
        case _:
            if rng.random() >= 0.5:
                text = f"{rng.choice(('Warm up.', 'Homework:', 'Easy one:'))} {text} Show work."
            return _marked(question, flaw, text)


def _nearly(text: str, rng: random.Random) -> str:
    """The same question written a little differently: case, white space, the final mark, or one more word."""
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
    """The question with a trace of bad extraction: an image, drawing code, a problem number, bold digits, mojibake."""
    return rng.choice(
        (
            f"{text} ![Image](figure{rng.randint(1, 9)}.png)",
            f"[asy] draw((0,0)--(1,{rng.randint(1, 9)})); [/asy] {text}",
            f"p{rng.randint(1, 30)}. {text}",
            f"**{rng.randint(1, 9)}** {text}",
            f"{text} \u00e2\u20ac\u2122\u00c3\u00a9",
        )
    )
