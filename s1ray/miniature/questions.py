"""Questions of the miniature world as rows, their exact reference working, and the check of an answer.

The world is our own rather than a general collection of reasoning puzzles: a model of two million parameters needs
short questions in few words, every domain must come with a working whose single steps are easy, and nothing here may
add a dependency.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from typing import Any

from s1ray.miniature.domains import DOMAINS, Domain, Spec
from s1ray.miniature.working import one_pass
from s1ray.schemas import question_id

Row = dict[str, Any]
"""A question as a row: the fields of `s1ray.schemas.Question`, with `metadata` as a JSON string."""


@dataclass(frozen=True)
class Problem:
    """One question of the world in its structured form."""

    domain: str
    level: int
    phrasing: int
    spec: Spec

    @property
    def rules(self) -> Domain:
        """The domain that the question belongs to."""
        return DOMAINS[self.domain]

    @property
    def text(self) -> str:
        """The question as asked."""
        return self.rules.question(self.spec, self.phrasing)

    @property
    def key(self) -> str:
        """What is asked, whatever the phrasing."""
        return f"{self.domain}:{json.dumps(self.spec, sort_keys=True)}"

    @property
    def answer(self) -> str:
        """The exact answer."""
        return self.rules.solve(self.spec)


def draw(rng: random.Random, domain: str, level: int) -> Problem:
    """A random problem of one domain and level."""
    rules = DOMAINS[domain]
    return Problem(domain, level, rng.randrange(len(rules.phrasings)), rules.make(rng, level))


def row(problem: Problem) -> Row:
    """The row of a problem; `solution` is one careful pass, the shortest complete working."""
    lines, answer = one_pass(problem.rules, problem.spec)
    text = problem.text
    return {
        "id": question_id(text),
        "question": text,
        "solution": "\n".join([*lines, f"So {answer}"]),
        "answer": answer,
        "source": f"miniature/{problem.domain}",
        "domain": problem.domain,
        "metadata": json.dumps(
            {
                "level": problem.level,
                "phrasing": problem.phrasing,
                "domain": problem.domain,
                "spec": problem.spec,
                # "010" is no 10 and "5,3" is no "3,5" here: grading compares by spelling.
                "answer_kind": "text",
            }
        ),
    }


def problem_of(question: Row) -> Problem:
    """The structured form of a row made by `row`.

    Raises:
        ValueError: the row's metadata has no specification, so the row is not one of ours.
    """
    try:
        metadata = json.loads(question["metadata"])
        return Problem(metadata["domain"], metadata["level"], metadata["phrasing"], metadata["spec"])
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(
            f"question {question.get('id')!r}: field 'metadata' holds no miniature specification ({error}); only "
            "rows made by s1ray.miniature.pool can be worked out by the procedural teacher"
        ) from error


def verify(question: Row, answer: str) -> bool:
    """Whether `answer` is the exact answer, but for spaces, case and a final full stop."""
    return _normal(answer) == _normal(problem_of(question).answer)


def _normal(answer: str) -> str:
    return "".join(answer.split()).lower().removesuffix(".")
