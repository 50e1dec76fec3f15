"""Runs that ask a batch server: their asks, their teachers, and the ledger against the server's bill."""

from __future__ import annotations

from pathlib import Path

from pydantic import JsonValue

from s1ray.schemas import Question, question_id
from s1ray.teachers.asking import ask_all
from s1ray.teachers.base import Ask
from s1ray.teachers.endpoints import AnthropicTeacher, EndpointTeacher, OpenAITeacher, ResponsesTeacher
from s1ray.teachers.ledger import TEACHER, Ledger
from tests.support.batch_server import BatchServer

KINDS = ("openai", "responses", "anthropic")
CLASSES: dict[str, type[EndpointTeacher]] = {
    "openai": OpenAITeacher,
    "responses": ResponsesTeacher,
    "anthropic": AnthropicTeacher,
}


def asks(count: int) -> list[Ask]:
    """Questions "What is 0 + 0?", "What is 1 + 1?", ..."""
    texts = [f"What is {number} + {number}?" for number in range(count)]
    return [Ask(Question(id=question_id(text), question=text), 0) for text in texts]


def teacher(server: BatchServer, kind: str = "openai", batch: dict[str, JsonValue] | None = None) -> EndpointTeacher:
    """Looks at its batches every 20 ms."""
    fields: dict[str, JsonValue] = {"kind": kind, "base_url": server.url, "model": "m"}
    fields["batch"] = {"poll": 0.02, **(batch or {})}
    if kind == "anthropic":
        fields["thinking"] = {"max_tokens": 2048}
    return CLASSES[kind].model_validate(fields)


def run(config: EndpointTeacher, wanted: list[Ask], folder: Path) -> Ledger:
    """What the collector does in an actor, and the ledger afterwards."""
    running = config.start(0, folder / TEACHER)
    try:
        ask_all(running, config, wanted, folder)
    finally:
        running.close()
    return read(folder)


def read(folder: Path) -> Ledger:
    """The ledger of a run, as it is in its folder."""
    ledger = Ledger(folder)
    ledger.read()
    return ledger


def billed(server: BatchServer, ledger: Ledger, lost: int = 0) -> None:
    """The ledger's count of calls and tokens is the server's."""
    tally = ledger.tally(closed=True)
    assert (tally.sent, tally.lost) == (server.asked.total(), lost)
    if not lost:
        assert (tally.prompt_tokens, tally.completion_tokens) == (server.prompt_tokens, server.completion_tokens)
