"""The questions of the benchmarks that must not be trained on."""

from __future__ import annotations

from collections.abc import Iterator

from s1ray.benchmarks import check_there, find_benchmark, is_file, read_benchmark
from s1ray.curation.config import Benchmark
from s1ray.errors import InputError
from s1ray.reading.records import column_of, file_records, matching, text_of


def has_private_text(benchmark: Benchmark) -> bool:
    """Whether a benchmark's questions may be shown nowhere."""
    registered = not is_file(benchmark.path) and find_benchmark(benchmark.path).private_text
    return registered or benchmark.private_text


def benchmark_questions(benchmark: Benchmark) -> Iterator[tuple[str, str]]:
    """(label, question) of every question of a benchmark.

    Raises:
        MissingError: it is neither a file nor a registered name.
        InputError: its file has no such column, or no question in it, or its function gives no Question rows.
    """
    name, found = benchmark.label, False
    if not is_file(benchmark.path):
        asked = read_benchmark(find_benchmark(benchmark.path))
        yield from ((f"{name}/{question.id}", question.question) for question in asked)
        return
    check_there(benchmark.path)
    origin = f"decontamination.benchmarks: {benchmark.path}"
    for number, record in enumerate(matching(file_records(benchmark.path), benchmark.where, origin)):
        question = text_of(column_of(record, benchmark.question, origin))
        if question:
            found = True
            yield f"{name}/{number}", question
    if not found:
        which = "no row fulfils `where`, or has" if benchmark.where else "no row has"
        raise InputError(
            f"{origin}: {which} a {benchmark.question!r}, so nothing would be looked for; give a file of questions, or "
            "leave it out"
        )
