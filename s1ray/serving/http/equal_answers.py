"""Several answers at temperature 0, which are the same answer: generated once, and given `n` times.

An engine refuses to generate them, since it would do the same work `n` times. Clients ask for them all the same, with a
sampling loop whose temperature happens to be 0. `usage` counts what was generated.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from s1ray.serving.http.dialects.base import Events
from s1ray.serving.protocol.engine_json import EngineJson
from s1ray.thinking.vllm.requests import GREEDY_BELOW


def equal_answers(fields: Mapping[str, object]) -> int:
    """How many answers to each prompt are the same by a request's own text; 1: it wants one, or samples."""
    number, temperature = fields.get("n"), fields.get("temperature")
    if not isinstance(number, int) or number < 1 or fields.get("use_beam_search"):
        return 1
    return number if isinstance(temperature, int | float) and temperature < GREEDY_BELOW else 1


def repeat(whole: Any, copies: int) -> None:
    """Give every choice of a whole response, chat or completion, so many times, in place."""
    whole.choices = [
        choice.model_copy(update={"index": choice.index * copies + copy})
        for choice in whole.choices
        for copy in range(copies)
    ]


def repeated(events: Events, copies: int) -> Events:
    """The same rewriting of a stream, of events that stand there once for each copy of their choice."""
    return lambda texts: events([event for text in texts for event in _copies(text, copies)])


def _copies(event: str, copies: int) -> list[str]:
    payload = event.removeprefix("data: ")
    if not payload.startswith("{"):
        return [event]
    data: EngineJson = json.loads(payload)
    if not data.get("choices"):
        return [event]
    return [_of(data, copy, copies) for copy in range(copies)]


def _of(data: EngineJson, copy: int, copies: int) -> str:
    choices = [choice | {"index": choice["index"] * copies + copy} for choice in data["choices"]]
    return f"data: {json.dumps(data | {'choices': choices}, ensure_ascii=False, separators=(',', ':'))}\n\n"
