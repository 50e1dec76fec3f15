"""Instructor: an answer in the form of a pydantic model."""

from __future__ import annotations

from typing import Any, Literal

import instructor
import openai
from pydantic import BaseModel

from tests.clients.check import BUDGET, QUESTION, URL, Shown, check

FIELDS: dict[str, Any] = {
    "model": "s1",
    "messages": [{"role": "user", "content": QUESTION}],
    "max_tokens": 400,
    "max_retries": 0,
    "extra_body": {"thinking": {"max_tokens": BUDGET}},
}


class Verdict(BaseModel):
    """What the answer must be."""

    sure: bool
    kind: Literal["sum", "other"]


def ask(mode: instructor.Mode, **more: Any) -> Shown:
    client = instructor.from_openai(openai.OpenAI(base_url=f"{URL}/v1", api_key="unused", max_retries=0), mode=mode)
    verdict, raw = client.chat.completions.create_with_completion(response_model=Verdict, **FIELDS, **more)
    usage: Any = raw.usage
    details = usage.completion_tokens_details
    note = "the thinking is in the completion that `create_with_completion` adds"
    thinking = raw.choices[0].message.reasoning_content
    return Shown(verdict.model_dump_json(), thinking, usage.completion_tokens, details.reasoning_tokens, note)


check("instructor", "JSON schema", lambda: ask(instructor.Mode.JSON_SCHEMA))
check("instructor", "tools", lambda: ask(instructor.Mode.TOOLS))
