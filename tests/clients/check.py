"""What the Python checks share: run a call, compare it with the server's account, print one line of JSON."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import sys
import traceback
import urllib.request
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

URL = os.environ.get("S1RAY_URL", "")
"""The server's."""
QUESTION = "What is 12 + 30?"
BUDGET = 12
"""Thinking tokens that the calls ask for, where they ask."""
MARKERS = ("<|im_start|>", "<|im_end|>")
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"n": {"enum": [1, 2]}},
    "required": ["n"],
    "additionalProperties": False,
}
"""A tool's parameters."""
WHOLE = "`text` holds thinking and answer, delimiters included; `thinking` holds both apart"
"""What a completion shows."""


@dataclass(frozen=True)
class Shown:
    """What a client shows of a response; None where it has no place for it."""

    answer: str
    """Its text, or the call of a tool as JSON."""
    thinking: str | None = None
    output_tokens: int | None = None
    thinking_tokens: int | None = None
    note: str = ""


def check(client: str, call: str, run: Callable[[], Shown]) -> None:
    """Run a call and print what came of it, as `judge` says."""
    recorded()
    result: dict[str, Any] = {"client": client, "version": importlib.metadata.version(client), "call": call}
    try:
        with contextlib.redirect_stdout(sys.stderr):
            shown = run()
        result |= asdict(shown) | {"problems": judge(shown, recorded())}
    except Exception as error:
        traceback.print_exc()
        said = [record for record in recorded() if record["status"] != 200 or record["error"]]
        problem = f"{type(error).__name__}: {error}"[:300]
        result |= asdict(Shown("")) | {"problems": [problem, *(json.dumps(record)[:300] for record in said)]}
    print(json.dumps(result), flush=True)


def judge(shown: Shown, records: list[dict[str, Any]]) -> list[str]:
    """What is wrong with a response as the client shows it.

    Args:
        shown: by the client.
        records: the proxy's of the requests that the call has made.
    """
    problems = [f"{record['path']}: {record['error']}" for record in records if record["error"]]
    if not records:
        problems.append("the server got no request")
    if not shown.answer.strip():
        problems.append("no answer")
    problems += [f"{marker} in the text" for marker in MARKERS if marker in shown.answer + (shown.thinking or "")]
    for name, value in (("output", shown.output_tokens), ("thinking", shown.thinking_tokens)):
        right = sum(record[name] or 0 for record in records)
        if value is not None and value != right:
            problems.append(f"{value} {name} tokens, but the server counted {right}")
    thought = sum(record["thinking"] or 0 for record in records)
    if not thought:
        problems.append("the server's account has no thinking")
    if shown.thinking is not None and not shown.thinking.strip():
        problems.append("the thinking is empty")
    return problems


def recorded() -> list[dict[str, Any]]:
    """What the proxy has recorded since the last call."""
    with urllib.request.urlopen(f"{URL}/-/recorded", timeout=30) as response:
        records: list[dict[str, Any]] = json.load(response)
    return records
