"""The base model's training corpus: short answers in chat, and worked exercises in plain text.

Like a real pre-training corpus, it holds worked solutions (single passes, and pages that re-check and correct), but
none in chat and none between thinking delimiters; in chat it always answers at once. So the base model knows every
step but guesses the answers of long questions, and fine-tuning on a thousand traces has to add one thing only: to think
before answering (the "superficial alignment" hypothesis of the s1 paper, section 5).

The questions of the held-out benchmark never occur, in any phrasing.
"""

from __future__ import annotations

import random
from collections.abc import Collection
from dataclasses import dataclass

from s1ray.miniature.domains import DOMAINS, LEVELS
from s1ray.miniature.questions import Problem, draw
from s1ray.miniature.seeding import generator
from s1ray.miniature.working import Habits, one_pass, think

QUESTION_SHARE = 0.1
"""Share of the questions' tokens that the loss counts. Their numbers are random and cannot be predicted."""

HEADINGS = ("", "", "Exercise: ", "Problem: ", "Example: ")
ANSWER_FORMS = ("Final Answer: {}", "Final Answer: {}", "Answer: {}")
SYSTEM_PROMPT = "You are a helpful assistant."

DIRECT_LEVELS = (3, 3, 2, 1, 1, 1)
"""Weights of the levels among questions answered at once: mostly easy ones, which can be."""

PAGE_HABITS = Habits(rechecks=(0.0, 0.55, 0.25, 0.12, 0.05, 0.03))
"""Pages that re-check at least once, with the teacher's rates of slips."""


@dataclass(frozen=True)
class Mixture:
    """Shares of the kinds of documents; the rest are pages that re-check."""

    direct: float
    """Questions in chat, answered at once."""
    careful: float
    """Exercises worked out in one careful pass."""
    quick: float
    """Exercises worked out in one quick pass."""
    more_of: tuple[str, ...] = ()
    """Domains that are drawn three times as often as others."""


EARLY = Mixture(direct=0.2, careful=0.4, quick=0.15)
LATE = Mixture(direct=0.12, careful=0.6, quick=0.18, more_of=("counting", "sets"))
"""The model learns early what pages look like. The steps remain, and some are learned more slowly than others."""


@dataclass(frozen=True)
class Document:
    """A text in two parts: the question, and what the model is to learn."""

    question: str
    """With special tokens written out; the loss counts `QUESTION_SHARE` of its tokens."""
    body: str
    """The loss counts all of its tokens."""


def documents(
    seed: int, chunk: int, size: int, *, held_out: Collection[str], easy: bool = False, mixture: Mixture = EARLY
) -> list[Document]:
    """Chunk number `chunk` of the corpus: `size` documents, always the same ones.

    Args:
        held_out: `Problem.key` of every question that must not occur.
        easy: draw only from the lower levels (at the start of training).
    """
    rng = generator("corpus", seed, chunk)
    domains = [*DOMAINS, *mixture.more_of, *mixture.more_of]
    made: list[Document] = []
    while len(made) < size:
        kind = rng.random()
        weights = DIRECT_LEVELS if kind < mixture.direct else (2, 2, 2, 1, 0, 0) if easy else (1, 1, 1, 1, 1.5, 1.5)
        problem = draw(rng, rng.choice(domains), rng.choices(LEVELS, weights)[0])
        if problem.key in held_out:
            continue
        made.append(_chat(rng, problem) if kind < mixture.direct else _note(rng, problem, kind, mixture))
    return made


def _chat(rng: random.Random, problem: Problem) -> Document:
    system = f"<|im_start|>system\n{SYSTEM_PROMPT}<|im_end|>\n" if rng.random() < 0.1 else ""
    answer = rng.choice(ANSWER_FORMS).format(problem.answer)
    return Document(
        f"{system}<|im_start|>user\n{problem.text}<|im_end|>\n<|im_start|>assistant\n",
        f"{answer}<|im_end|>\n<|endoftext|>",
    )


def _note(rng: random.Random, problem: Problem, kind: float, mixture: Mixture) -> Document:
    single = mixture.direct + mixture.careful
    if kind < single + mixture.quick:
        stride = 1 if kind < single else problem.rules.stride
        lines, answer = one_pass(problem.rules, problem.spec, stride=stride)
        body = "\n".join([*lines, f"So {answer}"])
    else:
        body, _ = think(problem.rules, problem.spec, rng, PAGE_HABITS)
    return Document(f"{rng.choice(HEADINGS)}{problem.text}\n", f"{body}\n<|endoftext|>")
