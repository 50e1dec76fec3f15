"""What the log formats of others are made of: a measurement's samples, with what was asked."""

from __future__ import annotations

import dataclasses
import itertools
import statistics
from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import datetime, timedelta

from pydantic import JsonValue

from s1ray.evaluation.arm_result import ArmResult
from s1ray.evaluation.config import EvalConfig, ServedModel
from s1ray.evaluation.loading import evaluations
from s1ray.evaluation.results import EvalResults
from s1ray.manifests import Manifest
from s1ray.schemas import Evaluation

BATCH = 256
"""Rows whose texts are held at once."""


@dataclasses.dataclass(frozen=True)
class Measurement:
    """One model measured with one arm on one benchmark."""

    results: EvalResults
    arm: ArmResult
    config: EvalConfig
    manifest: Manifest
    name: str
    """Benchmark, model and arm, as a file's name that no other measurement has."""

    @property
    def model(self) -> ServedModel:
        """As it is served."""
        return next(model for model in self.config.models if model.label == self.arm.model)

    @property
    def seconds(self) -> float:
        """That the run took, as far as its last start tells."""
        return float(self.manifest["seconds"])

    @property
    def finished(self) -> datetime:
        """When the run was complete."""
        return datetime.fromisoformat(self.manifest["finished"])

    @property
    def started(self) -> datetime:
        """When its last start was."""
        return self.finished - timedelta(seconds=self.seconds)

    @property
    def settings(self) -> dict[str, JsonValue]:
        """Of the arm."""
        return self.arm.setting.model_dump(mode="json", exclude_none=True)

    @property
    def temperature(self) -> float:
        """Of the arm's requests."""
        return self.arm.setting.temperature_of(self.config.sampling)

    def number(self, row: Evaluation) -> int:
        """Which answer to its question a sample is, from 1, over all repetitions."""
        return row.repeat * self.config.sampling.samples + row.sample + 1

    def question(self, row: Evaluation) -> str:
        """The text that was asked; empty where it is private or not kept."""
        return self.results.questions.get(row.question_id, "")

    def rows(self) -> Iterator[Evaluation]:
        """The samples by question, with texts; a private benchmark's without them, since they may quote it."""
        table = self.results.tables[self.arm.model, self.arm.arm]
        for batch in table.to_batches(max_chunksize=BATCH):
            for row in evaluations(type(table).from_batches([batch])):
                if self.results.private_text:
                    error = None if row.error is None else "the request failed"  # a server may repeat the question
                    row = dataclasses.replace(row, thinking="", answer="", gold="", extracted=None, error=error)
                yield row

    def accuracy(self) -> tuple[float, float | None]:
        """Over the questions that have a decided sample, and its standard error by questions (None below two)."""
        shares = [statistics.fmean(samples) for samples in self.arm.correct.values()]
        error = statistics.stdev(shares) / len(shares) ** 0.5 if len(shares) > 1 else None
        return statistics.fmean(shares), error


def measurements(found: Iterable[EvalResults]) -> Iterator[Measurement]:
    """Every model with every arm, in the order of the configs."""
    names: set[str] = set()
    for results in found:
        for arm in results.arms:
            config, manifest = next(
                (config, manifest)
                for config, manifest in zip(results.configs, results.manifests, strict=True)
                if any(model.label == arm.model and arm.setting in config.arms_of(model) for model in config.models)
            )
            name = _name(f"{results.benchmark} {arm.model} {arm.arm}", names)
            names.add(name)
            yield Measurement(results, arm, config, manifest, name)


def _name(label: str, taken: Collection[str]) -> str:
    """A label as a file's name. Two labels that differ in signs that are no part of it get numbers."""
    plain = "".join(letter if letter.isalnum() or letter in "-.=" else "_" for letter in label)
    numbered = (f"{plain}_{number}" for number in itertools.count(2))
    return next(name for name in itertools.chain([plain], numbered) if name.lower() not in map(str.lower, taken))


def tokens_of(rows: Sequence[Evaluation]) -> dict[str, int]:
    """The sums of their tokens; no reasoning tokens where those of a row are unknown."""
    total = {
        "input_tokens": sum(row.prompt_tokens or 0 for row in rows),
        "output_tokens": sum(row.thinking_tokens + row.answer_tokens for row in rows),
    }
    if not any(row.thinking_unknown for row in rows):
        total["reasoning_tokens"] = sum(row.thinking_tokens for row in rows)
    return total
