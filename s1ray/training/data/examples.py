r"""Traces as the model sees them: token ids, and which of them carry loss.

The text is s1's (from its `data/tokenization.py` and `train/sft.py`): the tokenizer's own chat template renders the
question as the user's turn and opens the assistant's; thinking and answer follow in the thinking format's delimiters,
and then whatever the template puts after an assistant's message. For Qwen2.5 and s1:

    ...<|im_start|>assistant\n | <|im_start|>think\n{thinking}\n<|im_start|>answer\n{attempt}<|im_end|>\n

Nothing left of the bar is trained; everything right of it is, including the end of the turn and the line break after
it. The two sides are tokenised separately, as an inference engine does with prompt and output, so the mask is known
rather than searched for, and does not depend on padding.

Rows that cannot be trained on whole come back as `Unusable`, with the reason. Nothing is ever cut.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from s1ray.errors import InputError
from s1ray.schemas import Example, Trace
from s1ray.thinking.format import ThinkingFormat
from s1ray.training.data.conditional_control import Control, ask, count_down, split_steps, step_marker, upper_bound
from s1ray.training.data.dataset import Ids, Mask

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SENTINEL = "s1ray-assistant-message"
"""Stands for the assistant's message while the template's text after a message is read off."""
BATCH = 256
"""Rows tokenised in one call, so that the tokenizer can use its threads."""
BATCH_CHARACTERS = 1 << 21
"""Most text of one call: a token id in a Python list is large."""
MAX_NAMED = 1000
"""Unusable rows that are remembered by name."""


@dataclasses.dataclass(frozen=True)
class Unusable:
    """A trace that cannot be trained on."""

    id: str
    reason: str
    """A short code: too_long, cut_by_teacher, no_thinking, no_answer, delimiter_in_text."""
    detail: str


@dataclasses.dataclass(frozen=True)
class ChatText:
    """The texts of one training sequence."""

    prompt: str
    """Everything before the assistant's message; not trained."""
    response: str
    """Thinking, answer and the end of the turn; trained."""


class ChatRenderer:
    """Renders traces with a tokenizer's chat template and a thinking format."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, thinking_format: ThinkingFormat, control: Control = "none"):
        """Find out what the chat template puts after an assistant's message.

        Args:
            control: whether and how to condition the examples on the length of their thinking
                (`conditional_control`).

        Raises:
            InputError: the tokenizer has no usable chat template, or one that opens the thinking differently from the
                format, or the format has no way to count steps.
            ValueError: the tokenizer cannot express the format.
        """
        self.tokenizer = tokenizer
        self.format = thinking_format
        self._control = control
        self._name = getattr(tokenizer, "name_or_path", "") or type(tokenizer).__name__
        if not getattr(tokenizer, "chat_template", None):
            raise InputError(
                f"tokenizer {self._name!r} has no chat template; train an instruct model, or add a chat_template to "
                "the model's tokenizer folder"
            )
        thinking_format.resolve(tokenizer)
        self.turn_end = self._turn_end()
        self._markup = self._reserved_texts()
        # Reserved tokens, such as Llama's, are only among the added ones.
        controls = [*tokenizer.all_special_tokens, *tokenizer.get_added_vocab()]
        self._step_marker = step_marker(thinking_format, controls) if control == "step" else ""
        self.render("question", "thinking", "answer")

    def prompt(self, question: str) -> str:
        """The user's turn, and the opening of the assistant's."""
        messages = [{"role": "user", "content": question}]
        return str(self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))

    def render(self, question: str, thinking: str, attempt: str) -> ChatText:
        """Prompt and response of one example."""
        question, message = self._turns(question, thinking, attempt)
        prompt = self.prompt(question)
        opening = prompt[len(prompt.rstrip()) - len(self.format.start) :]
        if opening.startswith(self.format.start):
            # The template itself opens the thinking (DeepSeek R1's does), so the model never writes that part.
            if not message.startswith(opening):
                raise InputError(
                    f"the chat template of {self._name!r} opens the thinking with {opening!r}, but thinking format "
                    f"{self.format.name!r} opens it with {message[: len(opening)]!r}; choose the format that fits the "
                    "model"
                )
            message = message.removeprefix(opening)
        return ChatText(prompt, message + self.turn_end)

    def token_ids(self, texts: list[str]) -> list[list[int]]:
        """Token ids of some texts, without anything added."""
        ids: list[list[int]] = self.tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else []
        return ids

    def markup_in(self, text: str) -> str | None:
        """A delimiter or control token in a text, which the model would read as structure rather than as text."""
        return next((markup for markup in self._markup if markup in text), None)

    def _turns(self, question: str, thinking: str, attempt: str) -> tuple[str, str]:
        """The user's message and the assistant's."""
        message = self.format.render_assistant(thinking, attempt)
        if self._control == "token":
            (ids,) = self.tokenizer([thinking.strip()], add_special_tokens=False)["input_ids"]
            question = ask(question, upper_bound(len(ids)), "tokens")
        elif self._control == "step":
            steps = split_steps(thinking)
            limit = upper_bound(len(steps))
            question = ask(question, limit, "steps")
            # Everything after the thinking stays as it is, including the answer's prefix.
            closing = message.removeprefix(f"{self.format.start}\n{thinking.strip()}\n")
            message = count_down(steps, limit, self._step_marker) + closing
        return question, message

    def _turn_end(self) -> str:
        messages = [{"role": "user", "content": "question"}, {"role": "assistant", "content": SENTINEL}]
        _, found, after = str(self.tokenizer.apply_chat_template(messages, tokenize=False)).partition(SENTINEL)
        if not found:
            raise InputError(f"the chat template of {self._name!r} leaves out the assistant's message")
        if not after.strip():
            raise InputError(
                f"the chat template of {self._name!r} puts no end-of-turn token after the assistant's message, so the "
                "model could not learn to stop; use a template that does"
            )
        return after

    def _reserved_texts(self) -> tuple[str, ...]:
        special = set(self.tokenizer.all_special_tokens)
        delimiters = {self.format.start, self.format.end, *self.format.end_triggers}
        return tuple(sorted(special | delimiters, key=lambda text: (-len(text), text)))


@dataclasses.dataclass(frozen=True)
class Tokenised:
    """A trace as token ids."""

    trace: Trace
    ids: Ids
    mask: Mask
    """True where the token is a training target."""


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

    def __len__(self) -> int:
        return self.counts.total()


def tokenise(traces: Iterable[Trace], renderer: ChatRenderer, max_length: int) -> Iterator[Tokenised | Unusable]:
    """Tokenise traces, in order and a batch at a time.

    Args:
        max_length: most tokens of one example.
    """
    for batch in _batches(traces):
        found = [_problem(t, renderer) or renderer.render(t.question, t.thinking, t.attempt) for t in batch]
        texts = [text for text in found if isinstance(text, ChatText)]
        prompts = iter(renderer.token_ids([text.prompt for text in texts]))
        responses = iter(renderer.token_ids([text.response for text in texts]))
        for trace, text in zip(batch, found, strict=True):
            if isinstance(text, Unusable):
                yield text
                continue
            prompt, response = next(prompts), next(responses)
            length = len(prompt) + len(response)
            if length > max_length:
                yield Unusable(trace.id, "too_long", f"{length} tokens, max_length is {max_length}")
                continue
            mask = np.zeros(length, dtype=bool)
            mask[len(prompt) :] = True
            yield Tokenised(trace, np.array([*prompt, *response], dtype=np.int32), mask)


def build_examples(
    traces: Iterable[Trace], renderer: ChatRenderer, max_length: int
) -> tuple[list[Example], list[Unusable]]:
    """The same at once, for a few traces."""
    rows = list(tokenise(traces, renderer, max_length))
    examples = [
        Example(id=row.trace.id, input_ids=row.ids.tolist(), loss_mask=row.mask.tolist())
        for row in rows
        if isinstance(row, Tokenised)
    ]
    return examples, [row for row in rows if isinstance(row, Unusable)]


def explain(unusable: UnusableRows, *, shown: int = 10) -> str:
    """The unusable rows for a message: how many for each reason, and the first of them by id."""
    counts = ", ".join(f"{number} {reason}" for reason, number in sorted(unusable.counts.items()))
    lines = [f"{len(unusable)} unusable row(s): {counts}"]
    lines += [f"  {row.id}: {row.reason} ({row.detail})" for row in unusable.first[:shown]]
    if len(unusable) > shown:
        lines.append(f"  ... and {len(unusable) - shown} more")
    return "\n".join(lines)


def _problem(trace: Trace, renderer: ChatRenderer) -> Unusable | None:
    if trace.finish_reason == "length":
        return Unusable(trace.id, "cut_by_teacher", "finish_reason is 'length'")
    if not trace.thinking.strip():
        return Unusable(trace.id, "no_thinking", "the thinking is empty")
    if not trace.attempt.strip():
        return Unusable(trace.id, "no_answer", "the attempt is empty")
    for field in ("question", "thinking", "attempt"):
        if (markup := renderer.markup_in(getattr(trace, field))) is not None:
            return Unusable(trace.id, "delimiter_in_text", f"{field} contains {markup!r}")
    return None


def _batches(traces: Iterable[Trace]) -> Iterator[list[Trace]]:
    batch: list[Trace] = []
    characters = 0
    for trace in traces:
        batch.append(trace)
        characters += len(trace.question) + len(trace.thinking) + len(trace.attempt)
        if len(batch) == BATCH or characters >= BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch
