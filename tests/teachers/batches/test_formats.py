"""What is sent, and what the tests' server answers, is what the providers' own packages say it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anthropic.types.messages
import httpx
import openai.types
import pytest
from pydantic import TypeAdapter

from s1ray.schemas import Question
from s1ray.teachers.asking import ask_all
from s1ray.teachers.base import Ask
from s1ray.teachers.endpoints import AnthropicTeacher, EndpointTeacher, OpenAITeacher, ResponsesTeacher
from s1ray.teachers.ledger import TEACHER
from tests.support.batch_server import batch_server


def exchanged(
    teacher: type[EndpointTeacher], folder: Path, monkeypatch: pytest.MonkeyPatch, **more: object
) -> list[tuple[str, str, bytes, bytes]]:
    """(method, path, sent, received) of a run of two questions, the second of which gets an error first."""
    seen: list[tuple[str, str, bytes, bytes]] = []

    def send(client: httpx.Client, request: httpx.Request, **options: Any) -> httpx.Response:
        response = sent(client, request, **options)
        seen.append((request.method, request.url.path, request.read(), response.read()))
        return response

    sent = httpx.Client.send
    monkeypatch.setattr(httpx.Client, "send", send)
    with batch_server() as server:
        server.result = lambda question, times: "error" if question == "1?" and times == 1 else "4"
        config = teacher.model_validate(
            {"kind": "k", "base_url": server.url, "model": "m", "batch": {"poll": 0.01}, **more}
        )
        running = config.start(0, folder / TEACHER)
        ask_all(running, config, [Ask(Question(id=str(n), question=f"{n}?"), 0) for n in range(2)], folder)
        running.close()
    return seen


@pytest.mark.parametrize("teacher", [OpenAITeacher, ResponsesTeacher])
def test_openais(teacher: type[EndpointTeacher], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = set()
    for method, path, sent, received in exchanged(teacher, tmp_path, monkeypatch):
        paths.add((method, path.split("/")[2]))
        if path.endswith("/content"):
            continue
        if path.endswith("/files"):
            assert json.loads(received)["purpose"] == "batch"
            continue
        if method == "POST":
            TypeAdapter(openai.types.BatchCreateParams).validate_json(sent, strict=True)
        openai.types.Batch.model_validate_json(received)
    assert paths == {("POST", "files"), ("POST", "batches"), ("GET", "batches"), ("GET", "files")}


def test_anthropics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths, kinds = set[tuple[str, bool]](), set[str]()
    for method, path, sent, received in exchanged(
        AnthropicTeacher, tmp_path, monkeypatch, thinking={"max_tokens": 2048}
    ):
        paths.add((method, path.rpartition("/")[2] in ("batches", "results")))
        if path.endswith("/results"):
            kinds.update(json.loads(line)["result"]["type"] for line in received.splitlines())
            continue
        if method == "POST":
            TypeAdapter(anthropic.types.messages.BatchCreateParams).validate_json(sent)
        anthropic.types.messages.MessageBatch.model_validate_json(received)
    assert paths == {("POST", True), ("GET", False), ("GET", True)}
    assert kinds == {"succeeded", "errored"}
