"""Thinking tokens that a server does not tell: unknown everywhere, and nowhere zero."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest
from pydantic import JsonValue

from s1ray.evaluation import plots
from s1ray.evaluation.ablation import ablation
from s1ray.evaluation.interchange.export import export
from s1ray.evaluation.loading import load_all_results, load_results
from s1ray.evaluation.method_table import method_rows
from s1ray.evaluation.plots import accuracy_curve
from s1ray.evaluation.report import write_report
from s1ray.evaluation.report.compare import write_comparison
from s1ray.evaluation.report.costs import arm_costs
from s1ray.evaluation.report.traces import pack_traces
from s1ray.pipelines.config import AblationConfig
from s1ray.pipelines.tables import write_ablation
from s1ray.schemas import Evaluation
from tests.evaluation.conftest import MakeRun
from tests.evaluation.test_report_traces import unpacked

UNTOLD: dict[str, object] = {"thinking_unknown": True, "thinking_tokens": 0, "answer_tokens": 30}


def untold(row: Evaluation) -> dict[str, object]:
    return UNTOLD if row.arm.startswith("plain") else {}


def one_untold(row: Evaluation) -> dict[str, object]:
    return UNTOLD if row.arm == "max=64" and row.gold == "1" else {}


PLAIN: list[JsonValue] = [{"strategy": "plain"}, {"strategy": "plain", "max_tokens": 99}]
ONE: dict[str, JsonValue] = {"models": [{"label": "sft", "name": "sft"}], "sweep": {"max_tokens": [16, 64]}}


def test_an_arm_of_unknown_thinking_has_no_control_and_no_scaling(make_run: MakeRun) -> None:
    results = load_results([make_run(change=one_untold, **ONE)])
    (method,), (row,) = results.methods(), method_rows(results, resamples=9)
    assert (method.control_runs, method.control_samples, method.scaling, method.scaling_raw) == (None,) * 4
    assert (row.control, row.scaling, row.level) == (None, None, ())
    assert row.performance.value == method.performance == 0.5
    assert (results.controlled, results.obeying) == (79, 79)
    assert [warning for warning in results.warnings if "outside" in warning] == []


def test_a_class_is_not_compared_with_an_arm_of_unknown_thinking(make_run: MakeRun) -> None:
    arms: list[JsonValue] = [{"strategy": "class_conditional", "length": "short", "max_tokens": 64}]
    short: dict[str, object] = {"thinking_tokens": 5}

    def told(row: Evaluation) -> dict[str, object]:
        return short if row.arm.startswith("short") else {}

    for name, change, control in (("told", told, 1), ("untold", lambda row: told(row) or one_untold(row), None)):
        method = load_results([make_run(name, change=change, arms=arms, **ONE)]).methods()[-1]
        assert (method.series, method.control_runs) == ("class_conditional, forced", control)


def test_curves_against_thinking_leave_the_arm_out(make_run: MakeRun, tmp_path: Path) -> None:
    results = load_results([make_run(change=untold, arms=PLAIN, **ONE)])
    labels = {
        axis: figure.axes[0].get_legend_handles_labels()[1]
        for axis in ("thinking", "total")
        if (figure := accuracy_curve(results, plots.PRINT, axis)) is not None
    }
    assert labels == {"thinking": ["sft"], "total": ["sft", "sft, plain"]}
    only = make_run("only", change=untold, sweep=None, arms=PLAIN)
    assert accuracy_curve(load_results([only])) is None
    page = write_report([only], tmp_path / "report.html").read_text()
    assert "Accuracy against thinking" not in page
    assert "Accuracy against all tokens" in page
    assert not list(tmp_path.glob("report.accuracy.*"))
    assert len(list(tmp_path.glob("report.accuracy-total.*"))) == 2


def test_tables_say_unknown(make_run: MakeRun, tmp_path: Path) -> None:
    first = make_run("a", change=untold, arms=PLAIN[:1], **ONE)
    second = make_run("b", arms=PLAIN[:1], seed=1, **ONE)
    page = write_report([first], tmp_path / "report.html").read_text()
    assert "Arms whose thinking tokens are unknown are left out." in page
    assert page.count("<td>unknown</td>") == 3, "mean, longest, and what it cost"
    write_comparison(first, second, tmp_path / "compare.html")
    assert "<td>unknown → 9</td>" in (tmp_path / "compare.html").read_text()
    (plain,) = (cost for cost in arm_costs(load_all_results([first])) if cost.arm == "plain")
    assert (plain.thinking, plain.answer, plain.per_right) == (None, 40 * 30, 60)
    traces = pack_traces(load_all_results([first]))
    assert traces is not None
    assert {trace["t"] for trace in unpacked(traces)["traces"]} == {None, 16, 64}


def test_an_ablation_says_unknown(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(change=untold, sweep=None, arms=PLAIN[:1])
    (table,) = ablation([run], "sft")
    assert [row.thinking_tokens for row in table.rows] == [None, None]
    text, _ = write_ablation(AblationConfig(baseline="sft"), [run], tmp_path)
    assert text.count("| unknown |") == 2


@pytest.mark.parametrize("kind", ["inspect", "lm-eval"])
def test_logs_of_other_tools_have_no_number(kind: str, make_run: MakeRun, tmp_path: Path) -> None:
    export([make_run(change=one_untold, **ONE)], kind, tmp_path)
    if kind == "lm-eval":
        (lines,) = (tmp_path / "miniature_sft_max=64").glob("samples_*.jsonl")
        told = [json.loads(line)["s1ray"][0]["thinking_tokens"] for line in lines.read_text().splitlines()]
        assert sorted(told, key=str) == [64] * 39 + [None]
        return
    with zipfile.ZipFile(tmp_path / "miniature_sft_max=64.eval") as log:
        header = json.loads(log.read("header.json"))
        samples = [json.loads(log.read(name)) for name in log.namelist() if name.startswith("samples/")]
    used = header["stats"]["model_usage"]["sft"]
    assert used == {"input_tokens": 0, "output_tokens": 39 * 68 + 30, "total_tokens": 39 * 68 + 30}
    assert sum("reasoning_tokens" in each["model_usage"]["sft"] for each in samples) == 39
