"""What a line of a ledger must be before anything of it is counted: half of a damaged line must not be in the bill."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from s1ray.generation.base import Usage
from s1ray.teachers.tally import ENDINGS

NAMES = frozenset({"sent", "unanswered", *ENDINGS})
COUNTS = frozenset(field.name for field in dataclasses.fields(Usage))
UNKNOWN = frozenset({"reasoning_tokens"})
"""Of a provider's counts, those that may be null."""
MOST_DIGITS = 9
"""Of a sample's number."""


def event_of(line: bytes) -> dict[str, Any]:
    """The event that a line holds, with every field that is read of the kind that it must be.

    Raises:
        ValueError: it holds none.
    """
    try:
        event = json.loads(line)
        _check_event(event)
    except (KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise ValueError(f"no event: {type(error).__name__}: {error}") from None
    assert isinstance(event, dict)
    return event


def _check_event(event: Any) -> None:
    name, ask = event["event"], event["id"]
    if not isinstance(name, str) or name not in NAMES:
        raise ValueError("no such event")
    _check(isinstance(ask, str))
    ask.encode()
    if name in ("answered", "unanswered"):
        # Others are counted whoever they are of.
        number = ask.rpartition("-")[2]
        _check(number.isascii() and number.isdecimal() and len(number) <= MOST_DIGITS)
    if name == "unanswered":
        _check(isinstance(event["reason"], str))
        return
    _check(event.get("call") is None or isinstance(event["call"], int | str))
    _check(event.get("key") is None or isinstance(event["key"], str))
    if name == "sent":
        _check(_is_amount(event["prompt"]))
        return
    _check(_is_amount(event.get("prompt", 0)))
    _check_usage(event["usage"])
    if name == "answered":
        _check_answer(event)


def _check_usage(usage: object) -> None:
    if usage is None:
        return
    _check(isinstance(usage, Mapping))
    assert isinstance(usage, Mapping)
    _check(usage.keys() <= COUNTS)
    _check(all(_is_count(value) or (value is None and name in UNKNOWN) for name, value in usage.items()))


def _check_answer(event: Mapping[str, Any]) -> None:
    for name in ("thinking", "attempt", "finish_reason"):
        _check(isinstance(event[name], str))
        event[name].encode()  # a lone surrogate is no text
    for name in ("raw_finish_reason", "model_version"):
        _check(event[name] is None or isinstance(event[name], str))
    seconds = event.get("seconds")
    _check(seconds is None or _is_amount(seconds))


def _is_amount(value: object) -> bool:
    return type(value) in (int, float) and 0 <= value < 2**63  # type: ignore[operator]  # no NaN is


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _check(is_right: bool) -> None:
    if not is_right:
        raise ValueError("a field is not what it must be")
