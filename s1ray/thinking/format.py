"""Thinking formats: how a model family writes its thinking, as text and as token ids.

A format is data: where thinking starts, where it ends, which tokens say that the model wants to stop thinking, and what
introduces the answer when the end has to be forced. s1 (arXiv 2501.19393) was tied to Qwen2.5's `<|im_start|>`; here a
preset, or four strings in YAML, make another family work.

`ThinkingFormat` is the text. `ThinkingFormat.resolve(tokenizer)` checks that a tokenizer can express it, and gives the
token ids that budget forcing works on.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from s1ray.errors import InputError
from s1ray.thinking.splitter import ThinkingSplitter


class Tokenizer(Protocol):
    """What this room needs of a tokenizer; Hugging Face's and vLLM's have it."""

    @property
    def eos_token_id(self) -> Any:
        """Id of the end-of-sequence token, or None."""

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        """Token ids of a text."""

    def decode(self, token_ids: Any, *, skip_special_tokens: bool) -> str:
        """Text of token ids."""

    def convert_ids_to_tokens(self, ids: Any) -> list[str | None]:
        """The vocabulary's own spelling of each id."""

    def get_added_vocab(self) -> dict[str, int]:
        """Tokens that were added to the trained vocabulary, delimiters among them."""

    def __len__(self) -> int: ...


class ThinkingFormat(BaseModel):
    r"""The strings that separate thinking from answer.

    An assistant turn reads `{start}\n{thinking}\n{end}{answer_separator}{answer}`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    """What error messages, reports and parsers call the format."""
    start: str = Field(min_length=1)
    """Opens the thinking. Forced as the first output where the prompt does not already end inside thinking."""
    end: str = Field(min_length=1)
    """The end-of-thinking delimiter."""
    end_triggers: tuple[str, ...] = ()
    """Further texts whose first token means that the model wants to stop thinking. The first token of `end` and the
    end-of-sequence token always do."""
    tool_call: str = ""
    """Begins a tool call. Sampled while thinking it is an end trigger, too; it may begin an answer, though. Ignored
    where the tokenizer has no token of its own for it."""
    headers: tuple[str, ...] = ()
    """Further texts that the chat template writes between turns. Like start and end they cannot be written into an
    answer; neither can those end triggers that are special tokens. Ignored where the tokenizer has no token of its own
    for one."""
    answer_separator: str = "\n"
    """Stands between the end delimiter and the answer."""
    final_answer: str = "Final Answer:"
    """Begins the answer where the end of thinking was forced (s1, section 3.1). Empty: the answer is left to the
    model."""
    answer_prefix: str = ""
    """Put in front of a training answer that lacks it (s1 trains on "Answer: ..."). Empty: answers stay as they are."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.start == self.end:
            raise ValueError(f"end: must differ from start, both are {self.start!r}")
        if not all(self.headers):
            raise ValueError("headers: a header must not be empty")
        if any(not trigger for trigger in self.end_triggers):
            raise ValueError("end_triggers: a trigger must not be empty")
        return self

    @classmethod
    def preset(cls, name: str) -> ThinkingFormat:
        """The format of a known model family.

        Raises:
            InputError: there is no such preset; the message lists the presets.
        """
        try:
            return PRESETS[name]
        except KeyError:
            raise InputError(
                f"no thinking format is called {name!r}; presets are {', '.join(PRESETS)}. "
                "For another model family give start, end, end_triggers and final_answer."
            ) from None

    def render_assistant(self, thinking: str, attempt: str) -> str:
        """The assistant's message for training: thinking and answer, without the chat template's own tokens.

        For s1 this is the text of s1's `sft.py`; both parts are stripped, and "Answer: " precedes an attempt that does
        not say "Answer:" anywhere.
        """
        return f"{self.start}\n{thinking.strip()}\n{self.end}{self.answer_separator}{self.render_answer(attempt)}"

    def render_answer(self, attempt: str) -> str:
        """The answer within the assistant's message."""
        if self.answer_prefix and self.answer_prefix.strip() not in attempt:
            attempt = self.answer_prefix + attempt
        return attempt.strip()

    def split(self, text: str) -> tuple[str, str]:
        """Thinking and answer of a generated text (special tokens kept), without the delimiters and line breaks around.

        A text without any delimiter is all answer; one that never reaches the end delimiter is all thinking.
        """
        opened = not text.lstrip().startswith(self.start) and self.end in text
        splitter = ThinkingSplitter(self.start, self.end, opened=opened)
        thinking, answer = splitter.feed(text)
        more_thinking, more_answer = splitter.finish()
        return thinking + more_thinking, answer + more_answer

    def resolve(self, tokenizer: Tokenizer, eos_token_ids: Iterable[int] = ()) -> TokenizedFormat:
        """The format in a tokenizer's ids.

        Args:
            tokenizer: the model's.
            eos_token_ids: ids that end a response in addition to the tokenizer's own EOS (`generation_config.json` may
                list several).

        Raises:
            InputError: the tokenizer cannot express a delimiter; names the field and the tokenizer.
        """
        name = str(getattr(tokenizer, "name_or_path", "") or type(tokenizer).__name__)
        start = _expressible(self, "start", self.start, tokenizer, name)
        end = _expressible(self, "end", self.end, tokenizer, name)
        added_vocab = tokenizer.get_added_vocab()
        added = set(added_vocab.values())
        triggers = {_trigger_id(self, "end", self.end, end, added, name)}
        for trigger in self.end_triggers:
            ids = _expressible(self, "end_triggers", trigger, tokenizer, name)
            triggers.add(_trigger_id(self, "end_triggers", trigger, ids, added, name))
        tool_calls = frozenset({added_vocab[self.tool_call]} if self.tool_call in added_vocab else ())
        eos = list(eos_token_ids)
        if tokenizer.eos_token_id is not None:
            eos.insert(0, tokenizer.eos_token_id)
        opening = start[:1] if start[0] in added else start
        closing = end[:1] if end[0] in added and end[0] not in eos else end
        own = (added_vocab[text] for text in self.headers if text in added_vocab)
        headers = sorted((triggers & added).union(own).difference(eos, tool_calls))
        tokens = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
        spelled = {text: _spellings(tokenizer, text, added) for text in (self.start, self.end)}
        answer_ban = [opening, closing, *((token_id,) for token_id in headers), *itertools.chain(*spelled.values())]
        return TokenizedFormat(
            format=self,
            tokenizer=tokenizer,
            tokenizer_name=name,
            start=start,
            end=end,
            end_triggers=frozenset(triggers.union(eos, tool_calls)),
            tool_calls=tool_calls,
            eos=next(iter(eos), None),
            opening=opening,
            end_spellings=spelled[self.end],
            answer_ban=tuple(dict.fromkeys(answer_ban)),
            newline=_encode(tokenizer, "\n"),
            newline_ids=_newline_ids(tokenizer, tokens),
            blank_ids=_blank_ids(tokenizer, tokens),
            vocab_size=len(tokenizer),
        )


@dataclass(frozen=True)
class TokenizedFormat:
    """A `ThinkingFormat` in the ids of one tokenizer. Make it once a process: it walks the whole vocabulary."""

    format: ThinkingFormat
    tokenizer: Tokenizer = field(repr=False)
    tokenizer_name: str
    start: tuple[int, ...]
    end: tuple[int, ...]
    end_triggers: frozenset[int]
    """Ids that, sampled while thinking, mean that the model wants to stop; EOS among them."""
    tool_calls: frozenset[int]
    """Those of them that begin a tool call."""
    eos: int | None
    """Ends a response."""
    opening: tuple[int, ...]
    """What of `start` says that thinking begins: its first id where that is a token of its own, otherwise all."""
    end_spellings: tuple[tuple[int, ...], ...]
    """The end delimiter as ordinary text, which a reader of the text would take for it."""
    answer_ban: tuple[tuple[int, ...], ...]
    """What must not come to be in an answer: delimiters, their spellings as ordinary text, headers."""
    newline: tuple[int, ...]
    """The ids of a lone line break."""
    newline_ids: frozenset[int] = field(repr=False)
    """Every id whose text ends in a line break."""
    blank_ids: frozenset[int] = field(repr=False)
    """Every id whose text is white space."""
    vocab_size: int
    """Ids that the tokenizer knows; the model's embedding may have more rows, which mean nothing."""

    def encode(self, text: str) -> tuple[int, ...]:
        """Ids of a text, no special tokens added; delimiters within it become their own ids."""
        return _encode(self.tokenizer, text)

    def ending_in(self, text: str) -> tuple[int, ...]:
        """Every id whose text ends in a text that ends in a line break, in order."""
        return tuple(sorted(i for i in self.newline_ids if self.decode([i]).endswith(text)))

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text of ids, special tokens kept."""
        return self.tokenizer.decode(list(token_ids), skip_special_tokens=False)

    def texts(self, thinking: Sequence[Sequence[int]], answer: Sequence[Sequence[int]]) -> tuple[str, str]:
        """Thinking and answer as shown to people: no special tokens, no line breaks around.

        Args:
            thinking: the ids of each block.
            answer: the ids of each part.
        """
        return self._shown(thinking), self._shown(answer)

    def _shown(self, parts: Sequence[Sequence[int]]) -> str:
        texts = (self.tokenizer.decode(list(ids), skip_special_tokens=True).strip("\n") for ids in parts)
        return "\n\n".join(text for text in texts if text)


def eos_ids_of(model: str) -> list[int]:
    """The ids in a model's generation_config.json that end a response; none where there is no such file."""
    from transformers import GenerationConfig

    try:
        ids = GenerationConfig.from_pretrained(model).eos_token_id
    except OSError:
        return []
    return [ids] if isinstance(ids, int) else list(ids or ())


def _encode(tokenizer: Tokenizer, text: str) -> tuple[int, ...]:
    return tuple(tokenizer.encode(text, add_special_tokens=False))


def _expressible(fmt: ThinkingFormat, where: str, text: str, tokenizer: Tokenizer, name: str) -> tuple[int, ...]:
    ids = _encode(tokenizer, text)
    back = tokenizer.decode(list(ids), skip_special_tokens=False)
    if not ids or back != text:
        raise InputError(
            f"thinking format {fmt.name!r}, {where}: tokenizer {name!r} cannot express {text!r} "
            f"(it reads it back as {back!r}); add the delimiter to the tokenizer or choose another format"
        )
    return ids


def _trigger_id(fmt: ThinkingFormat, where: str, text: str, ids: tuple[int, ...], added: set[int], name: str) -> int:
    if ids[0] not in added and len(ids) > 1:
        raise InputError(
            f"thinking format {fmt.name!r}, {where}: tokenizer {name!r} has no token of its own for {text!r} and "
            f"writes it as {len(ids)} ordinary tokens, so its first token cannot mean the end of thinking; add it to "
            "the tokenizer as a special token, or choose the format that the model was trained with"
        )
    return ids[0]


def _spellings(tokenizer: Tokenizer, text: str, added: set[int]) -> tuple[tuple[int, ...], ...]:
    """A delimiter in the ids of ordinary text, as the tokenizer writes it at a word's beginning and before line breaks.

    Empty where the delimiter has no token of its own (its ids are these), or the tokenizer is none of the `tokenizers`
    library.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None or not added.intersection(_encode(tokenizer, text)):
        return ()
    found: dict[tuple[int, ...], None] = {}
    for before, after in itertools.product(("", " "), ("", "\n", "\n\n")):
        written = f"{before}{text}{after}"
        normal = backend.normalizer.normalize_str(written) if backend.normalizer is not None else written
        words = [normal]
        if backend.pre_tokenizer is not None:
            words = [word for word, _ in backend.pre_tokenizer.pre_tokenize_str(normal)]
        ids = tuple(token.id for word in words for token in backend.model.tokenize(word))
        if not added.intersection(ids) and text in tokenizer.decode(list(ids), skip_special_tokens=False):
            found[ids] = None
    return tuple(found)


def _blank_ids(tokenizer: Tokenizer, tokens: Sequence[str | None]) -> frozenset[int]:
    """Ids whose text is white space; parts of a character are not among them."""
    # "Ġ", "Ċ", "ĉ" and "č" in byte-level vocabularies, "▁" and "<0x20>" in others.
    spaces = [i for i, token in enumerate(tokens) if token and not token.strip(" \t\n\r\x0b\x0cĠĊĉčĎď▁")]
    spaces += [i for i, token in enumerate(tokens) if token in ("<0x20>", "<0x09>", "<0x0A>", "<0x0D>")]
    return frozenset(i for i in spaces if not tokenizer.decode([i], skip_special_tokens=False).strip())


def _newline_ids(tokenizer: Tokenizer, tokens: Sequence[str | None]) -> frozenset[int]:
    """Ids whose text ends in a line break. Spelled "Ċ" in byte-level vocabularies, "<0x0A>" or itself in others."""
    candidates = [i for i, token in enumerate(tokens) if token and (token[-1] in "\nĊ" or token.endswith("<0x0A>"))]
    return frozenset(i for i in candidates if tokenizer.decode([i], skip_special_tokens=False).endswith("\n"))


PRESETS: dict[str, ThinkingFormat] = {
    preset.name: preset
    for preset in (
        ThinkingFormat(
            name="s1",
            start="<|im_start|>think",
            end="<|im_start|>answer",
            end_triggers=("<|im_start|>", "<|im_end|>"),
            tool_call="<tool_call>",
            answer_prefix="Answer: ",
        ),
        ThinkingFormat(
            name="deepseek_r1",
            start="<think>",
            end="</think>",
            tool_call="<｜tool▁calls▁begin｜>",
            headers=("<｜User｜>", "<｜Assistant｜>"),
            answer_separator="\n\n",
        ),
        ThinkingFormat(
            name="qwen3",
            start="<think>",
            end="</think>",
            tool_call="<tool_call>",
            headers=("<|im_start|>",),
            answer_separator="\n\n",
        ),
    )
}
"""Formats by name. s1's strings are those of its tokenized training set and its evaluation harness."""
