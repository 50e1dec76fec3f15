"""Conversations as the model sees them: token ids, and which of them carry loss.

Prompt and response are tokenised separately, as an inference engine does, so the mask is known rather than searched
for, and does not depend on padding: nothing of the prompt is trained, and everything of the response is, including the
end of the turn and the line break after it.

Turns share a row where the prompt of the later one continues the earlier one's text (templates keep the thinking
between tool calls, for instance); otherwise the later turn becomes a row of its own. So no text is ever trained on that
the model would not see or write when it is served.

Rows that cannot be trained on whole come back as `Unusable`, with the reason. Nothing is ever cut.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from s1ray.schemas import Example, Trace
from s1ray.training.data.conversations import Conversation
from s1ray.training.data.dataset import Ids, Mask
from s1ray.training.data.renderer import ChatRenderer, ChatText, UnusableError

BATCH = 256
"""Conversations tokenised in one call, so that the tokenizer can use its threads."""
BATCH_CHARACTERS = 1 << 21
"""Most text of one call: a token id in a Python list is large."""
MAX_NAMED = 1000
"""Unusable rows that are remembered by name."""

Piece = tuple[str, bool]
"""A text, and whether it is trained."""


@dataclasses.dataclass(frozen=True)
class Unusable:
    """A row that cannot be trained on."""

    id: str
    reason: str
    """A short code: too_long, cut_by_teacher, no_thinking, no_answer, delimiter_in_text, several_turns, malformed,
    not_trained, refused_by_template, altered_by_template."""
    detail: str


@dataclasses.dataclass(frozen=True)
class Tokenised:
    """A row as token ids."""

    id: str
    """The conversation's; with "/2" and so on where its turns make several rows."""
    group: str
    """The conversation's."""
    ids: Ids
    mask: Mask
    """True where the token is a training target."""

    def example(self) -> Example:
        """The same as lists."""
        return Example(id=self.id, input_ids=self.ids.tolist(), loss_mask=self.mask.tolist())


class UnusableRows:
    """The rows that cannot be trained on: how many for each reason, and the first of them.

    Attributes:
        counts: rows by reason.
        first: the first `MAX_NAMED` rows.
    """

    def __init__(self, rows: Iterable[Unusable] = ()):
        self.counts: collections.Counter[str] = collections.Counter()
        self.first: list[Unusable] = []
        for row in rows:
            self.add(row)

    def add(self, row: Unusable) -> None:
        """Count a row."""
        self.counts[row.reason] += 1
        if len(self.first) < MAX_NAMED:
            self.first.append(row)

    def summary(self) -> str:
        """How many for each reason."""
        return ", ".join(f"{number} {reason}" for reason, number in sorted(self.counts.items()))

    def __len__(self) -> int:
        return self.counts.total()


def tokenise(
    conversations: Iterable[Conversation | Unusable], renderer: ChatRenderer, max_length: int
) -> Iterator[Tokenised | Unusable]:
    """Tokenise conversations, in order and a batch at a time; what is unusable already is passed on.

    Args:
        max_length: most tokens of one row.
    """
    for batch in _batches(conversations):
        rows = [row for conversation in batch for row in _rows(conversation, renderer)]
        pieces = [text for row in rows if isinstance(row, _Row) for text, _ in row.pieces]
        ids = iter(renderer.token_ids(pieces))
        for row in rows:
            if isinstance(row, Unusable):
                yield row
                continue
            parts = [(next(ids), trained) for _, trained in row.pieces]
            length = sum(len(part) for part, _ in parts)
            if length > max_length:
                yield Unusable(row.id, "too_long", f"{length} tokens, max_length is {max_length}")
                continue
            tokens = np.concatenate([np.asarray(part, dtype=np.int32) for part, _ in parts])
            mask = np.concatenate([np.full(len(part), trained) for part, trained in parts])
            yield Tokenised(row.id, row.group, tokens, mask)


def build_examples(
    traces: Iterable[Trace], renderer: ChatRenderer, max_length: int
) -> tuple[list[Example], list[Unusable]]:
    """The same at once, for a few traces."""
    rows = list(tokenise(map(Conversation.of, traces), renderer, max_length))
    examples = [row.example() for row in rows if isinstance(row, Tokenised)]
    return examples, [row for row in rows if isinstance(row, Unusable)]


def explain(unusable: UnusableRows, *, shown: int = 10) -> str:
    """The unusable rows for a message: how many for each reason, and the first of them by id."""
    lines = [f"{len(unusable)} unusable row(s): {unusable.summary()}"]
    lines += [f"  {row.id}: {row.reason} ({row.detail})" for row in unusable.first[:shown]]
    if len(unusable) > shown:
        lines.append(f"  ... and {len(unusable) - shown} more")
    return "\n".join(lines)


@dataclasses.dataclass(frozen=True)
class _Row:
    id: str
    group: str
    pieces: list[Piece]


def _rows(conversation: Conversation | Unusable, renderer: ChatRenderer) -> list[_Row | Unusable]:
    if isinstance(conversation, Unusable):
        return [conversation]
    try:
        sequences = join_turns(renderer.turns(conversation))
    except UnusableError as error:
        return [Unusable(conversation.id, error.reason, error.detail)]
    names = [conversation.id, *(f"{conversation.id}/{number}" for number in range(2, len(sequences) + 1))]
    return [_Row(name, conversation.group, pieces) for name, pieces in zip(names, sequences, strict=True)]


def join_turns(turns: Sequence[ChatText]) -> list[list[Piece]]:
    """The rows that some turns of a conversation make: one, as long as each continues the text of those before."""
    rows: list[list[Piece]] = []
    text = ""
    for turn in turns:
        if not rows or not turn.prompt.startswith(text):
            rows.append([])
            text = ""
        rows[-1] += [(turn.prompt[len(text) :], False), (turn.response, True)]
        text = turn.prompt + turn.response
    return rows


def _batches(conversations: Iterable[Conversation | Unusable]) -> Iterator[list[Conversation | Unusable]]:
    batch: list[Conversation | Unusable] = []
    characters = 0
    for conversation in conversations:
        batch.append(conversation)
        characters += 0 if isinstance(conversation, Unusable) else conversation.characters
        if len(batch) == BATCH or characters >= BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch
