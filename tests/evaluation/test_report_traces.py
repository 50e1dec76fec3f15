from __future__ import annotations

import base64
import gzip
import json
import shutil
import subprocess
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from s1ray.evaluation.loading import load_all_results
from s1ray.evaluation.report import write_report
from s1ray.evaluation.report.traces import Traces, link, pack_traces
from s1ray.schemas import Evaluation
from s1ray.storage import local_copy
from tests.evaluation.conftest import MakeRun
from tests.support.browser import EXECUTABLES

CHROMIUM = next(filter(None, map(shutil.which, EXECUTABLES)), None)


def unpacked(traces: Traces) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(gzip.decompress(base64.b64decode(traces.packed)))
    return found


def test_every_response_is_held_with_its_marks(plain_run: Path) -> None:
    traces = pack_traces(load_all_results([plain_run]))
    assert traces is not None
    assert (traces.held, traces.responses, traces.questions) == (400, 400, 40)
    data = unpacked(traces)
    waited = [trace for trace in data["traces"] if trace["w"] == 2]
    assert waited
    for trace in waited:
        spans = trace["p"]
        assert [trace["h"][b:e] for b, e in zip(spans[::2], spans[1::2], strict=True)] == ["Wait", "Wait"]
        assert trace["r"][: trace["z"]] == "Final Answer:"
    assert {len([t for t in data["traces"] if t["q"] == q]) for q in range(40)} == {10}, "all arms of each question"


def test_a_page_that_would_be_too_large_holds_whole_questions_and_says_how_many(plain_run: Path) -> None:
    measured = load_all_results([plain_run])
    size = 6_000
    traces = pack_traces(measured, max_bytes=size)
    assert traces is not None
    assert 0 < traces.questions < 40
    assert traces.held == 10 * traces.questions
    assert len(base64.b64decode(traces.packed)) <= size
    assert traces.ids["miniature"] == set(sorted(measured[0].questions)[: traces.questions])


def test_links_survive_any_label(plain_run: Path) -> None:
    row = load_all_results([plain_run])[0].arms[-1].rows[0]
    assert link("a/b", row) == f"#trace=a%2Fb/sft/max%3D64%20waits%3D2/{row.id}"


SCRIPT = """
const same = (a, b) => { if (JSON.stringify(a) !== JSON.stringify(b)) { console.error(a, b); process.exit(1); } };
const kinds = (found) => found.map((piece) => [piece.kind, piece.text]);
same(kinds(pieces("so. Wait, no.\\nWait more Waiting", [14, 18], ["Wait"])),
  [["", "so. "], ["own", "Wait"], ["", ", no.\\n"], ["inserted", "Wait"], ["", " more Waiting"]]);
same(kinds(pieces("\\u{1f600}a", [1, 2], [])), [["", "\\u{1f600}"], ["inserted", "a"]]);
same(kinds(pieces("ab", [1, 1], ["Wait"])), [["", "a"], ["inserted", ""], ["", "b"]]);
same(kinds(pieces("Wait (a+b)*", null, ["Wait", "(a+b)*"])), [["own", "Wait"], ["", " "], ["own", "(a+b)*"]]);
same(visible("a\\u0000b\\r\\nc\\u202e"), "a\\u2400b\\nc\\ufffd");
const data = {benchmarks: ["m"], models: ["base", "sft"], arms: [{name: "max=0"}], questions: [
  {b: 0, i: "q", d: null, t: "What is 1?", g: "1"}]};
const trace = {q: 0, m: 1, a: 0, s: "0-r1", v: "wrong", c: false, e: "budget", h: "Hmm", r: "2", x: null};
const asked = (wanted) => matches(trace, data.questions[0], data, wanted);
same([{}, {model: "sft"}, {verdict: "wrong", cut: "thinking"}, {text: "hMM"}, {domain: "(none)"}].map(asked),
  [true, true, true, true, true]);
same([{model: "base"}, {arm: "x"}, {verdict: "right"}, {cut: "answer"}, {cut: "neither"}, {text: "zzz"}].map(asked),
  [false, false, false, false, false, false]);
same(parseHash("#trace=" + address(trace, data) + "&with=x"), {trace: "m/sft/max%3D0/q-0-r1", with: "x"});
same(parseHash("#plot-accuracy"), null);
same([sameAddress("a%28", "a("), sameAddress("a%", "a%")], [true, false]);
"""


def test_the_browsers_rules(tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    code = resources.files("s1ray.evaluation.report").joinpath("browser.js").read_text("utf-8")
    (tmp_path / "test.js").write_text(code + SCRIPT)
    done = subprocess.run([node, str(tmp_path / "test.js")], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(CHROMIUM is None, reason="no browser found; on Debian: apt-get install chromium")
def test_a_link_opens_two_responses_and_nothing_that_a_model_wrote_runs(make_run: MakeRun, tmp_path: Path) -> None:
    evil = "<img src=x onerror=document.title=1><script>document.title=1</script>"

    def change(row: Evaluation) -> dict[str, object]:
        return {"thinking": evil + "Wait Wait", "waits": 1, "wait_spans": [len(evil), len(evil) + 4], "answer": evil}

    run = make_run(change=change, questions=4, text=evil + "{}")
    page = write_report([run], tmp_path / "report.html")
    base, sft = (load_all_results([run])[0].of(model)[0].rows[0] for model in ("base", "sft"))
    done = subprocess.run(
        [
            *(str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"),
            *(f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=5000", "--dump-dom"),
            local_copy(page).as_uri() + link("miniature", base, sft),
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    shown = done.stdout[done.stdout.index('class="trace-detail"') :]
    shown = shown[: shown.index("</section>")]
    assert shown.count("<article") == 2
    assert shown.count('<mark title="inserted">Wait</mark>') == 2
    assert shown.count('<span class="own" title="the model\'s own">Wait</span>') == 2
    assert shown.count("&lt;script&gt;document.title=1&lt;/script&gt;") == 5, "question, and thinking and answer twice"
    assert "<img" not in done.stdout
    assert "<title>1</title>" not in done.stdout
