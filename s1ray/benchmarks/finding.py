"""Which benchmark a name, a path or an entry of a config means."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Mapping
from typing import Annotated

from pydantic import BeforeValidator

from s1ray.benchmarks.definition import Benchmark
from s1ray.errors import InputError, MissingError
from s1ray.reading.files import label_of
from s1ray.registry import BENCHMARKS
from s1ray.storage import exists, is_address

_PROGRAMS = re.compile(r"(livecodebench|lcb|humaneval|mbpp)")
_PLACE = ("path", "hub", "function")


def is_file(benchmark: str) -> bool:
    """Whether a benchmark is a file or folder. A registered name comes first, then a path, then "module:attribute"."""
    return benchmark not in BENCHMARKS.names() and (":" not in benchmark or exists(benchmark))


def check_there(benchmark: str) -> None:
    """Refuse a benchmark that is neither a file nor a name.

    Raises:
        MissingError: it is not there; the message lists the registered names.
        InputError: it is one whose answers are programs.
    """
    there = exists(os.path.expanduser(benchmark)) or glob.has_magic(benchmark)
    if is_file(benchmark) and not there:
        _refuse_programs(benchmark)
        names = ", ".join(BENCHMARKS.names()) or "none"
        raise MissingError(f"benchmark {benchmark!r}: no such file or folder; registered benchmarks: {names}")


def find_benchmark(benchmark: str) -> Benchmark:
    """The definition of a benchmark.

    Args:
        benchmark: a registered name, "module:attribute" of a `Benchmark` or of a function without arguments that gives
            `Question` rows, or a path of rows.

    Raises:
        MissingError: there is no such file, and no such name.
        InputError: what is registered is neither, or cannot be imported.
    """
    if is_file(benchmark):
        check_there(benchmark)
        return Benchmark(name=label_of(benchmark), path=benchmark)
    found = BENCHMARKS.get(benchmark)
    if isinstance(found, Benchmark):
        return found
    if not callable(found):
        raise InputError(f"benchmark {benchmark!r}: is a {type(found).__name__}, not a function or a Benchmark")
    return Benchmark(name=benchmark.rpartition(":")[2], function=benchmark)


def named_definition(benchmark: str) -> Benchmark | None:
    """The `Benchmark` that is registered under a name, or is at "module:attribute"; None: that is none.

    Asks no object store, and says nothing of what is wrong: `find_benchmark` does.
    """
    if is_address(benchmark) or is_file(benchmark):
        return None
    try:
        found = BENCHMARKS.get(benchmark)
    except InputError:
        return None
    return found if isinstance(found, Benchmark) else None


def _resolved(entry: object) -> object:
    if isinstance(entry, str):
        return _found(entry)
    if not isinstance(entry, Mapping):
        return entry
    name = entry.get("name")
    known = isinstance(name, str) and name in BENCHMARKS.names()
    if known:
        defined = find_benchmark(str(name)).model_dump(exclude_unset=True)
        if any(entry.get(place) is not None for place in _PLACE):
            # The same columns, in another place.
            defined = {field: value for field, value in defined.items() if field not in (*_PLACE, "subset", "revision")}
        return defined | dict(entry)
    if isinstance(name, str) and not any(entry.get(place) is not None for place in _PLACE):
        _refuse_programs(name)
        raise ValueError(
            f"no benchmark is called {name!r}; give `path` or `hub`, or a name: {', '.join(BENCHMARKS.names())}"
        )
    return entry


def _found(name: str) -> Benchmark:
    try:
        return find_benchmark(name)
    except MissingError as error:
        # pydantic tells a ValueError with its field.
        raise ValueError(str(error)) from None


def _refuse_programs(name: str) -> None:
    if _PROGRAMS.match(re.sub(r"[^a-z]", "", name.lower())):
        raise InputError(
            f"benchmark {name!r}: its answers are programs, and s1ray runs no code that a model wrote: that needs a "
            "sandbox, which it does not have. Measure it with a tool that brings one, against a served model"
        )


BenchmarkRef = Annotated[Benchmark, BeforeValidator(_resolved)]
"""For a config's field: a registered name, a path, or a mapping of a `Benchmark`'s fields, in which a registered name
brings its definition along."""
