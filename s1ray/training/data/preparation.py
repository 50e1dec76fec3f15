"""From traces to a checked training set: what a run, its plan and `s1ray train inspect` all begin with.

Reads the Parquet file and tokenises; starts nothing. torch and transformers are imported inside.
"""

from __future__ import annotations

import dataclasses
import logging
from typing import Any

from s1ray.config import ConfigError
from s1ray.schemas import Example, Trace, read_table
from s1ray.training.config import TrainingConfig
from s1ray.training.data.examples import ChatRenderer, Unusable, build_examples, explain
from s1ray.training.model.validation import held_out
from s1ray.training.planning.requirements import check_requirements

log = logging.getLogger("s1ray")


@dataclasses.dataclass(frozen=True)
class TrainingSet:
    """The examples of a run, checked."""

    examples: list[Example]
    """Those that are trained on."""
    unusable: list[Unusable]
    num_traces: int
    held_out: list[Example] = dataclasses.field(default_factory=list)
    """Those that validation measures the loss on."""


def prepare(config: TrainingConfig) -> TrainingSet:
    """Read the traces and make the examples.

    Raises:
        ConfigError: rows are unusable and the config refuses them, or none is left, or the tokenizer does not fit, or
            something is missing (`requirements`).
    """
    check_requirements(config)
    table = read_table(config.traces, Trace)
    traces = [Trace(**row) for row in table.to_pylist()]
    _check_ids(traces, config.traces)
    examples, unusable = build_examples(traces, load_renderer(config), config.max_length)
    if unusable:
        if config.unusable_rows == "refuse":
            raise ConfigError(
                f"{config.traces}: {explain(unusable)}\nmend the rows, raise max_length where they are too long, or "
                "set unusable_rows: drop"
            )
        log.warning("train: dropping %s", explain(unusable))
    if not examples:
        raise ConfigError(f"{config.traces}: no usable row of {len(traces)}")
    if config.validation is None:
        return TrainingSet(examples, unusable, len(traces))
    question_of = {trace.id: trace.question_id for trace in traces}
    try:
        rows = set(held_out([question_of[example.id] for example in examples], config.validation, config.seed))
    except ValueError as error:
        raise ConfigError(f"{config.traces}: {error}") from error
    return TrainingSet(
        [example for row, example in enumerate(examples) if row not in rows],
        unusable,
        len(traces),
        [example for row, example in enumerate(examples) if row in rows],
    )


def load_renderer(config: TrainingConfig) -> ChatRenderer:
    """The tokenizer's chat template joined with the config's thinking format.

    Raises:
        ConfigError: there is no tokenizer, or template and format do not fit it.
    """
    tokenizer = _load_tokenizer(config)
    try:
        return ChatRenderer(tokenizer, config.thinking_format, config.conditional_control)
    except ValueError as error:
        raise ConfigError(f"model {config.model}, thinking_format {config.thinking_format.name}: {error}") from error


def _check_ids(traces: list[Trace], path: str) -> None:
    seen: set[str] = set()
    for trace in traces:
        if trace.id in seen:
            raise ConfigError(f"{path}: id {trace.id!r} occurs twice; every trace needs an id of its own")
        seen.add(trace.id)


def _load_tokenizer(config: TrainingConfig) -> Any:
    from transformers import AutoTokenizer

    model = config.model
    try:
        return AutoTokenizer.from_pretrained(model)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"model {config.model}: no tokenizer could be loaded from {model}; give a Hugging Face id that can be "
            f"reached, or a folder with tokenizer files ({str(error).splitlines()[0]})"
        ) from error
