"""From traces to a checked training set: what a run, its plan and `s1ray train inspect` all begin with.

Reads the Parquet file and tokenises; starts nothing. transformers is imported inside.
"""

from __future__ import annotations

import dataclasses
import logging
from typing import TYPE_CHECKING

from s1ray.config import ConfigError
from s1ray.schemas import Example, Trace, read_table
from s1ray.training.config import TrainingConfig
from s1ray.training.data.examples import ChatRenderer, Unusable, build_examples, explain
from s1ray.training.data.held_out import held_out

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

log = logging.getLogger("s1ray")


@dataclasses.dataclass(frozen=True)
class TrainingSet:
    """The examples of a run, checked."""

    examples: list[Example]
    """Examples to train on."""
    unusable: list[Unusable]
    num_traces: int
    held_out: list[Example] = dataclasses.field(default_factory=list)
    """Examples to measure the validation loss on."""


def prepare(config: TrainingConfig) -> TrainingSet:
    """Read the traces and make the examples.

    Raises:
        ConfigError: rows are unusable and the config refuses them, or none is left, or the tokenizer does not fit.
    """
    table = read_table(config.traces, Trace)
    traces = [Trace(**row) for row in table.to_pylist()]
    _check_ids(traces, config.traces)
    examples, unusable = build_examples(traces, load_renderer(config), config.max_length)
    if unusable:
        if config.unusable_rows == "refuse":
            raise ConfigError(
                f"{config.traces}: {explain(unusable)}\nfix the rows, raise max_length where they are too long, or "
                "set unusable_rows: drop"
            )
        log.warning("train: dropping %s", explain(unusable))
    if not examples:
        raise ConfigError(f"{config.traces}: no usable row of {len(traces)}")
    if config.validation is None:
        return TrainingSet(examples, unusable, len(traces))
    question_of = {trace.id: trace.question_id for trace in traces}
    rows = set(held_out([question_of[example.id] for example in examples], config.validation, config.seed))
    return TrainingSet(
        [example for row, example in enumerate(examples) if row not in rows],
        unusable,
        len(traces),
        [example for row, example in enumerate(examples) if row in rows],
    )


def load_renderer(config: TrainingConfig) -> ChatRenderer:
    """The chat template of the run's tokenizer, joined with the config's thinking format.

    Raises:
        ConfigError: there is no tokenizer, or it does not fit the template or the format.
    """
    tokenizer = load_tokenizer(config)
    try:
        return ChatRenderer(tokenizer, config.thinking_format, config.conditional_control)
    except ValueError as error:
        raise ConfigError(f"{_named(config)}, thinking_format {config.thinking_format.name}: {error}") from error


def load_tokenizer(config: TrainingConfig) -> PreTrainedTokenizerBase:
    """The run's tokenizer: the config's `tokenizer`, or else the model's own.

    Raises:
        ConfigError: there is none.
    """
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(config.tokenizer or config.model)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{_named(config)}: no tokenizer could be loaded; give a Hugging Face id that can be reached, or a folder "
            f"with tokenizer files ({str(error).splitlines()[0]})"
        ) from error


def _named(config: TrainingConfig) -> str:
    return f"model {config.model}" if config.tokenizer is None else f"tokenizer {config.tokenizer}"


def _check_ids(traces: list[Trace], path: str) -> None:
    seen: set[str] = set()
    for trace in traces:
        if trace.id in seen:
            raise ConfigError(f"{path}: id {trace.id!r} occurs twice; every trace needs an id of its own")
        seen.add(trace.id)
