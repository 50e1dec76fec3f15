"""s1ray's grader by rules, as `s1ray grade` and evaluations call it."""

from loop import run

from s1ray.grading import grade


def judge(gold: str, text: str) -> tuple[str, str]:
    """A verdict on one case."""
    found = grade(gold, text)
    verdict = {True: "correct", False: "incorrect", None: "undecided"}[found.correct]
    return verdict, f"{found.graded_by}: {found.extracted!r}"


# The child process of algebra starts before the clock does.
judge("x+1", "\\boxed{1+x}")
run(judge)
