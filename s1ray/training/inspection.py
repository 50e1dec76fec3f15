"""`s1ray train inspect`: training rows as the model will see them, with masked text in grey.

    for row in inspect_rows(config, rows=3):
        show(row, Console())

On a terminal, masked text is grey and control tokens are coloured. Anywhere else masked text is in brackets, so that
the output can be piped, searched and compared.
"""

from __future__ import annotations

import dataclasses
import difflib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from s1ray.config import ConfigError
from s1ray.schemas import Example
from s1ray.training.config import TrainingConfig
from s1ray.training.data.conversations import Conversation
from s1ray.training.data.examples import Unusable, tokenise
from s1ray.training.data.preparation import kept_date, load_renderer
from s1ray.training.data.sources import read_conversations

if TYPE_CHECKING:
    from rich.console import Console
    from transformers import PreTrainedTokenizerBase

MASKED = ("⟦", "⟧")
"""Brackets around masked text where there is no colour."""
STYLES = {(True, False): "", (True, True): "bold cyan", (False, False): "bright_black", (False, True): "dim cyan"}
"""(trained, control) -> rich style."""


@dataclasses.dataclass(frozen=True)
class Span:
    """A piece of text that is all trained or all masked."""

    text: str
    trained: bool
    control: bool
    """A single control token, such as <|im_start|>."""


@dataclasses.dataclass(frozen=True)
class InspectedRow:
    """A training row, cut into spans."""

    example: Example
    spans: list[Span]
    first_trained: str
    """The first trained token: its position, counted from 0, its text and its id."""
    last_trained: str

    @property
    def trained(self) -> int:
        """Trained tokens."""
        return sum(self.example.loss_mask)


def inspect_rows(
    config: TrainingConfig, *, rows: int = 3, ids: Sequence[str] = ()
) -> Iterator[InspectedRow | Unusable]:
    """Some of a config's training rows; tokenises no others.

    Args:
        rows: how many of the first rows, if `ids` is empty.
        ids: ids of traces.

    Raises:
        ConfigError: an id is not among the traces, or the model's tokenizer does not fit.
    """
    config = config.with_local_models()
    renderer = load_renderer(config, kept_date(config))
    everything = read_conversations(config)
    chosen = _chosen(everything, ids, config.traces) if ids else itertools.islice(everything, rows)
    for row in tokenise(chosen, renderer, config.max_length):
        yield row if isinstance(row, Unusable) else split_spans(row.example(), renderer.tokenizer)


def split_spans(example: Example, tokenizer: PreTrainedTokenizerBase) -> InspectedRow:
    """An example's text, split where the mask changes and around control tokens."""
    controls = set(tokenizer.get_added_vocab().values())
    spans = []
    tokens = enumerate(zip(example.input_ids, example.loss_mask, strict=True))
    # Each control token is a group of its own; ordinary tokens are decoded together, as a character may span several.
    for (trained, control), group in itertools.groupby(
        tokens, key=lambda entry: (entry[1][1], entry[0] if entry[1][0] in controls else None)
    ):
        text = tokenizer.decode([token for _, (token, _) in group], skip_special_tokens=False)
        spans.append(Span(text, trained, control is not None))
    trained_positions = [position for position, trained in enumerate(example.loss_mask) if trained]
    first, last = (_token(example, position, tokenizer) for position in (trained_positions[0], trained_positions[-1]))
    return InspectedRow(example, spans, first, last)


def show(row: InspectedRow | Unusable, console: Console) -> None:
    """Print a row: a line about it, then its text."""
    from rich.text import Text

    if isinstance(row, Unusable):
        console.print(Text(f"{row.id}: unusable, {row.reason} ({row.detail})", style="bold red"), soft_wrap=True)
        return
    total = len(row.example.input_ids)
    console.print(
        Text(
            f"{row.example.id}: {total:,} tokens, {total - row.trained:,} masked, {row.trained:,} trained "
            f"(first: {row.first_trained}; last: {row.last_trained})",
            style="bold",
        ),
        soft_wrap=True,
    )
    text = Text()
    for trained, spans in itertools.groupby(row.spans, key=lambda span: span.trained):
        brackets = ("", "") if trained or console.is_terminal else MASKED
        text.append(brackets[0])
        for span in spans:
            text.append(span.text, style=STYLES[trained, span.control])
        text.append(brackets[1])
    console.print(text, soft_wrap=True)


def _token(example: Example, position: int, tokenizer: PreTrainedTokenizerBase) -> str:
    token = example.input_ids[position]
    return f"{position:,} {tokenizer.decode([token], skip_special_tokens=False)!r}, id {token}"


def _chosen(
    conversations: Iterable[Conversation | Unusable], ids: Sequence[str], path: str
) -> list[Conversation | Unusable]:
    found: dict[str, Conversation | Unusable] = {}
    known = []
    for conversation in conversations:
        known.append(conversation.id)
        if conversation.id in ids:
            found[conversation.id] = conversation
    for wanted in ids:
        if wanted not in found:
            near = difflib.get_close_matches(wanted, known, n=3, cutoff=0.5) or known[:3]
            raise ConfigError(f"{path}: no trace has the id {wanted!r}; there are, for example, {', '.join(near)}")
    return [found[wanted] for wanted in ids]
