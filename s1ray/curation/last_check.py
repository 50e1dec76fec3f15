"""Whether rows that leave a run hold benchmark questions: once more, right before they are written.

The run has looked already. This look is for what came since: rows that somebody changed, a benchmark that was mended,
and benchmarks that are given at the export. It has the tiers of the run's config that drop.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from s1ray.benchmarks import is_file
from s1ray.config import ConfigError
from s1ray.curation.config import Benchmark, DecontaminationConfig
from s1ray.curation.decontamination import BenchmarkIndex, benchmark_questions
from s1ray.errors import InputError, MissingError
from s1ray.manifests import Manifest
from s1ray.storage import Location, is_address, location

NAMED = 5
"""Leaks that a message names."""


class LastCheck:
    """Looks for benchmark questions in rows, and counts what it finds.

    Attributes:
        benchmarks: names of those that it knows.
        looked_at: rows.
        leaks: id of each row with a benchmark question, and which.
    """

    def __init__(self, config: DecontaminationConfig) -> None:
        """Read the config's benchmarks.

        Raises:
            S1rayError: one of them cannot be read.
        """
        drops, _ = config.tiers()
        # What would only be reviewed is not looked for.
        wanted = config if config.recipe == "s1_code" else config.model_copy(update={"review": []})
        self.tiers, self.benchmarks = sorted(drops), [benchmark.label for benchmark in config.benchmarks]
        self.looked_at, self.leaks = 0, dict[str, str]()
        self._index = BenchmarkIndex.load(wanted) if self.benchmarks and drops else None

    def clean(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The rows without a benchmark question.

        Args:
            rows: with `id`, `question` and `solution`.
        """
        self.looked_at += len(rows)
        if self._index is None:
            return rows
        found = self._index.find([row["question"] for row in rows], solutions=[row.get("solution") for row in rows])
        drops = [finding.drop for finding in found]
        self.leaks |= {row["id"]: drop.label for row, drop in zip(rows, drops, strict=True) if drop is not None}
        return [row for row, drop in zip(rows, drops, strict=True) if drop is None]

    def refuse_leaks(self) -> None:
        """End an export that would hold benchmark questions.

        Raises:
            InputError: something was found.
        """
        if not self.leaks:
            return
        named = ", ".join(f"{row} ({label})" for row, label in list(self.leaks.items())[:NAMED])
        more = f" and {len(self.leaks) - NAMED} more" if len(self.leaks) > NAMED else ""
        raise InputError(
            f"{len(self.leaks)} of {self.looked_at} rows hold benchmark questions: {named}{more}; nothing was written. "
            "Export with --drop-leaks to leave them out, or curate again with these benchmarks"
        )

    def summary(self) -> str:
        """What was looked for, and what became of it, in words."""
        if self._index is None:
            return f"not made: {'no tier drops' if self.benchmarks else 'no benchmark was given'}"
        found = f"{len(self.leaks):,} rows were left out" if self.leaks else "nothing was found"
        return f"against {', '.join(self.benchmarks)} by the tiers {', '.join(self.tiers)}: {found}"


def last_check(manifest: Manifest, further: Sequence[str], run: Location) -> LastCheck:
    """The check of a run's rows against its own benchmarks and further ones.

    Args:
        manifest: of the run.
        further: benchmarks as the command line gives them: "PATH" or "PATH:COLUMN".
        run: its folder, for messages.

    Raises:
        MissingError: a benchmark is not there any more.
        InputError: the manifest's config is none of this version.
        ConfigError: a further benchmark has no column of this name.
        S1rayError: a benchmark cannot be read.
    """
    try:
        config = DecontaminationConfig.model_validate(manifest["config"]["decontamination"])
    except (KeyError, ValidationError) as error:
        raise InputError(
            f"{run}: its manifest has no settings of decontamination that this version reads ({error}); curate again"
        ) from error
    benchmarks = [*_of_run(config.benchmarks, manifest, run), *map(_benchmark, further)]
    return LastCheck(config.model_copy(update={"benchmarks": benchmarks}))


def _of_run(benchmarks: Sequence[Benchmark], manifest: Manifest, run: Location) -> list[Benchmark]:
    """The run's benchmarks, with the paths of files that the run has written down."""
    inputs: Mapping[str, Any] = manifest.get("inputs", {})
    found = []
    for number, benchmark in enumerate(benchmarks):
        entry = inputs.get(f"benchmarks.{number} ({benchmark.label})")
        path = entry["path"] if entry else benchmark.path
        if (entry or is_file(path)) and not location(path).exists():
            here = "" if is_address(path) or Path(path).is_absolute() else f" in {Path.cwd()}, or give the run's --root"
            raise MissingError(
                f"{path}: the run in {run} was checked against this benchmark, and an export is checked again; put the "
                f"file back{here}, or say --unchecked"
            )
        found.append(benchmark.model_copy(update={"path": path, "name": benchmark.label}))
    return found


def _benchmark(given: str) -> Benchmark:
    path, colon, column = given.rpartition(":")
    named = bool(colon) and not location(given).exists() and "/" not in column
    benchmark = Benchmark(path=path, question=column) if named else Benchmark(path=given)
    if is_file(benchmark.path):
        try:
            next(benchmark_questions(benchmark), None)
        except ConfigError as error:
            raise ConfigError(f"{error}; name the question's: --benchmark {benchmark.path}:COLUMN") from None
    return benchmark
