"""The forcing plan: one request's format and budget, in token ids.

Made where the tokenizer is (the frontend), read where the tokens are (the engine's worker). It travels as one JSON
string in `SamplingParams.extra_args["s1ray"]`; requests without it are left alone. Whatever arrives is checked to the
last id, because the worker cannot refuse a request any more and an id beyond the vocabulary would take the engine down.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from s1ray.errors import InputError
from s1ray.thinking.budget import MAX_BANS, ThinkingBudget
from s1ray.thinking.format import TokenizedFormat
from s1ray.thinking.schedule import Id, Schedule, SchedulePlan, SomeIds

EXTRA_ARG = "s1ray"
"""The key in `SamplingParams.extra_args` (over HTTP: in `vllm_xargs`)."""

PROCESSOR = "s1ray.thinking.vllm.processor:BudgetForcingProcessor"
"""The logits processor that carries plans out: what to pass to vLLM's `logits_processors`."""

MAX_PLAN_CHARACTERS = 1_000_000
"""Longest accepted plan. The ids that end in a line break make most of it: about 10,000 characters for Qwen2.5."""

FIELDS = {"wait_texts": "wait_text", "cut": "end_text"}
"""Fields of a plan that have another name in a budget."""

Ids = Annotated[tuple[Id, ...], Field(max_length=4096)]


class ForcingPlan(BaseModel):
    """What `BudgetForcer` does to one request. Build it with `make_plan`."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    version: Literal[1] = 1
    vocab_size: Annotated[int, Field(gt=0, le=2**31)]
    """Ids that the tokenizer knows. Higher ones are never sampled (s1's "Token id out of vocabulary")."""
    start: SomeIds
    """Opens the thinking."""
    end: SomeIds
    """The end delimiter."""
    end_triggers: SomeIds
    """Sampled while thinking, they mean that the model wants to stop; `end[0]` and EOS are among them."""
    tool_calls: Ids = ()
    """Those of the triggers that may begin an answer."""
    newline: Ids = ()
    """Written before `cut` where the thinking does not end in a line break. Empty: never."""
    newline_ids: tuple[Id, ...] = ()
    """The ids whose text ends in a line break."""
    cut: SomeIds
    """Forced when the thinking is cut: hand-over text, `end`, and the beginning of the answer."""
    cut_answer: Annotated[int, Field(ge=1)]
    """How many ids of `cut` come before the answer: `cut[:cut_answer]` ends in `end`."""
    max_tokens: Annotated[int, Field(ge=0)] | None = None
    min_tokens: Annotated[int, Field(ge=0)] = 0
    waits: Annotated[int, Field(ge=0)] = 0
    wait_texts: Annotated[tuple[SomeIds, ...], Field(max_length=256)] = ()
    """Wait texts in the order of use. Empty: stops are only suppressed."""
    grace: Annotated[int, Field(ge=0)] = 0
    ban: Annotated[tuple[SomeIds, ...], Field(max_length=2 * MAX_BANS)] = ()
    """Sequences that never come to be while thinking: their last id is banned where the others stand."""
    end_spellings: Annotated[tuple[SomeIds, ...], Field(max_length=64)] = ()
    """The end delimiter as ordinary text; treated likewise, because readers of the text would take it for the end."""
    answer_reserve: Annotated[int, Field(ge=0)] | None = None
    answer_ban: Annotated[tuple[SomeIds, ...], Field(max_length=256)] = ()
    """Sequences that never come to be in the answer: delimiters and headers."""
    answer_max_tokens: Annotated[int, Field(ge=1)] | None = None
    eos: Id | None = None
    """Forced where the answer has reached its maximum."""
    blank_ids: tuple[Id, ...] = ()
    """The ids whose text is white space: an answer does not consist of them alone."""
    reopen: Ids = ()
    """Written in the answer, these ids of `start` open another block of thinking. Empty: the answer is the last."""
    begun_answer: bool = False
    """A prompt that neither opens nor closes a block of thinking ends in the answer's beginning."""
    stop_in_thinking: bool = False
    """The request's stop strings act on the thinking, too."""
    loops: Annotated[int, Field(ge=0, le=1024)] = 0
    schedule: SchedulePlan | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        triggers = set(self.end_triggers)
        if self.end[0] not in triggers:
            raise ValueError(f"end_triggers: the end delimiter's first id {self.end[0]} is missing")
        if self.cut[: self.cut_answer][-len(self.end) :] != self.end or self.cut_answer > len(self.cut):
            raise ValueError("cut: the ids before cut_answer do not end in the end delimiter")
        if self.max_tokens is not None and self.min_tokens > self.max_tokens:
            raise ValueError(f"min_tokens: {self.min_tokens} is more than max_tokens ({self.max_tokens})")
        for text in self.wait_texts:
            if triggers.intersection(text):
                raise ValueError("wait_texts: a wait text contains an end trigger")
        if not triggers.issuperset(self.tool_calls):
            raise ValueError("tool_calls: an id is not among the end triggers")
        for banned in (*self.ban, *self.end_spellings):
            if triggers.intersection(banned):
                raise ValueError("ban: a banned text contains an end trigger")
            if _in_any(self.wait_texts, banned):
                raise ValueError("ban: a banned text is part of a wait text")
        if self.reopen != self.start[: len(self.reopen)]:
            raise ValueError("reopen: is not the beginning of start")
        if self.answer_max_tokens is not None and self.eos is None:
            raise ValueError("answer_max_tokens: needs an eos to end the answer with")
        if self.schedule is not None:
            self._check_schedule(self.schedule, triggers)
        if self.loops == 1:
            raise ValueError("loops: must be 0 or at least 2")
        if self.eos is not None and self.eos >= self.vocab_size:
            raise ValueError(f"eos: is not below vocab_size ({self.vocab_size})")
        for name in ("start", "end", "end_triggers", "newline", "newline_ids", "blank_ids", "cut"):
            if max(getattr(self, name), default=0) >= self.vocab_size:
                raise ValueError(f"{name}: an id is not below vocab_size ({self.vocab_size})")
        for name in ("wait_texts", "ban", "end_spellings", "answer_ban"):
            if any(max(text) >= self.vocab_size for text in getattr(self, name)):
                raise ValueError(f"{name}: an id is not below vocab_size ({self.vocab_size})")
        return self

    def _check_schedule(self, schedule: SchedulePlan, triggers: set[int]) -> None:
        if self.waits or self.min_tokens:
            raise ValueError("schedule: says by itself when to wait; leave waits and min_tokens out")
        if any(max(ids, default=0) >= self.vocab_size for ids in schedule.sequences):
            raise ValueError(f"schedule: an id is not below vocab_size ({self.vocab_size})")
        if any(_in_any((schedule.wait,), banned) for banned in (*self.ban, *self.end_spellings)):
            raise ValueError("schedule: wait_text contains a banned text")
        try:
            schedule.check(triggers, self.ban)
        except ValueError as error:
            raise ValueError(f"schedule: {error}") from None

    @property
    def ends_with_delimiter(self) -> bool:
        """Nothing is written into the answer, so that a grammar may govern it."""
        return self.cut_answer == len(self.cut)

    @property
    def written(self) -> frozenset[int]:
        """Every id that may be forced."""
        waits = (*self.wait_texts, *([self.schedule.wait] if self.schedule else []))
        return frozenset({*self.start, *self.newline, *self.cut, *(i for text in waits for i in text)})

    def to_json(self) -> str:
        """The string for `extra_args`."""
        return self.model_dump_json(exclude_defaults=True)

    @classmethod
    def from_json(cls, text: object) -> ForcingPlan:
        """Read a plan back; equal strings give one shared object.

        Raises:
            InputError: it is not a plan; the message names the field.
        """
        if not isinstance(text, str):
            raise InputError(f"{EXTRA_ARG}: a forcing plan is a JSON string, got {type(text).__name__}")
        if len(text) > MAX_PLAN_CHARACTERS:
            raise InputError(f"{EXTRA_ARG}: a forcing plan has at most {MAX_PLAN_CHARACTERS} characters")
        return _parse(text)


@lru_cache(maxsize=256)
def _parse(text: str) -> ForcingPlan:
    try:
        return ForcingPlan.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InputError(f"{EXTRA_ARG}: not a forcing plan: {where + ': ' if where else ''}{first['msg']}") from None


def make_plan(
    tokenized: TokenizedFormat,
    budget: ThinkingBudget,
    *,
    bare_end: bool = False,
    begun_answer: bool = False,
    schedule: Schedule | None = None,
) -> ForcingPlan:
    """The plan for one request.

    Args:
        tokenized: the model's format.
        budget: what the request asks for.
        bare_end: nothing may be written into the answer, because a grammar governs it or it may be a tool call: of
            `end_text`, what stands after the delimiter is written before it; the format's own "Final Answer:" is left
            out.
        begun_answer: a prompt that has no block of thinking ends in the beginning of the answer.
        schedule: when waits are written into the thinking.

    Raises:
        InputError: a wait, end or banned text does not fit the format; names the field of the budget.
    """
    fmt = tokenized.format
    if budget.effort is not None:
        raise InputError(f"effort: {budget.effort!r} is a name that only a server maps to a number; give max_tokens")
    end_text = budget.end_text
    if end_text is None:
        before, after = "", f"{fmt.answer_separator}{fmt.final_answer}" if fmt.final_answer else ""
    else:
        if end_text.count(fmt.end) != 1:
            raise InputError(
                f"end_text: must contain the end delimiter {fmt.end!r} of format {fmt.name!r} exactly once, "
                f"got {end_text!r}"
            )
        before, _, after = end_text.partition(fmt.end)
    if bare_end:
        before, after = (before + after if end_text else ""), ""
    hand_over = tokenized.encode(before) if before else ()
    if tokenized.end_triggers.intersection(hand_over):
        raise InputError(f"end_text: the part before {fmt.end!r} contains a token that ends the thinking: {before!r}")
    continuation = continuation_ids(tokenized, after) if after else ()
    if tokenized.end_triggers.intersection(continuation):
        raise InputError(f"end_text: the part after {fmt.end!r} contains a token that ends the response: {after!r}")
    wait_texts = tuple(tokenized.encode(text) for text in budget.wait_texts)
    for text, ids in zip(budget.wait_texts, wait_texts, strict=True):
        if not ids or tokenized.end_triggers.intersection(ids):
            raise InputError(f"wait_text: {text!r} contains a token that ends the thinking in format {fmt.name!r}")
    used = wait_texts if budget.waits or budget.min_tokens else ()
    ban = _banned(tokenized, budget, used)
    if budget.answer_max_tokens is not None and tokenized.eos is None:
        raise InputError(
            f"answer_max_tokens: tokenizer {tokenized.tokenizer_name!r} has no end-of-sequence token to end the answer"
        )
    reopen = tokenized.opening if budget.reopen == "allow" else ()
    return _checked(
        vocab_size=tokenized.vocab_size,
        start=tokenized.start,
        end=tokenized.end,
        end_triggers=tuple(sorted(tokenized.end_triggers)),
        tool_calls=tuple(sorted(tokenized.tool_calls)),
        newline=() if before.startswith("\n") else tokenized.newline,
        newline_ids=tuple(sorted(tokenized.newline_ids)),
        cut=hand_over + tokenized.end + continuation,
        cut_answer=len(hand_over) + len(tokenized.end),
        max_tokens=budget.max_tokens if isinstance(budget.max_tokens, int) else None,
        min_tokens=budget.min_tokens,
        waits=budget.waits,
        wait_texts=used,
        grace=budget.grace,
        ban=ban,
        end_spellings=tokenized.end_spellings,
        answer_reserve=budget.answer_reserve,
        answer_ban=tuple(banned for banned in tokenized.answer_ban if not reopen or banned[: len(reopen)] != reopen),
        answer_max_tokens=budget.answer_max_tokens,
        eos=tokenized.eos if budget.answer_max_tokens is not None else None,
        blank_ids=tuple(sorted(tokenized.blank_ids)),
        reopen=reopen,
        begun_answer=begun_answer,
        stop_in_thinking=budget.stop,
        loops=budget.loops,
        schedule=None if schedule is None else _in_ids(tokenized, schedule),
    )


def _in_ids(tokenized: TokenizedFormat, schedule: Schedule) -> SchedulePlan:
    words: dict[tuple[int, ...], None] = {}
    for word in schedule.slow_words:
        words.update(dict.fromkeys(sorted({tokenized.encode(word), tokenized.encode(f" {word}")} - {()})))
    wait = tokenized.encode(schedule.wait_text)
    if not wait:
        raise InputError(f"schedule: wait_text: {schedule.wait_text!r} has no tokens")
    try:
        return SchedulePlan(
            moment=schedule.moment,
            p_start=schedule.p_start,
            p_end=schedule.p_end,
            wait=wait,
            after=tokenized.encode(schedule.after),
            after_ids=tokenized.ending_in(schedule.after),
            slow_words=tuple(words),
            seed=schedule.seed,
        )
    except ValidationError as error:
        message = error.errors(include_url=False, include_input=False)[0]["msg"].removeprefix("Value error, ")
        raise InputError(f"schedule: {message}") from None


def _checked(**fields: object) -> ForcingPlan:
    """A plan, or an error that names the budget's field."""
    try:
        return ForcingPlan.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field, message = str(first["loc"][0]) if first["loc"] else "", first["msg"].removeprefix("Value error, ")
        if not field and (named := message.partition(": "))[0] in ForcingPlan.model_fields:
            # What is wrong with several fields together names one of them.
            field, _, message = named
        raise InputError(f"{FIELDS.get(field, field or 'budget')}: {message}") from None


def _banned(
    tokenized: TokenizedFormat, budget: ThinkingBudget, wait_texts: tuple[tuple[int, ...], ...]
) -> tuple[tuple[int, ...], ...]:
    sequences: dict[tuple[int, ...], None] = {}
    for text in budget.ban_texts:
        written = {tokenized.encode(text), tokenized.encode(f" {text}")} - {()}
        if not written or any(tokenized.end_triggers.intersection(ids) for ids in written):
            raise InputError(f"ban: {text!r} contains a token that ends the thinking; use waits to suppress the end")
        if any(_in_any(wait_texts, ids) for ids in written):
            raise InputError(f"ban: {text!r} is part of a wait_text; it cannot be both written and banned")
        sequences.update(dict.fromkeys(sorted(written)))
    return tuple(sequences)


def _in_any(texts: tuple[tuple[int, ...], ...], part: tuple[int, ...]) -> bool:
    """Whether a text contains a part. As characters, because searching those is linear."""
    return any(_spelled(part) in _spelled(text) for text in texts)


@lru_cache(maxsize=1024)
def _spelled(ids: tuple[int, ...]) -> str:
    return f",{','.join(map(str, ids))},"


def continuation_ids(tokenized: TokenizedFormat, text: str) -> tuple[int, ...]:
    """Ids of `text` as the training text has them after the end delimiter."""
    joint = tokenized.encode(tokenized.format.end + text)
    if joint[: len(tokenized.end)] == tokenized.end:
        return joint[len(tokenized.end) :]
    return tokenized.encode(text)
