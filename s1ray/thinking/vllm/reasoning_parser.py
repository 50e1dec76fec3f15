"""Splits thinking from answer in vLLM's OpenAI server, for every `ThinkingFormat`.

vLLM has no parser for s1's delimiters (several tokens each, and the end's first token is also the start's). Importing
this module registers one parser for each preset (`s1ray_s1`, `s1ray_deepseek_r1`, `s1ray_qwen3`); `register` makes one
for another format. The engine's own process looks the name up as well, so pass both:

    AsyncEngineArgs(..., reasoning_parser=register(fmt), reasoning_parser_plugin=plugin_file(fmt))

The text goes to `reasoning` and `content` without the delimiters and the line breaks around them; a forced beginning of
the answer ("Final Answer:") belongs to the content. Streaming and whole responses give the same two texts, also where
the prompt has opened the thinking already.
"""

from __future__ import annotations

import atexit
import hashlib
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, ClassVar

from vllm.entrypoints.generate.base.protocol import DeltaMessage
from vllm.reasoning import ReasoningParser, ReasoningParserManager

from s1ray.thinking.accounting import thinking_begin
from s1ray.thinking.format import PRESETS, ThinkingFormat, TokenizedFormat
from s1ray.thinking.prompt import PromptState, prompt_state
from s1ray.thinking.splitter import ThinkingSplitter


@lru_cache(maxsize=16)
def _resolve(fmt: ThinkingFormat, tokenizer: Any) -> TokenizedFormat:
    """Once for a tokenizer, not for every response."""
    return fmt.resolve(tokenizer)


class ThinkingReasoningParser(ReasoningParser):  # type: ignore[misc]  # vLLM's types are not followed
    """A parser for the format of its subclass; made by `register`. vLLM makes one instance for each response."""

    thinking_format: ClassVar[ThinkingFormat]

    engine_based_streaming = True
    """Deltas only (no growing text), and a flush at the end: what may be a begun delimiter is held back until then."""

    def __init__(self, tokenizer: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(tokenizer, *args, **kwargs)
        self._tokenized = _resolve(self.thinking_format, tokenizer)
        self._prompt: PromptState | None = None
        self._splitter: ThinkingSplitter | None = None
        self._counted = 0

    @property
    def reasoning_start_str(self) -> str:
        """The start delimiter."""
        return self.thinking_format.start

    @property
    def reasoning_end_str(self) -> str:
        """The end delimiter."""
        return self.thinking_format.end

    def adjust_request(self, request: Any) -> Any:
        """Ask for text with its delimiters, as they are: s1's begin with a special token."""
        for name in ("skip_special_tokens", "spaces_between_special_tokens"):
            if hasattr(request, name):
                setattr(request, name, False)
        return request

    def is_reasoning_end(self, input_ids: Sequence[int]) -> bool:
        """Whether a prompt leaves no thinking to come. The server asks this of every prompt before anything else, and
        the parser remembers the answer for the response.
        """
        fmt = self._tokenized
        self._prompt = prompt_state(fmt.start, fmt.end, fmt.end_triggers, input_ids)
        return self._prompt is PromptState.CLOSED

    def is_reasoning_end_streaming(self, input_ids: Sequence[int], delta_ids: Iterable[int]) -> bool:
        """Whether the end delimiter was completed by the last ids (`delta_ids`, the tail of `input_ids`)."""
        end = self._tokenized.end
        new = len(list(delta_ids))
        tail = tuple(input_ids[max(0, len(input_ids) - new - len(end) + 1) :])
        return any(tail[i : i + len(end)] == end for i in range(len(tail) - len(end) + 1))

    def extract_content_ids(self, input_ids: list[int]) -> list[int]:
        """The ids after the end delimiter; all of them where it was complete before."""
        end = list(self._tokenized.end)
        for i in range(len(input_ids) - len(end) + 1):
            if input_ids[i : i + len(end)] == end:
                return input_ids[i + len(end) :]
        return input_ids if self.has_engine_confirmed_reasoning_end() else []

    def count_reasoning_tokens(self, token_ids: Sequence[int]) -> int:
        """Thinking tokens of a response (or of its beginning, in a stream), delimiters not counted."""
        begin = thinking_begin(self._tokenized, self._prompt or PromptState.ABSENT, token_ids)
        if begin is None:
            return 0
        triggers = self._tokenized.end_triggers
        # A stream asks again with every chunk: what was thinking then still is.
        known = begin + self._counted if self._splitter is not None else begin
        stop = next((i for i in range(known, len(token_ids)) if token_ids[i] in triggers), len(token_ids))
        self._counted = stop - begin
        return self._counted

    def extract_reasoning(self, model_output: str, request: Any) -> tuple[str | None, str | None]:
        """Thinking and answer of a whole response."""
        if self._prompt is None:
            thinking, answer = self.thinking_format.split(model_output)
        elif self._prompt is PromptState.CLOSED:
            thinking, answer = "", model_output
        else:
            splitter = self._new_splitter()
            thinking, answer = splitter.feed(model_output)
            held_thinking, held_answer = splitter.finish()
            thinking, answer = thinking + held_thinking, answer + held_answer
        return thinking or None, answer or None

    def adjust_initial_state_from_prompt(self, prompt_token_ids: Sequence[int]) -> None:
        """Take note of whether the prompt opened the thinking, before a stream begins."""
        self.is_reasoning_end(prompt_token_ids)

    def extract_reasoning_streaming(
        self,
        previous_text: str,
        current_text: str,
        delta_text: str,
        previous_token_ids: Sequence[int],
        current_token_ids: Sequence[int],
        delta_token_ids: Sequence[int],
    ) -> DeltaMessage | None:
        """What a stream's next piece of text adds to thinking and answer; None: nothing yet."""
        if self._splitter is None:
            self._splitter = self._new_splitter()
        return _delta(*self._splitter.feed(delta_text))

    def has_engine_confirmed_reasoning_end(self) -> bool:
        """Whether the answer has begun: from there vLLM passes the text on as content."""
        return self._splitter is not None and self._splitter.answering

    def finish_streaming(self) -> DeltaMessage | None:
        """What was held back when the stream ended."""
        return None if self._splitter is None else _delta(*self._splitter.finish())

    def _new_splitter(self) -> ThinkingSplitter:
        fmt = self.thinking_format
        return ThinkingSplitter(fmt.start, fmt.end, opened=self._prompt is PromptState.OPEN)


def _delta(thinking: str, answer: str) -> DeltaMessage | None:
    if not thinking and not answer:
        return None
    return DeltaMessage(reasoning=thinking or None, content=answer or None)


def parser_name(fmt: ThinkingFormat) -> str:
    """The name under which a format's parser is registered."""
    return f"s1ray_{fmt.name}"


def register(fmt: ThinkingFormat) -> str:
    """Register a parser for a format in this process; give its name for vLLM's `reasoning_parser`."""
    name = parser_name(fmt)
    parser = type(f"ThinkingReasoningParser_{fmt.name}", (ThinkingReasoningParser,), {"thinking_format": fmt})
    ReasoningParserManager.register_module(name, module=parser)
    return name


@cache
def plugin_file(fmt: ThinkingFormat) -> str:
    """A Python file that registers the format's parser in the process that imports it, for vLLM's
    `reasoning_parser_plugin`. For a preset this module itself; otherwise a file that lives as long as this process.
    """
    if PRESETS.get(fmt.name) == fmt:
        return __file__
    text = (
        f"from {ThinkingFormat.__module__} import ThinkingFormat\n"
        "from s1ray.thinking.vllm.reasoning_parser import register\n\n"
        f"register(ThinkingFormat.model_validate_json({fmt.model_dump_json()!r}))\n"
    )
    folder = Path(tempfile.mkdtemp(prefix="s1ray-parser-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = folder / f"s1ray_parser_{hashlib.sha256(text.encode()).hexdigest()[:12]}.py"
    path.write_text(text, encoding="utf-8")
    return str(path)


for _preset in PRESETS.values():
    register(_preset)
