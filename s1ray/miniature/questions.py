"""Problems of the miniature world, the questions that ask them, their exact working, and the check of an answer.

The world is our own rather than a general collection of reasoning puzzles: a model of two million parameters needs
short questions in few words, every domain needs a working whose single steps are easy, and none of it may add a
dependency.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass

from s1ray.errors import InputError
from s1ray.miniature.domains import DOMAINS, AnyDomain, Spec
from s1ray.miniature.working import one_pass
from s1ray.schemas import Question, question_id


@dataclass(frozen=True)
class Problem:
    """What a question asks, in structured form."""

    domain: str
    level: int
    phrasing: int
    spec: Spec

    @property
    def rules(self) -> AnyDomain:
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


def to_question(problem: Problem) -> Question:
    """The question that asks a problem; its `solution` is one careful pass, the shortest complete working."""
    lines, answer = one_pass(problem.rules, problem.spec)
    text = problem.text
    return Question(
        id=question_id(text),
        question=text,
        solution="\n".join([*lines, f"So {answer}"]),
        answer=answer,
        source=f"miniature/{problem.domain}",
        domain=problem.domain,
        metadata=json.dumps(
            {
                "level": problem.level,
                "phrasing": problem.phrasing,
                "domain": problem.domain,
                "spec": problem.spec,
                # "010" is not 10 and "5,3" is not "3,5" here, so grading must compare spellings.
                "answer_kind": "text",
            }
        ),
    )


def problem_of(question: Question) -> Problem:
    """The problem that a question of `to_question` asks.

    Raises:
        InputError: the question's metadata holds no specification, so the question is not one of the miniature's.
    """
    try:
        metadata = json.loads(question.metadata)
        return Problem(metadata["domain"], metadata["level"], metadata["phrasing"], metadata["spec"])
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise InputError(
            f"question {question.id!r}: field 'metadata' holds no miniature specification ({error}); the procedural "
            "teacher can only work out questions of the miniature"
        ) from error


def verify(question: Question, answer: str) -> bool:
    """Whether `answer` is the exact answer, ignoring spaces, case and a final full stop."""
    return _normal(answer) == _normal(problem_of(question).answer)


def _normal(answer: str) -> str:
    return "".join(answer.split()).lower().removesuffix(".")
