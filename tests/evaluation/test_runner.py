from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from pydantic import JsonValue

from s1ray import logs
from s1ray.benchmarks import Benchmark, load_benchmark
from s1ray.config import ConfigError, validate_config
from s1ray.errors import InputError
from s1ray.evaluation.config import EvalConfig, ServedModel
from s1ray.evaluation.loading import load_results
from s1ray.evaluation.measure import Engines
from s1ray.evaluation.report import write_report
from s1ray.evaluation.runner import plan
from s1ray.generation import GenerationRequest
from s1ray.grading import Grade
from s1ray.manifests import Manifest, RunError, read_manifest
from s1ray.miniature import registration
from s1ray.schemas import Completion, Evaluation, Question, arrow_schema, to_table, write_table
from s1ray.secrets import SecretError
from s1ray.storage import Location
from tests.support.evaluations import measured, run_eval
from tests.support.scripted_model import Recorder, questions


@pytest.fixture
def benchmark_file(tmp_path: Path) -> Path:
    path = tmp_path / "questions.parquet"
    write_table(to_table(questions(60), Question), path)
    return path


def config(benchmark_file: Path, output: str = "run", **changes: JsonValue) -> EvalConfig:
    data: dict[str, JsonValue] = {
        "output": str(benchmark_file.parent / output),
        "benchmark": str(benchmark_file),
        "models": [{"label": "base", "name": "b", "arms": ["max=0", "max=64"]}, {"label": "sft", "name": "s"}],
        "sweep": {"max_tokens": [0, 8, 64], "waits": [1, 2]},
        "endpoint": {"concurrency": 4},
    }
    return validate_config(EvalConfig, data | changes, "test")


def scripted(
    log: Path | None = None,
    fail: Callable[[GenerationRequest], str | BaseException | None] = lambda request: None,
    change: Callable[[Completion], Completion] = lambda completion: completion,
) -> Engines:
    return lambda model: Recorder(model.label, log, fail, change)


def manifest(folder: Location) -> Manifest:
    found = read_manifest(folder)
    assert found is not None
    return found


def test_a_run_measures_every_model_arm_and_question_and_gives_the_declared_schema(benchmark_file: Path) -> None:
    run = run_eval(config(benchmark_file), engines=scripted())
    table = pq.read_table(run.path / "evaluations.parquet")
    assert table.schema.equals(arrow_schema(Evaluation))
    assert table.num_rows == 60 * (2 + 5)
    keys = list(zip(*(table[name].to_pylist() for name in ("model", "arm", "id")), strict=True))
    assert len(set(keys)) == len(keys)
    assert [key[:2] for key in keys[::60]] == [
        ("base", "max=0"),
        ("base", "max=64"),
        *(("sft", arm) for arm in ("max=0", "max=8", "max=64", "max=64 waits=1", "max=64 waits=2")),
    ]
    assert all(keys[i : i + 60] == sorted(keys[i : i + 60]) for i in range(0, len(keys), 60))
    assert not (run.path / "journals").exists()
    written = json.loads((run.path / "manifest.json").read_text())
    assert written["rows"] == {"questions": 60, "evaluations": 420}
    assert written["config"]["sweep"]["max_tokens"] == [0, 8, 64]


def test_more_thinking_gives_more_right_answers_and_budgets_hold(benchmark_file: Path) -> None:
    run = run_eval(config(benchmark_file), engines=scripted())
    results = load_results([run.path])
    by_arm = {r.arm: r for r in results.of("sft")}
    # Question i needs 1 + i % 50 letters: none without thinking, 8 of each 50 with 8 letters, all with 64.
    assert [round(60 * by_arm[arm].accuracy.value) for arm in ("max=0", "max=8", "max=64")] == [0, 16, 60]
    assert by_arm["max=8"].longest == 8
    assert by_arm["max=64"].longest == 50
    assert by_arm["max=64 waits=1"].longest == 64
    assert all(result.obeying == 60 for result in results.arms)
    assert by_arm["max=64 waits=2"].waits > by_arm["max=64 waits=1"].waits > 0
    assert manifest(run.path)["figures"]["sft max=64"] == {
        "correct": 60,
        "answered": 60,
        "unparsable": 0,
        "undecided": 0,
        "thinking_tokens": pytest.approx(22.17, abs=0.01),
        "answer_tokens": 5.0,
        "calls": 1.0,
        "uncounted_calls": 0,
        "answers_cut": 0,
        "raw_markers": 0,
        "outside_limits": 0,
    }
    assert write_report([run.path], run.path.parent / "report.html").stat().st_size > 20_000


def test_where_and_how_the_endpoint_is_asked_changes_neither_the_bytes_nor_a_complete_run(benchmark_file: Path) -> None:
    one = run_eval(config(benchmark_file, "one"), engines=scripted())
    other = config(benchmark_file, "two", endpoint={"concurrency": 17, "base_url": "http://elsewhere:1/v1"})
    two = run_eval(other, engines=scripted())
    assert (one.path / "evaluations.parquet").read_bytes() == (two.path / "evaluations.parquet").read_bytes()
    again = config(benchmark_file, "one", endpoint={"base_url": "http://127.0.0.1:9/v1"})
    assert run_eval(again).skipped


def test_a_killed_process_loses_and_repeats_nothing_that_was_finished(benchmark_file: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    child = tmp_path / "child.py"
    child.write_text(
        textwrap.dedent(
            f"""
            import asyncio, sys
            sys.path.insert(0, {str(Path(__file__).parents[2])!r})
            from tests.support.scripted_model import Recorder
            from tests.evaluation.test_runner import config
            from tests.support.evaluations import measured, run_eval
            from pathlib import Path

            class Slow(Recorder):
                async def complete(self, request):
                    await asyncio.sleep(0.01)
                    return await super().complete(request)

            run_eval(config(Path({str(benchmark_file)!r})), engines=lambda m: Slow(m.label, Path({str(log)!r})))
            """
        )
    )
    process = subprocess.Popen([sys.executable, str(child)])
    try:
        deadline = time.monotonic() + 300
        while not (log.exists() and len(log.read_text().splitlines()) >= 40):
            assert process.poll() is None, "the child ended by itself"
            assert time.monotonic() < deadline, "the child does not get going"
            time.sleep(0.02)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert manifest(tmp_path / "run").get("status") == "running"
    finished = log.read_text().splitlines()
    assert 40 <= len(finished) < 60 * 7
    run = run_eval(config(benchmark_file), engines=scripted(log=log))
    asked = log.read_text().splitlines()
    whole = run_eval(config(benchmark_file, "whole"), engines=scripted())
    assert len(asked) - len(set(asked)) <= 4, "only what was in flight may be asked for again"
    assert (run.path / "evaluations.parquet").read_bytes() == (whole.path / "evaluations.parquet").read_bytes()


def some_fail(request: GenerationRequest) -> str | None:
    return "status 503: overloaded" if request.id[0] in "01" else None


def test_failed_requests_end_the_run_with_a_message_and_are_asked_again(benchmark_file: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"requests failed for good.*status 503: overloaded"):
        run_eval(config(benchmark_file), engines=scripted(fail=some_fail))
    assert manifest(tmp_path / "run")["status"] == "running"
    with pytest.raises(RunError, match="is unfinished"):
        load_results([tmp_path / "run"])
    log = tmp_path / "log"
    run = run_eval(config(benchmark_file), engines=scripted(log=log))
    assert {line.split()[-1][0] for line in log.read_text().splitlines()} <= {"0", "1"}
    assert all(result.errors == 0 for result in load_results([run.path]).arms)


def test_failures_within_the_allowed_share_are_counted_as_wrong(
    benchmark_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = run_eval(config(benchmark_file, max_failed_share=0.5), engines=scripted(fail=some_fail))
    failed = sum(result.errors for result in load_results([run.path]).arms)
    assert manifest(run.path)["drops"] == {"failed": failed}
    assert failed > 0
    largest = measured(run.path, "sft", "max=64")
    assert largest.accuracy.value == pytest.approx(1 - largest.errors / 60)


def test_a_server_that_is_gone_stops_the_run_soon(benchmark_file: Path, tmp_path: Path) -> None:
    asked: list[str] = []

    def gone(request: GenerationRequest) -> str:
        asked.append(request.id)
        return "ConnectError: connection refused"

    with pytest.raises(ConnectionError, match=r"24 requests failed in a row.*connection refused.*run the same command"):
        run_eval(config(benchmark_file), engines=scripted(fail=gone))
    assert len(asked) < 40


def test_thinking_beyond_the_budget_is_measured_and_told(
    benchmark_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def overrun(completion: Completion) -> Completion:
        return dataclasses.replace(completion, thinking_tokens=completion.thinking_tokens + 1)

    caplog.set_level("WARNING", logger="s1ray")
    run = run_eval(config(benchmark_file), engines=scripted(change=overrun))
    zero = measured(run.path, "sft", "max=0")
    assert zero.obeying == 0
    assert load_results([run.path]).methods()[-1].control_runs not in (None, 1.0)
    assert "sft with max=0: 60 of 60 responses think outside their limits" in caplog.text


def test_other_questions_under_the_same_name_are_not_mixed_in(
    benchmark_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(request: GenerationRequest) -> BaseException:
        return KeyboardInterrupt()

    with pytest.raises(KeyboardInterrupt):
        run_eval(config(benchmark_file, benchmark="miniature", limit=60), engines=scripted(fail=stop))
    changed = [dataclasses.replace(question, answer="7") for question in load_benchmark("miniature")]
    monkeypatch.setattr(registration, "build_benchmark", lambda: changed)
    with pytest.raises(RunError, match="began with other questions"):
        run_eval(config(benchmark_file, benchmark="miniature", limit=60), engines=scripted())


def test_a_run_keeps_the_definition_that_its_benchmark_had(
    benchmark_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(request: GenerationRequest) -> BaseException:
        return KeyboardInterrupt()

    def changed() -> EvalConfig:
        return config(benchmark_file, benchmark=f"{__name__}:OWN", limit=2)

    own = Benchmark(name="own", path=str(benchmark_file))
    monkeypatch.setattr(sys.modules[__name__], "OWN", own, raising=False)
    with pytest.raises(KeyboardInterrupt):
        run_eval(changed(), engines=scripted(fail=stop))
    run = run_eval(changed(), engines=scripted())
    monkeypatch.setattr(sys.modules[__name__], "OWN", own.model_copy(update={"system_prompt": "Be brief."}))
    with pytest.raises(RunError, match=r"holds a complete 'eval' run of other config .*differs in benchmarks"):
        run_eval(changed(), engines=scripted())
    results = load_results([run.path])
    assert (results.benchmark, results.configs[0].benchmarks) == ("own", [own])


def test_samples_of_a_question_have_their_own_seeds_and_arms_share_them(benchmark_file: Path) -> None:
    seen: dict[tuple[object, int], dict[str, int | None]] = {}

    def look(request: GenerationRequest) -> None:
        assert request.budget is not None
        seen.setdefault((request.budget.max_tokens, request.budget.waits), {})[request.id] = request.seed

    sampled = config(benchmark_file, limit=5, sampling={"samples": 3, "temperature": 0.7})
    run_eval(sampled, engines=scripted(fail=look))
    arms = list(seen.values())
    assert all(arm == arms[0] for arm in arms)
    assert len(set(arms[0].values())) == 15
    greedy: dict[str, int | None] = {}
    run_eval(
        config(benchmark_file, "greedy", limit=5),
        engines=scripted(fail=lambda request: greedy.update({request.id: request.seed})),
    )
    assert set(greedy.values()) == {None}


def test_generators_are_closed_even_when_the_run_fails(benchmark_file: Path) -> None:
    made: list[Recorder] = []

    def engines(model: ServedModel) -> Recorder:
        made.append(Recorder(model.label, fail=lambda request: RuntimeError("a bug")))
        return made[-1]

    with pytest.raises(RuntimeError, match="a bug"):
        run_eval(config(benchmark_file), engines=engines)
    assert [generator.closed for generator in made] == [True, True]


def test_the_plan_counts_without_starting_anything(benchmark_file: Path, tmp_path: Path) -> None:
    lines = plan(config(benchmark_file))
    assert "420 responses" in lines[-2]
    assert f"at most {60 * (64 + 0 + 8 + 64 * 3):,} thinking tokens" in lines[-2]
    assert not (tmp_path / "run").exists()
    with pytest.raises(ConfigError, match="limit: 100 questions"):
        plan(config(benchmark_file, limit=100))


def test_the_plan_misses_what_the_run_would_miss(benchmark_file: Path) -> None:
    with pytest.raises(SecretError, match="NO_SUCH_KEY is not set"):
        plan(config(benchmark_file, endpoint={"api_key": "env:NO_SUCH_KEY"}))
    with pytest.raises(ConfigError, match=r"models.0.weights: 'nowhere/model': no such folder"):
        plan(config(benchmark_file, models=[{"label": "base", "name": "b", "weights": "nowhere/model"}]))


def lenient(gold: str, text: str, *, kind: str | None = None) -> Grade:
    return Grade("correct", gold, "lenient")


def test_a_grader_of_ones_own_grades_the_answers(benchmark_file: Path) -> None:
    run = run_eval(config(benchmark_file, grader=f"{__name__}:lenient", limit=5), engines=scripted())
    result = measured(run.path, "sft", "max=0")
    assert (result.accuracy.value, dict(result.graders)) == (1.0, {"lenient": 5})


def doubtful(gold: str, text: str, *, kind: str | None = None) -> Grade:
    return Grade("undecided", text, "doubtful")


def test_what_the_grader_cannot_decide_is_recorded_as_such(
    benchmark_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="s1ray")
    run = run_eval(config(benchmark_file, grader=f"{__name__}:doubtful", limit=5), engines=scripted())
    rows = pq.read_table(run.path / "evaluations.parquet").to_pylist()
    assert {(row["correct"], row["verdict"]) for row in rows} == {(None, "undecided")}
    figures = manifest(run.path)["figures"]["sft max=0"]
    assert (figures["correct"], figures["answered"], figures["undecided"]) == (0, 5, 5)
    assert "of 35 responses 0 are right; from 0 no answer could be read (wrong), 35 are undecided" in caplog.text


def choosy(gold: str, text: str, *, kind: str | None = None) -> Grade:
    if gold == "1001":
        raise InputError("a reference that it cannot use")
    return lenient(gold, text)


def test_an_answer_whose_reference_the_grader_refuses_is_undecided(benchmark_file: Path) -> None:
    run = run_eval(config(benchmark_file, grader=f"{__name__}:choosy"), engines=scripted())
    rows = pq.read_table(run.path / "evaluations.parquet").to_pylist()
    refused = [row for row in rows if row["gold"] == "1001"]
    assert {(row["verdict"], row["correct"], row["graded_by"]) for row in refused} == {
        ("undecided", None, "refused by the grader")
    }
    assert {row["verdict"] for row in rows if row not in refused} == {"correct"}


FAULTS: dict[str, BaseException] = {}


def faulty(gold: str, text: str, *, kind: str | None = None) -> Grade:
    if gold in FAULTS:
        raise FAULTS[gold]
    return lenient(gold, text)


def test_answers_that_the_grader_fails_at_are_kept_and_graded_by_the_next_start(
    benchmark_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    mended = config(benchmark_file, grader=f"{__name__}:faulty", limit=20)
    chosen = sorted(questions(60), key=lambda question: question.id)[:20]
    for fault in (ConnectionError("no judge"), KeyError("judge")):
        monkeypatch.setitem(FAULTS, str(chosen[3].answer), fault)
        with pytest.raises(RunError, match=rf"7 of 140 answers could not be graded.*{type(fault).__name__}.*kept"):
            run_eval(mended, engines=scripted())
    FAULTS.clear()
    assert "no judge" in caplog.text
    log = tmp_path / "log"
    run = run_eval(mended, engines=scripted(log=log))
    assert not log.exists(), "nothing is asked for twice"
    whole = run_eval(mended.model_copy(update={"output": str(tmp_path / "whole")}), engines=scripted())
    assert (run.path / "evaluations.parquet").read_bytes() == (whole.path / "evaluations.parquet").read_bytes()
    assert None not in pq.read_table(run.path / "timings.parquet")["seconds"].to_pylist()


def test_an_answer_that_is_being_graded_when_the_run_is_stopped_is_kept(
    benchmark_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models: JsonValue = [{"label": "sft", "name": "s", "arms": ["max=8"]}]
    stopped = config(benchmark_file, grader=f"{__name__}:faulty", limit=2, models=models)
    second = sorted(questions(60), key=lambda question: question.id)[1]
    monkeypatch.setitem(FAULTS, str(second.answer), KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        run_eval(stopped, engines=scripted())
    FAULTS.clear()
    log = tmp_path / "log"
    run = run_eval(stopped, engines=scripted(log=log))
    assert not log.exists()
    assert pq.read_table(run.path / "evaluations.parquet")["verdict"].to_pylist() == ["correct", "correct"]


def test_progress_is_logged_while_no_response_comes(
    benchmark_file: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Slow(Recorder):
        async def complete(self, request: GenerationRequest) -> Completion:
            await asyncio.sleep(0.3)
            return await super().complete(request)

    monkeypatch.setattr(logs, "HEARTBEAT_S", 0.1)
    caplog.set_level("INFO", logger="s1ray")
    run_eval(config(benchmark_file, limit=1), engines=lambda model: Slow(model.label))
    assert "eval: 0 of 7 responses, 0 tokens/s" in caplog.text
    assert "eval: 7 of 7 responses" in caplog.text
