"""Reads what a request says about its thinking, under every alias that clients use.

One field has many names (`budgets.py` lists them). Each is read strictly, two that mean the same field must agree, and
every error names the field as the client wrote it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import ValidationError

from s1ray.serving.protocol.refusals import FIELD, BadRequestError, shown
from s1ray.serving.protocol.strategies import RequestStrategy, read_strategy
from s1ray.thinking import ThinkingBudget

TOP_LEVEL = {
    "thinking_token_budget": "max_tokens",
    "max_tokens_thinking": "max_tokens",
    "min_tokens_thinking": "min_tokens",
    "thinking_n_ignore": "waits",
    "thinking_n_ignore_str": "wait_text",
}
"""Budget fields that other clients write at the top level of a request: vLLM's name, then those of s1's harness."""

ANSWER = "answer"
"""The key of our own object about what follows the thinking."""

ALIASES = (FIELD, ANSWER, "reasoning", "reasoning_effort", "think", "reasoning_budget", *TOP_LEVEL)
"""Every field of a request that is about thinking, on every route."""

SHOWN = "include_reasoning"
"""vLLM's field: false leaves the thinking out of the response."""

TEMPLATE_SWITCHES = ("enable_thinking", "thinking")
"""Variables with which chat templates turn thinking off: Qwen3's, GLM's; DeepSeek's, Kimi's."""

TYPES = ("enabled", "disabled", "adaptive", "auto")
"""`thinking.type`: Anthropic's, z.ai's and Moonshot's; "auto" is Volcengine's."""

KEEPS = ("all", "none")
"""Moonshot's `thinking.keep`: which turns' thinking the prompt should keep."""

SUMMARIES = ("auto", "concise", "detailed", "none")
"""OpenAI's `reasoning.summary`; a summary is here the thinking itself."""

DISPLAYS = ("summarized", "omitted")
"""Anthropic's `thinking.display`; a summary is here the thinking itself."""

OTHERS_NAMES = ("type", "budget_tokens", "display", "keep", "clear_thinking")
"""Fields that other APIs have in `thinking`."""

BESIDE_THE_BUDGET = (*OTHERS_NAMES, "strategy")
"""Fields of `thinking` that are no budget's."""

MAX_TOKENS = 2**31
"""More tokens than any context has."""


class Aliases(dict[str, str]):
    """How the client wrote each field of the budget, by the field's own name."""

    def of(self, name: str) -> str:
        """A budget field's name in the client's words."""
        return self.get(name, f"{FIELD}.{name}")

    def error(self, problem: str) -> BadRequestError:
        """A complaint about the budget ("field: what is wrong") in the client's words."""
        name, separator, message = problem.partition(": ")
        if not separator or name not in ThinkingBudget.model_fields:
            return BadRequestError(FIELD, problem)
        for other in ("max_tokens", "min_tokens", "wait_text"):
            message = re.sub(rf"\b{other}\b", self.of(other).replace("\\", r"\\"), message)
        return BadRequestError(self.of(name), message)


@dataclass(frozen=True)
class RequestedThinking:
    """What a request says about its thinking, before the server's limits."""

    budget: ThinkingBudget = field(default_factory=ThinkingBudget)
    """The fields that were given, apart from `effort`."""
    effort: str | None = None
    """The name in place of a maximum."""
    aliases: Aliases = field(default_factory=Aliases)
    hidden_by: str | None = None
    """The field that asks for the thinking to be left out of the response."""
    unforced: bool = False
    """Nothing is to be forced: the client does it itself, segment by segment."""
    template: Mapping[str, bool] = field(default_factory=dict)
    """Variables for the chat template: whether it should keep the thinking of earlier turns."""
    strategy: RequestStrategy | None = None
    """What is done with several responses, or with one as it comes. None: one response is given as it is."""


def read_request(body: Mapping[str, object]) -> RequestedThinking:
    """Read everything that a request says about its thinking.

    Args:
        body: the request's fields; those that are not about thinking are ignored. A field that is null counts as left
            out, but `wait_text: null` asks for no text and `thinking.max_tokens: null` for no maximum of the client's.

    Raises:
        BadRequestError: a field is unknown or wrong, or contradicts another.
    """
    for name in body:
        if is_unknown(name):
            raise BadRequestError(name, f"unknown field; the fields about thinking are {', '.join(ALIASES)}")
    fields = _Fields()
    _read_thinking(body.get(FIELD), fields)
    _read_answer(body.get(ANSWER), fields)
    _read_reasoning(body.get("reasoning"), fields)
    fields.text("effort", body.get("reasoning_effort"), "reasoning_effort")
    _read_think(body.get("think"), fields)
    for name in ("thinking_token_budget", "reasoning_budget"):
        _read_open_ended(body.get(name), name, fields)
    _read_template_switches(body.get("chat_template_kwargs"), fields)
    fields.tokens("max_tokens", body.get("max_tokens_thinking"), "max_tokens_thinking", auto=True)
    fields.tokens("min_tokens", body.get("min_tokens_thinking"), "min_tokens_thinking")
    fields.tokens("waits", body.get("thinking_n_ignore"), "thinking_n_ignore")
    fields.text("wait_text", body.get("thinking_n_ignore_str"), "thinking_n_ignore_str")
    if "wait_text" not in fields.values and {"thinking_n_ignore", "min_tokens_thinking"} & set(fields.aliases.values()):
        # The harness only suppresses where it is given no text.
        fields.values["wait_text"] = None
    if fields.no_maximum and "max_tokens" not in fields.values and "effort" not in fields.values:
        fields.values["max_tokens"] = "auto"
    output = body.get("output_config")
    if isinstance(output, Mapping) and "max_tokens" not in fields.values and "effort" not in fields.values:
        # For Anthropic effort and budget are two things; where both are given, the number is the budget.
        fields.text("effort", output.get("effort"), "output_config.effort")
    if fields.unforced and fields.aliases:
        other = next(iter(fields.aliases.values()))
        raise BadRequestError(
            FIELD, f"false asks for no forcing at all, which contradicts {other}; give one of the two"
        )
    return fields.requested()


def is_unknown(name: str) -> bool:
    """Whether a request's field has a name that is about thinking, and none that is read."""
    return ("think" in name or "reason" in name) and name not in (*ALIASES, SHOWN)


class _Fields:
    """Collects the fields that a request gives, and the aliases under which it gives them."""

    def __init__(self) -> None:
        self.values: dict[str, object] = {}
        self.aliases = Aliases()
        self.hidden_by: str | None = None
        self.no_maximum = False
        self.unforced = False
        self.template: dict[str, bool] = {}
        self.strategy: RequestStrategy | None = None

    def put(self, name: str, value: object, alias: str) -> None:
        if name in self.values and self.values[name] != value:
            other, before = self.aliases[name], self.values[name]
            raise BadRequestError(alias, f"{shown(value)} contradicts {other}, {shown(before)}; give one of the two")
        self.values.setdefault(name, value)
        self.aliases.setdefault(name, alias)

    def tokens(self, name: str, value: object, alias: str, *, auto: bool = False) -> None:
        if value is None:
            return
        if not (auto and value == "auto") and not _is_count(value):
            allowed = 'an integer from 0, or "auto"' if auto else "an integer from 0"
            raise BadRequestError(alias, f"must be {allowed}, not {shown(value)}")
        self.put(name, value, alias)

    def text(self, name: str, value: object, alias: str) -> None:
        if value is not None and not isinstance(value, str):
            raise BadRequestError(alias, f"must be a string, not {shown(value)}")
        if value is not None:
            self.put(name, value, alias)

    def requested(self) -> RequestedThinking:
        effort = self.values.pop("effort", None)
        try:
            budget = ThinkingBudget.model_validate(self.values)
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]
            message = problem["msg"].removeprefix("Value error, ")
            if problem["loc"]:
                alias = self.aliases.of(str(problem["loc"][0]))
                raise BadRequestError(alias, f"{message} (got {shown(problem['input'])})") from None
            raise self.aliases.error(message) from None
        name = effort if isinstance(effort, str) else None
        if name is not None:
            self.aliases.setdefault("max_tokens", self.aliases["effort"])
        return RequestedThinking(
            budget, name, self.aliases, self.hidden_by, self.unforced, self.template, self.strategy
        )


def _read_thinking(thinking: object, fields: _Fields) -> None:
    """Our own object, and Anthropic's."""
    if thinking is False:
        fields.unforced = True
    if thinking is None or thinking is False:
        return
    if not isinstance(thinking, Mapping):
        raise BadRequestError(FIELD, f'must be an object such as {{"max_tokens": 512}}, not {shown(thinking)}')
    kind = _one_of(thinking.get("type"), TYPES, f"{FIELD}.type")
    if kind == "disabled":
        fields.put("max_tokens", 0, f"{FIELD}.type")
    if kind == "adaptive" and thinking.get("budget_tokens") is not None:
        raise BadRequestError(f"{FIELD}.budget_tokens", 'goes with type "enabled", not with "adaptive"')
    if _one_of(thinking.get("display"), DISPLAYS, f"{FIELD}.display") == "omitted":
        fields.hidden_by = f"{FIELD}.display"
    fields.tokens("max_tokens", thinking.get("budget_tokens"), f"{FIELD}.budget_tokens")
    _read_history(thinking, fields)
    fields.strategy = read_strategy(thinking.get("strategy"))
    known = ThinkingBudget.model_fields
    for name, value in thinking.items():
        alias = f"{FIELD}.{name}"
        if name in BESIDE_THE_BUDGET:
            continue
        if name not in known:
            raise BadRequestError(alias, f"unknown field; the fields are {', '.join([*known, *BESIDE_THE_BUDGET])}")
        if name == "max_tokens":
            fields.no_maximum = value is None
            fields.tokens(name, value, alias, auto=True)
        elif name == "effort":
            fields.text("effort", value, alias)
        elif value is not None or name == "wait_text":
            fields.put(name, value, alias)


def _read_history(thinking: Mapping[str, object], fields: _Fields) -> None:
    """Whether the prompt keeps the thinking of earlier turns, as Moonshot and z.ai ask for it.

    The chat template decides it, so it is asked in the words that templates know (GLM's, and Kimi's and Qwen's).
    """
    keep = _one_of(thinking.get("keep"), KEEPS, f"{FIELD}.keep")
    clear = thinking.get("clear_thinking")
    if clear is not None and not isinstance(clear, bool):
        raise BadRequestError(f"{FIELD}.clear_thinking", f"must be true or false, not {shown(clear)}")
    if keep is not None and clear is not None and clear is (keep == "all"):
        message = f"{clear} contradicts {FIELD}.keep, {shown(keep)}; give one of the two"
        raise BadRequestError(f"{FIELD}.clear_thinking", message)
    if keep is not None or clear is not None:
        kept = keep == "all" if clear is None else not clear
        fields.template = {"preserve_thinking": kept, "clear_thinking": not kept}


def _read_answer(answer: object, fields: _Fields) -> None:
    """Our own object about the answer."""
    if answer is None:
        return
    if not isinstance(answer, Mapping):
        raise BadRequestError(ANSWER, f'must be an object such as {{"max_tokens": 256}}, not {shown(answer)}')
    for name in answer:
        if name != "max_tokens":
            raise BadRequestError(f"{ANSWER}.{name}", "unknown field; the only field is max_tokens")
    if (tokens := answer.get("max_tokens")) is not None:
        fields.put("answer_max_tokens", tokens, f"{ANSWER}.max_tokens")


def _read_think(think: object, fields: _Fields) -> None:
    """Ollama's switch, or effort."""
    if think is False:
        fields.put("max_tokens", 0, "think")
    elif isinstance(think, str):
        fields.text("effort", think, "think")
    elif think is not None and think is not True:
        raise BadRequestError("think", f"must be true, false or the name of an effort, not {shown(think)}")


def _read_template_switches(kwargs: object, fields: _Fields) -> None:
    """Variables of chat templates that turn thinking off. The template gets them as they are."""
    if not isinstance(kwargs, Mapping):
        return
    for name in TEMPLATE_SWITCHES:
        value, alias = kwargs.get(name), f"chat_template_kwargs.{name}"
        if value is not None and not isinstance(value, bool):
            raise BadRequestError(alias, f"must be true or false, not {shown(value)}")
        if value is False:
            fields.put("max_tokens", 0, alias)


def _read_reasoning(reasoning: object, fields: _Fields) -> None:
    """OpenRouter's object; OpenAI's Responses API has its `effort`."""
    if reasoning is None:
        return
    if not isinstance(reasoning, Mapping):
        raise BadRequestError("reasoning", f'must be an object such as {{"effort": "low"}}, not {shown(reasoning)}')
    known = ("effort", "max_tokens", "enabled", "exclude", "summary", "generate_summary")
    for name, value in reasoning.items():
        alias = f"reasoning.{name}"
        if name not in known:
            raise BadRequestError(alias, f"unknown field; the fields are {', '.join(known)}")
        if name in ("enabled", "exclude") and not isinstance(value, bool | None):
            raise BadRequestError(alias, f"must be true or false, not {shown(value)}")
    for name in ("summary", "generate_summary"):
        _one_of(reasoning.get(name), SUMMARIES, f"reasoning.{name}")
    fields.text("effort", reasoning.get("effort"), "reasoning.effort")
    fields.tokens("max_tokens", reasoning.get("max_tokens"), "reasoning.max_tokens")
    if reasoning.get("enabled") is False:
        fields.put("max_tokens", 0, "reasoning.enabled")
    if reasoning.get("exclude"):
        fields.hidden_by = "reasoning.exclude"


def _read_open_ended(value: object, name: str, fields: _Fields) -> None:
    """A number of vLLM's or llama.cpp's, whose -1 is no limit of the client's own."""
    if value == -1 and isinstance(value, int):
        fields.put("max_tokens", "auto", name)
    else:
        fields.tokens("max_tokens", value, name)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_TOKENS


def _one_of(value: object, names: Sequence[str], alias: str) -> object:
    if value is not None and value not in names:
        raise BadRequestError(alias, f"must be one of {', '.join(names)}, not {shown(value)}")
    return value
