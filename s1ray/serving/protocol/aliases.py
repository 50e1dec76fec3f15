"""From a request's body to what it asks of its thinking, in every spelling that clients use.

One thing has many names (`protocol.py` lists them). Each is read strictly, two that say the same thing must agree, and
every complaint names the field as the client wrote it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from s1ray.thinking import ThinkingBudget

FIELD = "thinking"
"""The key of our own object in a request, and of the accounting in a choice."""

TOP_LEVEL = {
    "thinking_token_budget": "max_tokens",
    "max_tokens_thinking": "max_tokens",
    "min_tokens_thinking": "min_tokens",
    "thinking_n_ignore": "waits",
    "thinking_n_ignore_str": "wait_text",
}
"""Budget fields that other clients write beside the request's own: vLLM's name, then those of s1's harness."""

SPELLINGS = (FIELD, "reasoning", "reasoning_effort", *TOP_LEVEL)
"""Every field of a request that is about thinking, on every route."""

TYPES = ("enabled", "disabled", "adaptive")
"""Anthropic's `thinking.type`."""

DISPLAYS = ("summarized", "omitted")
"""Anthropic's `thinking.display`; a summary is here the thinking itself."""

MAX_TOKENS = 2**31
"""More tokens than any context has."""


class BadRequestError(ValueError):
    """A request that cannot be served as it is; answered with 400.

    Attributes:
        field: the request's field that is wrong, dotted, as the client wrote it.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field


@dataclass(frozen=True)
class Asked:
    """What a request asks of its thinking, before the server's limits."""

    budget: ThinkingBudget = field(default_factory=ThinkingBudget)
    """What was said, apart from `effort`."""
    effort: str | None = None
    """The name in place of a maximum."""
    spelled: Mapping[str, str] = field(default_factory=dict)
    """How the client wrote each field of the budget."""
    hidden_by: str | None = None
    """The field that asks for the thinking to be left out of the response."""
    unforced: bool = False
    """Nothing is to be forced: the client does it itself, segment by segment."""

    def spelling(self, name: str) -> str:
        """A budget field's name in the client's words."""
        return self.spelled.get(name, f"{FIELD}.{name}")

    def refuse(self, problem: str) -> BadRequestError:
        """A complaint about the budget ("field: what is wrong") in the client's words."""
        name, separator, message = problem.partition(": ")
        if not separator or name not in ThinkingBudget.model_fields:
            return BadRequestError(FIELD, problem)
        for other in ("max_tokens", "min_tokens", "wait_text"):
            message = re.sub(rf"\b{other}\b", self.spelling(other).replace("\\", r"\\"), message)
        return BadRequestError(self.spelling(name), message)


def read_request(body: Mapping[str, Any]) -> Asked:
    """Read everything that a request says about its thinking.

    Args:
        body: the request's fields; those that have nothing to do with thinking are passed over. A field that is null
            counts as left out (`wait_text: null` asks for no text, though, and `thinking.max_tokens: null` for no
            maximum of the client's own).

    Raises:
        BadRequestError: a field is unknown or wrong, or contradicts another.
    """
    for name in body:
        if FIELD in name and name not in SPELLINGS:
            raise BadRequestError(name, f"unknown field; the fields about thinking are {', '.join(SPELLINGS)}")
    said = _Said()
    _read_thinking(body.get(FIELD), said)
    _read_reasoning(body.get("reasoning"), said)
    said.effort(body.get("reasoning_effort"), "reasoning_effort")
    _read_vllms(body.get("thinking_token_budget"), said)
    said.tokens("max_tokens", body.get("max_tokens_thinking"), "max_tokens_thinking", auto=True)
    said.tokens("min_tokens", body.get("min_tokens_thinking"), "min_tokens_thinking")
    said.tokens("waits", body.get("thinking_n_ignore"), "thinking_n_ignore")
    said.text("wait_text", body.get("thinking_n_ignore_str"), "thinking_n_ignore_str")
    if "wait_text" not in said.values and {"thinking_n_ignore", "min_tokens_thinking"} & set(said.spelled.values()):
        # The harness only suppresses where it is given no text.
        said.values["wait_text"] = None
    if said.no_maximum and "max_tokens" not in said.values and said.effort_name is None:
        said.values["max_tokens"] = "auto"
    output = body.get("output_config")
    if isinstance(output, Mapping) and "max_tokens" not in said.values and said.effort_name is None:
        # For Anthropic effort and budget are two things; where both are given, the number is the budget.
        said.effort(output.get("effort"), "output_config.effort")
    asked = said.asked()
    if said.unforced and asked.spelled:
        other = next(iter(asked.spelled.values()))
        raise BadRequestError(
            FIELD, f"false asks for no forcing at all, which contradicts {other}; give one of the two"
        )
    return asked


class _Said:
    """Collects what a request says, and under which names."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.spelled: dict[str, str] = {}
        self.effort_name: str | None = None
        self.hidden_by: str | None = None
        self.no_maximum = False
        self.unforced = False

    def put(self, name: str, value: Any, spelling: str) -> None:
        if name in self.values and self.values[name] != value:
            other, before = self.spelled[name], self.values[name]
            raise BadRequestError(spelling, f"{_show(value)} contradicts {other}, {_show(before)}; give one of the two")
        self.values.setdefault(name, value)
        self.spelled.setdefault(name, spelling)

    def tokens(self, name: str, value: Any, spelling: str, *, auto: bool = False) -> None:
        if value is None:
            return
        if not (auto and value == "auto") and not _is_count(value):
            allowed = 'an integer from 0, or "auto"' if auto else "an integer from 0"
            raise BadRequestError(spelling, f"must be {allowed}, not {_show(value)}")
        self.put(name, value, spelling)

    def text(self, name: str, value: Any, spelling: str) -> None:
        if value is not None and not isinstance(value, str):
            raise BadRequestError(spelling, f"must be a string, not {_show(value)}")
        if value is not None:
            self.put(name, value, spelling)

    def effort(self, value: Any, spelling: str) -> None:
        self.text("effort", value, spelling)
        self.effort_name = self.values.get("effort")

    def asked(self) -> Asked:
        effort = self.values.pop("effort", None)
        asked = Asked(effort=effort, spelled=self.spelled, hidden_by=self.hidden_by)
        try:
            budget = ThinkingBudget.model_validate(self.values)
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]
            message = problem["msg"].removeprefix("Value error, ")
            if problem["loc"]:
                name = str(problem["loc"][0])
                raise BadRequestError(asked.spelling(name), f"{message} (got {_show(problem['input'])})") from None
            raise asked.refuse(message) from None
        return Asked(budget, effort, self.spelled, self.hidden_by, self.unforced)


def _read_thinking(thinking: object, said: _Said) -> None:
    """Our own object, and Anthropic's."""
    if thinking is False:
        said.unforced = True
    if thinking is None or thinking is False:
        return
    if not isinstance(thinking, Mapping):
        raise BadRequestError(FIELD, f'must be an object such as {{"max_tokens": 512}}, not {_show(thinking)}')
    kind = _one_of(thinking.get("type"), TYPES, f"{FIELD}.type")
    if kind == "disabled":
        said.put("max_tokens", 0, f"{FIELD}.type")
    if kind == "adaptive" and thinking.get("budget_tokens") is not None:
        raise BadRequestError(f"{FIELD}.budget_tokens", 'goes with type "enabled", not with "adaptive"')
    if _one_of(thinking.get("display"), DISPLAYS, f"{FIELD}.display") == "omitted":
        said.hidden_by = f"{FIELD}.display"
    said.tokens("max_tokens", thinking.get("budget_tokens"), f"{FIELD}.budget_tokens")
    known = ThinkingBudget.model_fields
    for name, value in thinking.items():
        spelling = f"{FIELD}.{name}"
        if name in ("type", "display", "budget_tokens"):
            continue
        if name not in known:
            raise BadRequestError(
                spelling, f"unknown field; the fields are {', '.join(known)}, type, budget_tokens, display"
            )
        if name == "max_tokens":
            said.no_maximum = value is None
            said.tokens(name, value, spelling, auto=True)
        elif name == "effort":
            said.effort(value, spelling)
        elif value is not None or name == "wait_text":
            said.put(name, value, spelling)


def _read_reasoning(reasoning: object, said: _Said) -> None:
    """OpenRouter's object; OpenAI's Responses API has its `effort`."""
    if reasoning is None:
        return
    if not isinstance(reasoning, Mapping):
        raise BadRequestError("reasoning", f'must be an object such as {{"effort": "low"}}, not {_show(reasoning)}')
    known = ("effort", "max_tokens", "enabled", "exclude")
    for name, value in reasoning.items():
        spelling = f"reasoning.{name}"
        if name not in known:
            raise BadRequestError(spelling, f"unknown field; the fields are {', '.join(known)}")
        if name in ("enabled", "exclude") and not isinstance(value, bool | None):
            raise BadRequestError(spelling, f"must be true or false, not {_show(value)}")
    said.effort(reasoning.get("effort"), "reasoning.effort")
    said.tokens("max_tokens", reasoning.get("max_tokens"), "reasoning.max_tokens")
    if reasoning.get("enabled") is False:
        said.put("max_tokens", 0, "reasoning.enabled")
    if reasoning.get("exclude"):
        said.hidden_by = "reasoning.exclude"


def _read_vllms(value: object, said: _Said) -> None:
    """What vLLM takes: its -1 is no limit of the client's own."""
    name = "thinking_token_budget"
    if _is_integer(value) and value == -1:
        said.put("max_tokens", "auto", name)
    else:
        said.tokens("max_tokens", value, name)


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return _is_integer(value) and 0 <= value <= MAX_TOKENS


def _one_of(value: object, names: Sequence[str], spelling: str) -> object:
    if value is not None and value not in names:
        raise BadRequestError(spelling, f"must be one of {', '.join(names)}, not {_show(value)}")
    return value


def _show(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:100]}..."
