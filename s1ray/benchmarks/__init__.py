"""Benchmarks: held-out questions with reference answers, under a name, in a file, or on the Hugging Face Hub.

    definition (where the questions are, which column holds what, how they are asked)
        -> finding (by name, path or "module:attribute") -> rows (records as questions) -> asked (their prompts)

`named` has the definitions that come with s1ray. A package adds one with an entry point: a `Benchmark`, or a function
without arguments that gives `Question` rows.
"""

from s1ray.benchmarks.definition import Benchmark
from s1ray.benchmarks.finding import BenchmarkRef, check_there, find_benchmark, is_file, named_definition
from s1ray.benchmarks.questions import asked, load_benchmark, read_benchmark

__all__ = [
    "Benchmark",
    "BenchmarkRef",
    "asked",
    "check_there",
    "find_benchmark",
    "is_file",
    "load_benchmark",
    "named_definition",
    "read_benchmark",
]
