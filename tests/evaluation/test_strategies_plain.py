"""Plain: nothing forced, at any server; and what answers cost, whoever makes the requests."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from pathlib import Path

import httpx
import pytest
from pydantic import JsonValue

from s1ray.config import ConfigError
from s1ray.evaluation.config import Endpoint, EvalConfig, ServedModel
from s1ray.evaluation.endpoint import check_endpoint
from s1ray.evaluation.loading import load_results
from s1ray.evaluation.measure import Engines
from s1ray.evaluation.recount import Recount, Recounted
from s1ray.evaluation.strategies.base import Sampling
from s1ray.evaluation.strategies.cost import Cost, Metered
from s1ray.evaluation.strategies.plain import Plain
from s1ray.evaluation.summary import summary_markdown
from s1ray.generation import GenerationError, GenerationRequest, Generator
from s1ray.generation.http import HTTPGenerator
from s1ray.manifests import read_manifest
from s1ray.runs import Run
from s1ray.schemas import Completion, Evaluation, Timing, read_table
from s1ray.thinking.budget import ThinkingBudget
from tests.evaluation.test_strategies import config
from tests.support.evaluations import measured, run_eval
from tests.support.priced import ANSWER_TOKENS, PROMPT_TOKENS, Priced, Said
from tests.support.scripted_model import FORMAT, TOKENIZER, Recorder, questions

USAGE: dict[str, JsonValue] = {"prompt_tokens": 9, "completion_tokens": 40}
REASONING: dict[str, JsonValue] = USAGE | {"completion_tokens_details": {"reasoning_tokens": 30}}


def stock(usage: JsonValue, seen: list[dict[str, JsonValue]] | None = None) -> httpx.MockTransport:
    """A server that knows nothing of thinking, and refuses whoever asks for it."""

    def handle(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/models"):
            return httpx.Response(200, json={"data": [{"id": "b"}, {"id": "s"}]})
        body = json.loads(request.content)
        if seen is not None:
            seen.append(body)
        if "thinking" in body:
            return httpx.Response(400, json={"error": {"message": "unknown field thinking"}})
        number = body["messages"][0]["content"].split()[1].rstrip(":")
        message = {"content": f"Final Answer: {1000 + int(number)}" if number.isdigit() else "2"}
        answer = {"choices": [{"message": message, "finish_reason": "stop"}], "usage": usage}
        return httpx.Response(200, json=answer)

    return httpx.MockTransport(handle)


def over(transport: httpx.MockTransport) -> Engines:
    def engine(model: ServedModel) -> Generator:
        return HTTPGenerator("http://stock/v1", model.name, transport=transport)

    return engine


def rows_of(run: Run) -> list[Evaluation]:
    return [Evaluation(**row) for row in read_table(run.path / "evaluations.parquet", Evaluation).to_pylist()]


def plain(tmp_path: Path, **arm: JsonValue) -> EvalConfig:
    return config(tmp_path, {"strategy": "plain", **arm})


def test_a_server_without_thinking_is_measured_and_its_own_count_of_reasoning_taken(tmp_path: Path) -> None:
    seen: list[dict[str, JsonValue]] = []
    run = run_eval(plain(tmp_path), engines=over(stock(REASONING, seen)))
    rows = rows_of(run)
    assert {(r.thinking_tokens, r.answer_tokens, r.prompt_tokens, r.calls, r.thinking_unknown) for r in rows} == {
        (30, 10, 9, 1, False)
    }
    assert all(row.correct for row in rows)
    assert not any("thinking" in body or "max_tokens" in body for body in seen)
    assert not measured(run.path, "sft", "plain").warnings


def test_where_no_reasoning_tokens_are_told_they_are_unknown_and_it_is_said(tmp_path: Path) -> None:
    run = run_eval(plain(tmp_path), engines=over(stock(USAGE)))
    result = measured(run.path, "sft", "plain")
    assert {(r.thinking_tokens, r.answer_tokens, r.thinking_unknown) for r in result.rows} == {(0, 40, True)}
    assert (result.total_tokens.value, result.uncounted) == (40, 0)
    (warning,) = result.warnings
    assert "thinking tokens of 12 of 12 responses are unknown" in warning
    assert "| sft | plain | 100 (" in summary_markdown([run.path])
    assert "| unknown | 40.0 |" in summary_markdown([run.path])
    manifest = read_manifest(run.path)
    assert manifest is not None
    figures = manifest["figures"]["sft plain"]
    assert (figures["thinking_tokens"], figures["answer_tokens"], figures["outside_limits"]) == (None, 40, 0)


def test_where_nothing_is_counted_at_all_the_calls_are_called_uncounted(tmp_path: Path) -> None:
    run = run_eval(plain(tmp_path), engines=over(stock(None)))
    result = measured(run.path, "sft", "plain")
    assert result.uncounted == 12
    assert "the tokens of 12 request(s) were not counted" in "\n".join(result.warnings)


def test_only_models_whose_arms_force_nothing_may_stand_at_such_a_server() -> None:
    models = [ServedModel(label="sft", name="s")]
    check_endpoint(Endpoint(), models, plain={"sft"}, transport=stock(USAGE))
    with pytest.raises(ConnectionError, match="unknown field thinking"):
        check_endpoint(Endpoint(), models, transport=stock(USAGE))
    with_weights = [ServedModel(label="sft", name="s", weights="a/folder")]
    with pytest.raises(ConfigError, match="gives no token ids"):
        check_endpoint(Endpoint(), with_weights, plain={"sft"}, transport=stock(USAGE))


def test_the_trial_asks_as_the_run_will() -> None:
    def picky(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/models"):
            return httpx.Response(200, json={"data": [{"id": "s"}]})
        if json.loads(request.content).get("temperature") != 1:
            return httpx.Response(400, json={"error": {"message": "only temperature 1"}})
        return httpx.Response(200, json={"choices": [{"message": {"content": "2"}}]})

    models, server = [ServedModel(label="sft", name="s")], httpx.MockTransport(picky)
    with pytest.raises(ConfigError, match=r"only temperature 1.*Set sampling.temperature .* take 1 alone"):
        check_endpoint(Endpoint(), models, plain={"sft"}, transport=server)
    check_endpoint(Endpoint(), models, plain={"sft"}, sampling=Sampling(temperature=1), transport=server)


def test_the_stage_tells_the_check_which_models_are_plain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[set[str]] = []

    class Enough(Exception):
        pass

    def check(endpoint: Endpoint, models: list[ServedModel], *, plain: set[str], sampling: Sampling) -> None:
        told.append(plain)
        raise Enough

    monkeypatch.setattr("s1ray.evaluation.runner.check_endpoint", check)
    models: JsonValue = [{"label": "base", "name": "b", "arms": ["plain"]}, {"label": "sft", "name": "s"}]
    with pytest.raises(Enough):
        run_eval(config(tmp_path, {"strategy": "plain"}, {"max_tokens": 8}, models=models))
    assert told == [{"base"}]


def test_an_instruction_follows_the_question_and_a_maximum_is_of_the_whole_response() -> None:
    model = Priced([Said("1")])
    arm = Plain(instruction="Think step by step.\nThen / answer.", max_tokens=77)
    asyncio.run(arm(model, questions(1)[0], 2, Sampling(temperature=0.5), seed=3))
    (request,) = model.seen
    assert request.messages is not None
    assert request.messages[0]["content"] == questions(1)[0].question + "\n\nThink step by step.\nThen / answer."
    assert (request.budget, request.max_tokens, request.temperature) == (None, 77, 0.5)
    assert request.id == f"{questions(1)[0].id}-2"
    assert arm.name == "plain max=77 (Think step by step. Then answer.)"
    assert arm.limits == (0, None)


def unforced(text: str) -> Completion:
    ids = TOKENIZER.encode(text, add_special_tokens=False)
    return Completion(
        id="q",
        thinking="",
        answer=text,
        prompt_tokens=1,
        thinking_tokens=0,
        answer_tokens=len(ids),
        output_ids=ids,
        thinking_unknown=True,
    )


@pytest.mark.parametrize(
    ("text", "thinking"),
    [("<|im_start|>think\nabc<|im_start|>answer\n5", 4), ("abc<|im_start|>answer\n5", 3), ("The answer is 5", 0)],
)
def test_ids_tell_thinking_where_a_stock_server_gives_them(text: str, thinking: int) -> None:
    class Stock:
        async def complete(self, request: GenerationRequest) -> Completion:
            return unforced(text)

        async def close(self) -> None: ...

    request = GenerationRequest(id="q", prompt_ids=[1])
    counted = asyncio.run(Recounted(Stock(), Recount(FORMAT)).complete(request))
    assert (counted.thinking_tokens, counted.thinking_unknown) == (thinking, False)
    assert counted.thinking_tokens + counted.answer_tokens == unforced(text).answer_tokens


def test_a_response_without_delimiters_is_not_taken_for_thinking_where_none_was_opened_by_force() -> None:
    class Instruct:
        async def complete(self, request: GenerationRequest) -> Completion:
            return dataclasses.replace(unforced("The answer is 5"), thinking_unknown=False)

        async def close(self) -> None: ...

    model = Recounted(Instruct(), Recount(FORMAT))
    free = asyncio.run(model.complete(GenerationRequest(id="q", prompt_ids=[1])))
    assert (free.thinking_tokens, free.answer_tokens) == (0, 15)
    forced = GenerationRequest(id="q", prompt_ids=[1], budget=ThinkingBudget(max_tokens=99))
    assert asyncio.run(model.complete(forced)).thinking_tokens == 15


def test_every_request_is_metered_also_those_that_fail_or_are_cancelled() -> None:
    async def scenario() -> Cost:
        meter = Metered(Priced([Said("1", 4), Said("2", 9, fails=True), Said("3", 1000)]))
        requests = [GenerationRequest(id=str(i), prompt_ids=[1]) for i in range(3)]
        await meter.complete(requests[0])
        with pytest.raises(GenerationError):
            await meter.complete(requests[1])
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(meter.complete(requests[2]), 0.001)
        return meter.cost

    cost = asyncio.run(scenario())
    assert (cost.calls, cost.uncounted_calls) == (3, 2)
    assert (cost.prompt_tokens, cost.thinking_tokens, cost.answer_tokens) == (PROMPT_TOKENS, 4, ANSWER_TOKENS)


def test_how_long_each_answer_took_stands_apart_from_the_rows_and_survives_a_resumed_run(tmp_path: Path) -> None:
    def gone(request: GenerationRequest) -> BaseException | None:
        return RuntimeError("a bug") if request.id.startswith(last) else None

    resolved = config(tmp_path, {"max_tokens": 8})
    last = sorted(question.id for question in questions(12))[-1]
    with pytest.raises(RuntimeError, match="a bug"):
        run_eval(resolved, engines=lambda model: Recorder(model.label, fail=gone))
    run = run_eval(resolved, engines=lambda model: Recorder(model.label))
    timings = read_table(run.path / "timings.parquet", Timing).to_pylist()
    assert [(t["id"], t["model"], t["arm"]) for t in timings] == [(r.id, r.model, r.arm) for r in rows_of(run)]
    assert all(0 <= timing["seconds"] < 60 for timing in timings)
    assert len(load_results([run.path]).arms) == 2
