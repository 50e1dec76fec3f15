"""What a server sent, checked: bodies are decoded and texts taken out of them, or it is said why they are of no use.

A teacher or a proxy may send anything: another encoding than it says, half of a surrogate pair, a number where a text
belongs. Each such answer is one request's error; none may end a run or reach a table.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

MAX_BODY = 256 << 20
"""Bytes of a body that are read."""
LASTING = (
    "invalid",
    "authentication",
    "permission",
    "not_found",
    "insufficient_quota",
    "billing",
    "context_length",
)
"""Words in an error's type, code or message that say it will not pass."""

FILTERED = (
    *("content_filter", "content_policy", "bio_policy", "misalignment_policy", "data_inspection_failed"),
    *("flagged as potentially violating", "content filtering policy", "content management policy"),
    *("content exists risk", "violates usage guidelines", "inappropriate content"),
)
"""Words in an error's type, code or message that say a filter does not allow the question or its answer (OpenAI, Azure,
Anthropic, DeepSeek, xAI, DashScope)."""

WITHOUT_TEXT = ("text", "redacted", "encrypted", "summary", "signature")
"""In the type of a part that may be empty."""


class UnusableError(Exception):
    """An answer is of no use; the message says why.

    Attributes:
        transient: asking again may help.
        told: the server itself says that it failed.
        refused: it says that its filter does not allow the question or the answer.
    """

    def __init__(self, why: str, *, transient: bool = True, told: bool = False, refused: bool = False) -> None:
        super().__init__(why)
        self.transient = transient
        self.told = told
        self.refused = refused


def decode(body: bytes) -> dict[str, Any]:
    """The JSON object in a body.

    Raises:
        UnusableError: it holds none.
    """
    if len(body) > MAX_BODY:
        raise UnusableError(f"the body has more than {MAX_BODY:,} bytes", transient=False)
    try:
        answer = json.loads(body.decode("utf-8-sig"), parse_int=_integer)
    except UnicodeDecodeError as error:
        raise UnusableError(f"the body is not UTF-8: {error}") from None
    except RecursionError:
        raise UnusableError("the body's JSON is nested too deeply") from None
    except ValueError:
        raise UnusableError(f"no JSON: {body[:200].decode('utf-8', 'replace')!r}") from None
    if not isinstance(answer, dict):
        raise UnusableError(f"the body is {_kind(answer)}, not an object")
    return answer


def refuse_error(answer: Mapping[str, Any]) -> None:
    """Look whether an answer tells of an error (in OpenAI's form, Anthropic's, or as a text).

    Raises:
        UnusableError: it does.
    """
    told = answer.get("error")
    if not told:
        return
    message = str((told.get("message") if isinstance(told, dict) else None) or told)[:1000]
    words, refused = words_of(told), is_refusal(told)
    passing = any(word in words for word in ("rate_limit", "overloaded"))
    lasting = refused or (not passing and any(word in words for word in LASTING))
    raise UnusableError(f"an error in the answer: {message}", transient=not lasting, told=True, refused=refused)


def is_refusal(error: object) -> bool:
    """Whether an error (an object with type, code and message, or a text) says that a filter stopped it."""
    words = words_of(error)
    return any(word in words for word in FILTERED)


def words_of(error: object) -> str:
    """What an error says, in lower case."""
    if not isinstance(error, dict):
        return str(error).lower()
    return " ".join(str(error.get(name) or "") for name in ("type", "code", "message")).lower()


def text_of(value: object, field: str) -> str:
    """A text, in one piece or in typed parts; None is an empty one.

    Args:
        value: a string, None, or a list of parts ({"type": "text", "text": ...}, strings).
        field: its name, for messages.

    Raises:
        UnusableError: it is something else, or cannot be written as UTF-8.
    """
    if value is None:
        return ""
    if isinstance(value, list):
        return "".join(_part(part, f"{field}[{place}]") for place, part in enumerate(value))
    if not isinstance(value, str):
        raise UnusableError(f"{field} is {_kind(value)}, not a text")
    return storable(value, field)


def storable(text: str, field: str) -> str:
    """The text, if UTF-8 and Parquet can hold it.

    Raises:
        UnusableError: it holds half of a surrogate pair.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise UnusableError(f"{field} holds half of a surrogate pair at character {error.start}") from None
    return text


def whole(value: object, field: str) -> int:
    """A count; None is 0, and 20.0 is 20.

    Raises:
        UnusableError: it is no whole number, or negative.
    """
    if value is None:
        return 0
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 53:
        raise UnusableError(f"{field} is {_kind(value)}, not a count", transient=False)
    return value


def mapping(value: object, field: str) -> Mapping[str, Any]:
    """An object; None is an empty one.

    Raises:
        UnusableError: it is something else.
    """
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise UnusableError(f"{field} is {_kind(value)}, not an object")
    return value


def _integer(digits: str) -> int | float:
    # Python reads no more than some thousand digits; such a number must not cost the answer around it.
    try:
        return int(digits)
    except ValueError:
        return math.inf


def _part(part: object, field: str) -> str:
    if isinstance(part, str):
        return storable(part, field)
    fields = mapping(part, field)
    for name in ("text", "thinking", "reasoning", "summary", "content", "refusal"):
        if fields.get(name) is not None:
            return text_of(fields[name], f"{field}.{name}")
    if not fields or any(word in str(fields.get("type")) for word in WITHOUT_TEXT):
        return ""
    raise UnusableError(f"{field} is an object that holds no text")


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")
