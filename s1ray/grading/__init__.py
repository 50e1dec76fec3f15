"""Grading: read the final answer off a response and compare it with the reference, by rules or a registered grader."""

from s1ray.grading.extraction import extract_answer
from s1ray.grading.grade import (
    RULES,
    Grade,
    Grader,
    GraderError,
    GraderName,
    Verdict,
    check_references,
    find_grader,
    grade,
    grade_by,
    grade_or_undecided,
    is_guess,
    kind_of,
)
from s1ray.grading.many import Answer, grade_many
from s1ray.grading.votes import same_answer, spelling_free, vote_classes

__all__ = [
    "RULES",
    "Answer",
    "Grade",
    "Grader",
    "GraderError",
    "GraderName",
    "Verdict",
    "check_references",
    "extract_answer",
    "find_grader",
    "grade",
    "grade_by",
    "grade_many",
    "grade_or_undecided",
    "is_guess",
    "kind_of",
    "same_answer",
    "spelling_free",
    "vote_classes",
]
