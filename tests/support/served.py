"""What the tests of the served application share: its configuration, a question, and counting by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import openai

from s1ray.thinking import ThinkingFormat

PONDER = {"name": "ponder", "start": "<|im_start|>ponder", "end": "<|im_start|>reply", "end_triggers": ["<|im_end|>"]}
CONTEXT = 1024
ENGINE = {
    "model": "miniature-base",
    "device": "cpu",
    "max_model_len": CONTEXT,
    "kv_cache_gib": 0.25,
    "engine_kwargs": {
        # A model of this size would fill their JSON with line breaks.
        "structured_outputs_config": {"backend": "xgrammar", "disable_any_whitespace": True},
        "enable_auto_tool_choice": True,
        "tool_call_parser": "hermes",
    },
}
EFFORT = {"none": 0, "low": 8, "medium": 24, "high": "auto"}
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"thinking": {"max_token": 5}}, "thinking.max_token"),
    ({"thinking": {"max_tokens": "many"}}, "thinking.max_tokens"),
    ({"reasoning_effort": "huge"}, "reasoning_effort"),
    ({"thinking_token_budget": 4, "max_tokens_thinking": 3}, "max_tokens_thinking"),
]
"""Fields that are wrong by their own text (misspelt, wrong type, unknown effort, aliases that disagree), and the one
that the error names."""
QUESTION: Any = [{"role": "user", "content": "What is 12 + 30?"}]


def application(adapters: Path) -> dict[str, Any]:
    """Two models: one with s1's format and aliases, one with a format of four strings, budgets of its own and LoRA
    adapters."""
    ponder = {
        "name": "ponder",
        "thinking_format": PONDER,
        "budgets": {"default": 8, "maximum": 64},
        "adapters": {"folder": str(adapters), "max_rank": 8},
    }
    return {"models": [{"name": "s1", "aliases": ["gpt-*"], "budgets": {"effort": EFFORT}, **ENGINE}, ponder | ENGINE]}


def delimiters(tokenizer: Any, model: str = "s1") -> tuple[list[int], list[int]]:
    fmt = ThinkingFormat.preset("s1") if model == "s1" else ThinkingFormat.model_validate(PONDER)
    return (
        tokenizer.encode(fmt.start, add_special_tokens=False),
        tokenizer.encode(fmt.end, add_special_tokens=False),
    )


def find(needle: list[int], ids: list[int]) -> int:
    positions = [i for i in range(len(ids) - len(needle) + 1) if ids[i : i + len(needle)] == needle]
    return positions[0] if positions else -1


def check_ids(tokenizer: Any, ids: list[int], thinking: dict[str, Any], model: str = "s1") -> None:
    """Count a response by hand and compare it with what the server says of it."""
    start, end = delimiters(tokenizer, model)
    budget, limit = thinking["budget"]["max_tokens"], thinking["limit"]
    assert ids[: len(start)] == start
    ended = find(end, ids)
    body = ids[len(start) : ended if ended >= 0 else len(ids)]
    if thinking["end_forced"]:
        assert thinking["thinking_tokens"] == limit
        assert tokenizer.decode(body[limit:]) in ("", "\n")
    else:
        assert thinking["thinking_tokens"] == len(body)
    assert budget == "auto" or limit <= budget
    assert thinking["thinking_tokens"] <= limit
    assert thinking["answer_tokens"] == (len(ids) - ended - len(end) if ended >= 0 else 0)


def chat(client: openai.OpenAI, thinking: Any = None, model: str = "s1", **fields: Any) -> Any:
    extra = {"return_token_ids": True} | ({"thinking": thinking} if thinking is not None else {})
    fields = {"max_tokens": 120, "temperature": 1.0} | fields
    return client.chat.completions.create(model=model, messages=QUESTION, extra_body=extra, **fields)
