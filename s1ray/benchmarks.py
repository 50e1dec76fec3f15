"""Benchmarks: held-out questions, under a registered name ("miniature", or one that a package adds) or in a file."""

from __future__ import annotations

import os
from collections.abc import Iterable

from s1ray.errors import InputError, MissingError
from s1ray.registry import BENCHMARKS
from s1ray.schemas import Question, read_table


def is_file(benchmark: str) -> bool:
    """Whether a benchmark is a file or folder. A registered name comes first, then a path, then "module:attribute"."""
    return benchmark not in BENCHMARKS.names() and (":" not in benchmark or os.path.exists(benchmark))


def load_benchmark(benchmark: str) -> list[Question]:
    """The questions of a benchmark, in its own order.

    Args:
        benchmark: a registered name, "module:attribute" of a function without arguments that gives `Question` rows, or
            a Parquet file or folder of them.

    Raises:
        MissingError: there is no such file, and no such name.
        InputError: the function cannot be imported or gives something else, or the file holds other rows.
    """
    if is_file(benchmark):
        check_there(benchmark)
        return [Question(**row) for row in read_table(benchmark, Question).to_pylist()]
    function = BENCHMARKS.get(benchmark)
    if not callable(function):
        raise InputError(f"benchmark {benchmark!r}: is a {type(function).__name__}, not a function")
    given = function()
    if not isinstance(given, Iterable):
        raise InputError(f"benchmark {benchmark!r}: gives a {type(given).__name__}; it must give Question rows")
    questions = list(given)
    for question in questions:
        if not isinstance(question, Question):
            raise InputError(f"benchmark {benchmark!r}: gives a {type(question).__name__}; it must give Question rows")
    return questions


def check_there(benchmark: str) -> None:
    """Refuse a benchmark that is neither a file nor a name.

    Raises:
        MissingError: it is not there; the message lists the registered names.
    """
    if is_file(benchmark) and not os.path.exists(benchmark):
        names = ", ".join(BENCHMARKS.names()) or "none"
        raise MissingError(f"benchmark {benchmark!r}: no such file or folder; registered benchmarks: {names}")
