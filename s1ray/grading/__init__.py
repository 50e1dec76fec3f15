"""Grading: reading the final answer off a response and comparing it with the reference, by rules alone."""

from s1ray.grading.extraction import Extraction, Fallback, choice_letter, extract_answer, last_boxed
from s1ray.grading.grade import Grade, Kind, check_references, grade, infer_kind, kind_of
from s1ray.grading.normalise import spelling_free

__all__ = [
    "Extraction",
    "Fallback",
    "Grade",
    "Kind",
    "check_references",
    "choice_letter",
    "extract_answer",
    "grade",
    "infer_kind",
    "kind_of",
    "last_boxed",
    "spelling_free",
]
