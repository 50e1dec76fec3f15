"""Grading: read the final answer off a response and compare it with the reference, by rules or a registered grader."""

from s1ray.grading.extraction import choice_letter, extract_answer, last_boxed
from s1ray.grading.grade import (
    RULES,
    Grade,
    Grader,
    GraderName,
    check_references,
    find_grader,
    grade,
    infer_kind,
    kind_of,
)
from s1ray.grading.normalise import spelling_free

__all__ = [
    "RULES",
    "Grade",
    "Grader",
    "GraderName",
    "check_references",
    "choice_letter",
    "extract_answer",
    "find_grader",
    "grade",
    "infer_kind",
    "kind_of",
    "last_boxed",
    "spelling_free",
]
