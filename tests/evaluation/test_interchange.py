from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from s1ray.errors import InputError
from s1ray.evaluation.config import EvalConfig
from s1ray.evaluation.interchange.export import export
from s1ray.evaluation.interchange.measured import measurements
from s1ray.evaluation.loading import load_all_results
from s1ray.generation import GenerationRequest
from s1ray.schemas import Completion, Evaluation
from s1ray.storage import local_copy
from tests.evaluation.conftest import MakeRun
from tests.support.evaluations import measured, run_eval


class Same:
    """Always gives the same answer."""

    async def complete(self, request: GenerationRequest) -> Completion:
        return Completion(id=request.id, thinking="", answer="2", prompt_tokens=1, thinking_tokens=1, answer_tokens=1)

    async def close(self) -> None:
        pass


def inspect_log(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    with zipfile.ZipFile(local_copy(path)) as log:
        samples = [json.loads(log.read(name)) for name in log.namelist() if name.startswith("samples/")]
        return json.loads(log.read("header.json")), samples


def test_an_inspect_log_holds_every_sample_with_its_score_and_the_sums(plain_run: Path, tmp_path: Path) -> None:
    exported = export([plain_run], "inspect", tmp_path / "logs")
    assert len(exported.files) == 10
    header, samples = inspect_log(tmp_path / "logs" / "miniature_sft_max=64.eval")
    result = measured(plain_run, "sft", "max=64")
    assert header["status"] == "success"
    assert header["results"]["scores"][0]["metrics"]["accuracy"]["value"] == result.accuracy.value
    assert header["eval"]["dataset"]["samples"] == len(samples) == len(result.rows)
    assert {(each["id"], each["epoch"]) for each in samples} == {(row.question_id, 1) for row in result.rows}
    assert {each["scores"]["s1ray"]["value"] for each in samples} == {"C", "I"}
    parts = samples[0]["output"]["choices"][0]["message"]["content"]
    assert [part["type"] for part in parts] == ["reasoning", "text"]
    usage = header["stats"]["model_usage"]["sft"]
    assert usage["reasoning_tokens"] == sum(row.thinking_tokens for row in result.rows)
    assert usage["output_tokens"] == sum(row.thinking_tokens + row.answer_tokens for row in result.rows)


def test_repetitions_are_samples_of_their_own_at_the_arms_temperature(tmp_path: Path) -> None:
    questions = tmp_path / "questions.jsonl"
    questions.write_text(
        "".join(json.dumps({"question": f"{n} + 1 = ?", "answer": str(int(n) + 1)}) + "\n" for n in "12")
    )
    config = EvalConfig.model_validate(
        {
            "output": str(tmp_path / "run"),
            "benchmark": str(questions),
            "models": [{"label": "m", "name": "m"}],
            "arms": [{"strategy": "majority", "votes": 2, "temperature": 0.7, "label": "vote"}],
            "sampling": {"samples": 2, "temperature": 0.5},
            "repeats": 3,
        }
    )
    run_eval(config, engines=lambda model: Same())
    export([tmp_path / "run"], "inspect", tmp_path / "logs")
    header, samples = inspect_log(tmp_path / "logs" / "questions_m_vote.eval")
    assert sorted(each["epoch"] for each in samples) == sorted([*range(1, 7)] * 2)
    assert (header["eval"]["config"]["epochs"], header["eval"]["model_generate_config"]["temperature"]) == (6, 0.7)


def test_undecided_samples_have_no_score_and_failed_ones_are_wrong(make_run: MakeRun, tmp_path: Path) -> None:
    def change(row: Evaluation) -> dict[str, object]:
        if row.extracted == "1":
            return {"correct": None, "verdict": "undecided"}
        return {"error": "status 500", "correct": False, "verdict": "failed"} if row.extracted == "2" else {}

    run = make_run(share=lambda model, arm: 1.0, change=change)
    export([run], "inspect", tmp_path)
    header, samples = inspect_log(tmp_path / "miniature_base_max=0.eval")
    assert len([each for each in samples if "scores" not in each]) == 1
    (failed,) = (each for each in samples if "error" in each)
    assert (failed["error"]["message"], failed["scores"]["s1ray"]["value"]) == ("status 500", "I")
    score = header["results"]["scores"][0]
    assert (score["scored_samples"], score["unscored_samples"]) == (39, 1)
    values = [each["scores"]["s1ray"]["value"] == "C" for each in samples if "scores" in each]
    assert score["metrics"]["accuracy"]["value"] == pytest.approx(sum(values) / len(values))


def test_lm_eval_files_have_a_line_for_each_question(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(samples=2)
    export([run], "lm-eval", tmp_path)
    folder = tmp_path / "miniature_sft_max=64"
    (results,), (lines,) = folder.glob("results_*.json"), folder.glob("samples_miniature_*.jsonl")
    scores = json.loads(results.read_text())["results"]["miniature"]
    assert scores["exact_match,none"] == measured(run, "sft", "max=64").accuracy.value
    rows = [json.loads(line) for line in lines.read_text().splitlines()]
    assert len(rows) == 40
    assert all(len(row["resps"][0]) == len(row["filtered_resps"]) == 2 for row in rows)
    assert sum(row["exact_match"] for row in rows) / 40 == scores["exact_match,none"]


@pytest.mark.parametrize("kind", ["inspect", "lm-eval"])
def test_private_texts_are_in_no_log(kind: str, make_run: MakeRun, tmp_path: Path) -> None:
    secret = "zebra"
    benchmark = {"name": "hidden", "path": str(tmp_path / "hidden.parquet"), "private_text": True}
    run = make_run(
        text=f"{secret} {{}}?",
        change=lambda row: {
            "thinking": secret,
            "benchmark": "hidden",
            "error": f"status 400: {secret}" if row.gold == "3" else None,
        },
        benchmark=None,
        benchmarks=[benchmark],
    )
    exported = export([run], kind, tmp_path / "logs")
    assert exported.private == ["hidden"]
    for path in exported.files:
        if path.suffix == ".eval":
            with zipfile.ZipFile(local_copy(path)) as log:
                assert all(secret.encode() not in log.read(name) for name in log.namelist())
        else:
            assert secret not in path.read_text()


def test_labels_that_differ_in_signs_only_get_files_of_their_own(make_run: MakeRun) -> None:
    arms = [{"strategy": "budget_forcing", "max_tokens": n, "label": label} for n, label in enumerate(("a b", "a_b"))]
    run = make_run(sweep=None, arms=arms)
    names = [each.name for each in measurements(load_all_results([run]))]
    assert len(set(names)) == len(names) == 4


def test_what_cannot_be_written_is_said_before(plain_run: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the formats are inspect, lm-eval"):
        export([plain_run], "csv", tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="is a file"):
        export([plain_run], "inspect", tmp_path / "file")
    with pytest.raises(InputError, match="is read"):
        export([plain_run], "inspect", plain_run / "logs")
