r"""A tokenizer's chat template, judged by the text that it writes.

What is trained is the prompt as the template renders it, and after it the assistant's turn in the thinking format. So
a template is tried once on texts that are known, and refused in words where a model could not be served as it was
trained:

- it loses or repeats the user's or the assistant's text;
- it opens the assistant's turn otherwise than the format does (`<think>` under s1), or with a closed thinking;
- it ignores `add_generation_prompt`, so the header of the assistant's turn would be missing;
- nothing ends the assistant's turn.

What it writes after the end of the last turn (Phi's `<|endoftext|>`) is no part of a row. Today's date, which some
templates write into the system prompt, is the date that it is told.
"""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from s1ray.errors import InputError
from s1ray.thinking.format import ThinkingFormat

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

USER, ASSISTANT, NEXT = "s1ray-user-message", "s1ray-assistant-message", "s1ray-next-message"
"""Stand for the messages while a template is judged."""
THINKING_MARKER = re.compile(r"think|thought|reason|reflect|ponder|channel", re.IGNORECASE)
"""What the markers of model families that open or close their thinking contain."""

DATE_CALL = re.compile(r"""strftime_now\(\s*(?P<quote>["'])(?P<form>.*?)(?P=quote)\s*\)""")

Messages = Sequence[Mapping[str, Any]]
"""A conversation as `apply_chat_template` takes it."""


@dataclass(frozen=True)
class Frame:
    """What a template writes around the texts of a conversation of one question."""

    before: str
    """Before the user's text."""
    between: str
    """From the end of the user's text to where the model begins to write."""
    header: str
    """The part of it by which the template opens the assistant's turn; empty where it needs none."""
    opening: str
    """The end of `between` that is the format's own start, where the template opens the thinking; else empty."""
    raw_end: str
    """After the assistant's text, all of it."""
    turn_end: str
    """The part of it that belongs to the turn: the end-of-turn token, and the line break after it."""


class ChatTemplate:
    """Renders messages with a tokenizer's chat template.

    Attributes:
        name: of the tokenizer, for messages.
        date: the date that the template is told.
        uses_date: whether it asks for one.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, date: datetime.date):
        """Raises InputError where there is no template."""
        self.name = getattr(tokenizer, "name_or_path", "") or type(tokenizer).__name__
        self.date = date
        self.uses_date = False
        self._tokenizer = tokenizer
        template = getattr(tokenizer, "chat_template", None)
        if not template:
            raise InputError(
                f"tokenizer {self.name!r} has no chat template; train an instruct model, or add a chat_template to "
                "the model's tokenizer folder"
            )
        self.uses_date = "strftime_now(" in str(template)

    def _dated(self, template: str) -> str:
        """The template with the date in place of the calls that would ask the clock."""
        moment = datetime.datetime(self.date.year, self.date.month, self.date.day)
        dated = DATE_CALL.sub(lambda call: json.dumps(moment.strftime(call["form"])), template)
        if "strftime_now(" in dated:
            raise InputError(
                f"the chat template of {self.name!r} computes the format of the date that it writes, so the date "
                "cannot be fixed for the run; give a tokenizer with another template"
            )
        return dated

    def render(self, messages: Messages, *, opened: bool, tools: Sequence[Mapping[str, Any]] | None = None) -> str:
        """The text of some messages.

        Args:
            opened: end where the assistant begins to write (`add_generation_prompt`).

        Raises:
            InputError: the template refuses them.
        """
        settings: dict[str, Any] = {"tools": list(tools)} if tools else {}
        if self.uses_date:
            settings["chat_template"] = self._dated(self._tokenizer.get_chat_template(tools=settings.get("tools")))
        try:
            return str(
                self._tokenizer.apply_chat_template(
                    [dict(message) for message in messages], tokenize=False, add_generation_prompt=opened, **settings
                )
            )
        except Exception as error:
            # A template can raise anything: it is a program that came with the tokenizer.
            said = str(error).strip().splitlines() or [type(error).__name__]
            roles = ", ".join(str(message["role"]) for message in messages)
            raise InputError(
                f"the chat template of {self.name!r} cannot render a conversation of {roles}: {said[0]}; change the "
                "rows, or give a tokenizer with another template (`tokenizer`)"
            ) from error

    def judge(self, fmt: ThinkingFormat, controls: Sequence[str], system_prompt: str | None) -> Frame:
        """Try the template on a question and an answer.

        Args:
            controls: texts of the tokenizer's control tokens.

        Raises:
            InputError: a model could not be served as it would be trained; says how.
        """
        asked: list[dict[str, str]] = [] if system_prompt is None else [{"role": "system", "content": system_prompt}]
        asked.append({"role": "user", "content": USER})
        answered = [*asked, {"role": "assistant", "content": ASSISTANT}]
        prompt, closed = self.render(asked, opened=True), self.render(asked, opened=False)
        if (count := prompt.count(USER)) != 1:
            raise InputError(f"the chat template of {self.name!r} writes the user's text {count} times in the prompt")
        if system_prompt is not None and system_prompt.strip() not in prompt:
            raise InputError(
                f"the chat template of {self.name!r} leaves out the system prompt; leave out system_prompt, or give a "
                "tokenizer with another template"
            )
        whole = self.render(answered, opened=False)
        if (count := whole.count(ASSISTANT)) != 1:
            how = "leaves out the assistant's message" if not count else f"writes the assistant's message {count} times"
            raise InputError(f"the chat template of {self.name!r} {how}")
        before, _, between = prompt.partition(USER)
        shown, _, raw_end = whole.partition(ASSISTANT)
        header = between if prompt == closed else _added(between, closed.partition(USER)[2], controls)
        opening = header[header.rindex(fmt.start) :] if header.rstrip().endswith(fmt.start) else ""
        header = header.removesuffix(opening)
        self._check_opening(fmt, header)
        known = prompt.removesuffix(opening).rstrip()
        if not shown.startswith(known):
            self._refuse_header(fmt, header + opening, shown[_common(known, shown) :])
        self._check_history(fmt, shown[len(known) :], ignored=prompt == closed)
        if prompt == closed:
            header = ""
            if raw_end == between and len(_pieces(raw_end, controls)) > 3:
                raise InputError(
                    f"the chat template of {self.name!r} ignores add_generation_prompt: it opens a turn of the "
                    "assistant even after one; give a tokenizer with a template that does so only when asked"
                )
        turn_end = self._turn_end(answered, raw_end, header, controls)
        return Frame(before, between, header, opening, raw_end, turn_end)

    def _check_opening(self, fmt: ThinkingFormat, header: str) -> None:
        if THINKING_MARKER.search(header):
            raise InputError(
                f"the chat template of {self.name!r} opens the assistant's turn with {header!r}, but thinking format "
                f"{fmt.name!r} opens it with {fmt.start!r}; choose the format that fits the model, or give a tokenizer "
                "with another template"
            )

    def _refuse_header(self, fmt: ThinkingFormat, header: str, shown: str) -> None:
        raise InputError(
            f"the chat template of {self.name!r} opens a turn that the model writes with {header!r}, but one that it "
            f"has written with {shown!r}; the model would be served otherwise than it was trained under thinking "
            f"format {fmt.name!r}"
        )

    def _check_history(self, fmt: ThinkingFormat, rest: str, *, ignored: bool) -> None:
        """Refuse what a turn in the history begins with and the prompt lacks, but for an empty thinking (Qwen3's)."""
        unknown = rest.strip()
        if unknown in fmt.end:
            return
        for delimiter in (fmt.start, fmt.end, "<think>", "</think>"):
            unknown = unknown.replace(delimiter, "").strip()
        if not unknown:
            return
        if ignored:
            raise InputError(
                f"the chat template of {self.name!r} ignores add_generation_prompt: {rest.strip()!r}, which opens the "
                "assistant's turn, is missing in the prompt; give a tokenizer with a template that adds it"
            )
        raise InputError(
            f"the chat template of {self.name!r} writes {rest.strip()!r} before the assistant's message, which neither "
            f"the prompt nor thinking format {fmt.name!r} has; choose the format that fits the model"
        )

    def _turn_end(self, answered: Messages, raw_end: str, header: str, controls: Sequence[str]) -> str:
        stripped = raw_end.lstrip()
        token = max((text for text in controls if text and stripped.startswith(text)), key=len, default="")
        # Where a turn's header follows at once, its token would be taken for the end.
        if not token or token in header:
            raise InputError(
                f"the chat template of {self.name!r} puts no end-of-turn token after the assistant's message, so the "
                "model could not learn to stop; use a template that does"
            )
        end = raw_end[: len(raw_end) - len(stripped)] + token
        space = raw_end[len(end) : len(raw_end) - len(raw_end[len(end) :].lstrip())]
        try:
            going_on = self.render([*answered, {"role": "user", "content": NEXT}], opened=False)
        except InputError:
            return end + space  # It takes no second question.
        after = going_on.partition(ASSISTANT)[2]
        # A line break belongs to the turn if it is there whatever follows.
        return end + (space[: _common(space, after[len(end) :])] if after.startswith(end) else space)


def _common(one: str, other: str) -> int:
    """Characters at the beginning of two texts that are the same."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(one), len(other)))


def _pieces(text: str, controls: Sequence[str]) -> list[str]:
    """A text, cut before and after each control token."""
    longest_first = sorted(filter(None, controls), key=len, reverse=True)
    return re.split(f"({'|'.join(map(re.escape, longest_first))})", text) if longest_first else [text]


def _added(opened: str, closed: str, controls: Sequence[str]) -> str:
    """What the first text has after the pieces that both begin with."""
    if opened.startswith(closed):
        return opened[len(closed) :]
    one, other = _pieces(opened, controls), _pieces(closed, controls)
    same = next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    return "".join(one[same:])
