from __future__ import annotations

import base64
import gzip
import io
import json
import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from pydantic import JsonValue
from rich.console import Console

from s1ray.config import ConfigError, validate_config
from s1ray.evaluation.config import EvalConfig
from s1ray.evaluation.loading import load_all_results, load_results
from s1ray.evaluation.report import write_report
from s1ray.evaluation.runner import inputs, plan
from s1ray.evaluation.summary import summary_markdown, summary_table
from s1ray.generation import GenerationError, GenerationRequest
from s1ray.manifests import RunError, read_manifest
from s1ray.schemas import Completion, question_id
from s1ray.storage import local_copy
from tests.evaluation.test_report import page
from tests.support.evaluations import finished_run, run_eval

SECRET = "A confidential question about moss"
PROMPT = "{question}\n\nPut the answer in \\boxed{}"


class Oracle:
    """Answers every question with its number, or as it is told to; thinks about the question's own words."""

    def __init__(self, fails: str = "") -> None:
        self.requests: list[GenerationRequest] = []
        self._fails = fails

    async def complete(self, request: GenerationRequest) -> Completion:
        self.requests.append(request)
        assert request.messages is not None
        asked = request.messages[-1]["content"]
        if self._fails and self._fails in asked:
            raise GenerationError("status 503: overloaded")
        found = re.search(r"\d+", asked)
        return Completion(
            id=request.id,
            thinking=f"They ask: {asked}",
            answer=f"The answer is {found[0] if found else 'A'}.",
            prompt_tokens=5,
            thinking_tokens=8,
            answer_tokens=4,
        )

    async def close(self) -> None:
        pass


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Files of two benchmarks; they share a question."""
    plain = [{"problem": f"Say {i}.", "final": str(i), "topic": "ab"[i % 2]} for i in range(1, 7)]
    (tmp_path / "plain.jsonl").write_text("".join(json.dumps(row) + "\n" for row in plain))
    secret = [{"Q": f"{SECRET} {'x' * i}", "right": "yes", "wrong": "no", "other": "maybe"} for i in range(4)]
    (tmp_path / "secret.jsonl").write_text("".join(json.dumps(row) + "\n" for row in secret))
    return tmp_path


def config(data: Path, output: str = "run", **changes: JsonValue) -> EvalConfig:
    plain: dict[str, JsonValue] = {"path": str(data / "plain.jsonl"), "question": "problem", "answer": "final"}
    fields: dict[str, JsonValue] = {
        "output": str(data / output),
        "benchmarks": [
            {"name": "plain", "domain": "topic", **plain},
            {"name": "boxed", "prompt": PROMPT, "system_prompt": "Be brief.", "limit": 4, **plain},
            {
                "name": "secret",
                "path": str(data / "secret.jsonl"),
                "question": "Q",
                "options": ["right", "wrong", "other"],
                "private_text": True,
            },
        ],
        "models": [{"label": "base", "name": "b"}, {"label": "sft", "name": "s"}],
        "sweep": {"max_tokens": [0, 16]},
        "endpoint": {"concurrency": 4},
    }
    return validate_config(EvalConfig, fields | changes, "test")


def test_a_run_asks_all_benchmarks_and_its_rows_say_which(data: Path) -> None:
    run = run_eval(config(data), engines=lambda model: Oracle())
    rows = pq.read_table(run.path / "evaluations.parquet").to_pylist()
    assert len(rows) == (6 + 4 + 4) * 2 * 2
    assert list(dict.fromkeys(row["benchmark"] for row in rows)) == ["plain", "boxed", "secret"]
    keys = [(row["benchmark"], row["model"], row["arm"], row["id"]) for row in rows]
    assert len(set(keys)) == len(keys), "two benchmarks may ask the same question"
    assert {row["id"] for row in rows if row["benchmark"] == "boxed"} < {
        row["id"] for row in rows if row["benchmark"] == "plain"
    }
    assert {row["domain"] for row in rows if row["benchmark"] == "plain"} == {"a", "b"}
    manifest = read_manifest(run.path)
    assert manifest is not None
    assert manifest["rows"] == {"questions": 14, "evaluations": 56}
    assert manifest["figures"]["boxed: sft max=16"]["correct"] == 4
    assert set(manifest["inputs"]) == {"benchmark plain", "benchmark boxed", "benchmark secret"}
    timings = pq.read_table(run.path / "timings.parquet").to_pylist()
    assert [(t["benchmark"], t["model"], t["arm"], t["id"]) for t in timings] == keys


def test_each_benchmark_is_asked_in_its_own_words(data: Path) -> None:
    oracle = Oracle()
    sampling: JsonValue = {"top_k": 20, "temperature": 0.7}
    run_eval(config(data, sampling=sampling), engines=lambda model: oracle)
    messages = [list(request.messages or ()) for request in oracle.requests]
    assert [{"role": "user", "content": "Say 3."}] in messages
    boxed = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Say 3.\n\nPut the answer in \\boxed{}"},
    ]
    # By their hashes four of the six are asked.
    chosen = sorted(question_id(f"Say {i}.") for i in range(1, 7))[:4]
    assert (boxed in messages) == (question_id("Say 3.") in chosen)
    assert sum(len(each) == 2 for each in messages) == 4 * 4
    (options,) = {each[0]["content"] for each in messages if each[0]["content"].startswith(f"{SECRET} xx\n")}
    assert sorted(line[3:] for line in options.splitlines()[2:]) == ["maybe", "no", "yes"]
    assert {request.top_k for request in oracle.requests} == {20}


def test_a_run_with_failures_asks_again_for_those_alone(data: Path) -> None:
    with pytest.raises(RunError, match="requests failed for good"):
        run_eval(config(data), engines=lambda model: Oracle(fails="boxed"))
    again = Oracle()
    run = run_eval(config(data), engines=lambda model: again)
    assert len(again.requests) == 4 * 4
    assert all("boxed" in str(request.messages) for request in again.requests)
    whole = run_eval(config(data, "whole"), engines=lambda model: Oracle())
    for name in ("evaluations.parquet", "questions.parquet"):
        assert (run.path / name).read_bytes() == (whole.path / name).read_bytes()


def test_private_texts_are_in_no_questions_file_and_in_no_report(data: Path) -> None:
    run = run_eval(config(data), engines=lambda model: Oracle())
    kept = pq.read_table(run.path / "questions.parquet").to_pylist()
    assert SECRET not in str(kept)
    assert {row["benchmark"] for row in kept} == {"plain", "boxed", "secret"}
    assert all(re.fullmatch("[ABC]", row["answer"]) for row in kept if row["benchmark"] == "secret")
    assert "Put the answer in" in str([row for row in kept if row["benchmark"] == "boxed"])
    report = write_report([run.path], data / "report.html").read_text()
    held = gzip.decompress(base64.b64decode(re.findall(r'id="trace-data">([^<]*)<', report)[0])).decode()
    assert "They ask: Say" in held
    assert "confidential" not in report + held
    assert '"secret"' not in held
    assert "Those of secret are left out: its questions are not to be published" in report
    secret = config(data).benchmarks[-1].model_dump(mode="json")
    alone = run_eval(config(data, "alone", benchmarks=[secret]), engines=lambda model: Oracle())
    report = write_report([alone.path], data / "alone.html").read_text()
    assert "confidential" not in report
    assert "trace-data" not in report
    assert "the questions of secret are not to be published" in report


def test_the_report_has_a_section_and_curves_of_each_benchmark(data: Path) -> None:
    run = run_eval(config(data), engines=lambda model: Oracle())
    _, checker = page([local_copy(run.path)], data / "report.html")
    text = " ".join(" ".join(checker.text).split())
    assert "3 benchmarks: plain (6 questions), boxed (4 questions), secret (4 questions)." in " ".join(
        re.sub(r" ([,.])", r"\1", text).split()
    )
    assert "Accuracy on each benchmark" in text
    assert text.count("Control, Scaling, Performance") == 3
    ids = [value for name, value in checker.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    used = {value[1:] for name, value in checker.attributes if name in ("href", "xlink:href")}
    used |= {value for name, value in checker.attributes if name == "aria-labelledby"}
    assert {value for value in used if not value.startswith("trace=")} <= set(ids)
    curves = {path.name for path in data.glob("report.*.png")}
    assert curves == {
        f"report.{name}.{kind}.png" for name in ("plain", "boxed", "secret") for kind in ("accuracy", "accuracy-total")
    }


def test_tables_name_the_benchmark_where_there_are_several(data: Path) -> None:
    run = run_eval(config(data), engines=lambda model: Oracle())
    shown = io.StringIO()
    Console(file=shown, width=120).print(summary_table([run.path]))
    assert "14 questions" in shown.getvalue()
    assert re.search(r"boxed +sft +max=16", shown.getvalue())
    header, _, *rows = summary_markdown([run.path]).split("\n\n")[0].splitlines()
    assert header.startswith("| benchmark | model | arm |")
    assert [row.split(" | ")[0].strip("| ") for row in rows] == ["plain"] * 4 + ["boxed"] * 4 + ["secret"] * 4


def test_one_benchmark_of_a_run_can_be_read_by_its_name(data: Path) -> None:
    run = run_eval(config(data), engines=lambda model: Oracle())
    with pytest.raises(RunError, match="one benchmark is asked for; the runs have plain, boxed, secret"):
        load_results([run.path])
    with pytest.raises(RunError, match="there is no benchmark 'other'; the runs have plain, boxed, secret"):
        load_results([run.path], "other")
    boxed = load_results([run.path], "boxed")
    assert (boxed.benchmark, len(boxed.arms), boxed.arms[0].accuracy.n) == ("boxed", 4, 4)
    assert boxed.arms[0].accuracy.value == 1.0


def test_runs_of_different_benchmarks_go_into_one_report(data: Path) -> None:
    entries = [dict(each) for each in config(data).model_dump(mode="json")["benchmarks"]]
    runs = [
        run_eval(config(data, f"r{i}", benchmarks=[entry]), engines=lambda model: Oracle()).path
        for i, entry in enumerate(entries)
    ]
    assert [results.benchmark for results in load_all_results(runs)] == ["plain", "boxed", "secret"]
    assert [len(results.manifests) for results in load_all_results(runs)] == [1, 1, 1]


def test_runs_that_asked_in_other_words_are_not_mixed(data: Path) -> None:
    entry: dict[str, JsonValue] = {
        "name": "plain",
        "path": str(data / "plain.jsonl"),
        "question": "problem",
        "answer": "final",
    }
    one = run_eval(config(data, "one", benchmarks=[entry]), engines=lambda model: Oracle())
    models: JsonValue = [{"label": "new", "name": "n"}]
    two = run_eval(
        config(data, "two", benchmarks=[entry | {"prompt": PROMPT}], models=models), engines=lambda m: Oracle()
    )
    with pytest.raises(RunError, match=r"two: asked with another prompt than .*one; report them apart"):
        load_all_results([one.path, two.path])


def test_equal_questions_from_files_of_other_names_belong_together_if_they_are_asked_alike(data: Path) -> None:
    entry: dict[str, JsonValue] = {"path": str(data / "plain.jsonl"), "question": "problem", "answer": "final"}
    models: JsonValue = [{"label": "new", "name": "n"}]
    one = run_eval(config(data, "one", benchmarks=[entry | {"name": "a"}]), engines=lambda model: Oracle())
    two = run_eval(config(data, "two", benchmarks=[entry | {"name": "b"}], models=models), engines=lambda m: Oracle())
    boxed = config(data, "boxed", benchmarks=[entry | {"name": "c", "prompt": PROMPT}])
    three = run_eval(boxed, engines=lambda model: Oracle())
    private = config(
        data, "p", benchmarks=[entry | {"name": "d", "private_text": True}], models=[{"label": "p", "name": "p"}]
    )
    four = run_eval(private, engines=lambda model: Oracle())
    found = load_all_results([one.path, two.path, three.path])
    assert [(results.benchmark, results.models) for results in found] == [
        ("a", ["base", "sft", "new"]),
        ("c", ["base", "sft"]),
    ]
    other = config(data, "g", benchmarks=[entry | {"name": "e"}], grader="s1ray.grading.grade:grade")
    five = run_eval(other, engines=lambda model: Oracle())
    assert [results.benchmark for results in load_all_results([one.path, five.path])] == ["a", "e"]
    (joined,) = load_all_results([one.path, four.path])
    assert joined.private_text
    assert joined.questions == {}


def test_a_limit_takes_all_of_a_smaller_one_among_several(data: Path) -> None:
    lines = plan(config(data, limit=5))
    assert [line.split(" (")[0] for line in lines[:3]] == [
        "5 questions of plain",
        "4 questions of boxed",
        "4 questions of secret",
    ]
    entry = config(data).benchmarks[-1].model_dump(mode="json")
    with pytest.raises(ConfigError, match=r"limit: 5 questions asked for, but .* has 4"):
        plan(config(data, limit=5, benchmarks=[entry]))


def test_files_of_older_versions_say_their_benchmark_by_the_config(tmp_path: Path) -> None:
    run = finished_run(tmp_path)
    for name in ("evaluations.parquet", "questions.parquet"):
        table = pq.read_table(run / name)
        pq.write_table(table.drop_columns([c for c in table.column_names if c == "benchmark"]), run / name)
    results = load_results([run])
    assert (results.benchmark, len(results.arms), results.private_text) == ("miniature", 10, False)
    assert len(results.questions) == 40


@pytest.mark.parametrize(
    ("name", "label"), [("gpqa_diamond", "gpqa_diamond"), ("no_package:aime", "aime"), ("no/file.parquet", "file")]
)
def test_a_run_of_an_older_version_that_says_a_name_alone_is_read(tmp_path: Path, name: str, label: str) -> None:
    run = finished_run(tmp_path)
    file = run / "manifest.json"
    manifest = json.loads(file.read_text())
    manifest["config"] |= {"benchmark": name, "benchmarks": []}
    file.write_text(json.dumps(manifest))
    results = load_results([run])
    assert (results.benchmark, len(results.arms)) == (label, 10)
    assert results.private_text == (name == "gpqa_diamond")
    assert (results.configs[0].benchmark, results.configs[0].benchmarks) == (name, [])


def test_the_plan_tells_each_benchmark_and_what_it_is_read_from(data: Path) -> None:
    lines = plan(config(data))
    assert lines[:3] == [
        f"6 questions of plain ({data / 'plain.jsonl'}), 1 sample(s) each",
        f"4 questions of boxed ({data / 'plain.jsonl'}), 1 sample(s) each",
        f"4 questions of secret ({data / 'secret.jsonl'}), 1 sample(s) each",
    ]
    assert any(line.startswith("56 responses") for line in lines)


def test_the_files_of_a_glob_are_all_inputs(data: Path) -> None:
    entry: dict[str, JsonValue] = {
        "name": "all",
        "path": str(data / "*.jsonl"),
        "question": "problem",
        "answer": "final",
    }
    assert inputs(config(data, benchmarks=[entry])) == {
        "benchmark all 1": str(data / "plain.jsonl"),
        "benchmark all 2": str(data / "secret.jsonl"),
    }
