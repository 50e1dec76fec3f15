from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from pydantic import JsonValue
from rich.console import Console

from s1ray.evaluation.breakdowns import repeated
from s1ray.evaluation.loading import load_results
from s1ray.evaluation.report import write_report
from s1ray.evaluation.samples import choose_samples
from s1ray.evaluation.summary import summary_markdown, summary_table
from s1ray.manifests import RunError
from s1ray.pages import percent
from s1ray.schemas import Evaluation
from tests.evaluation.conftest import MakeRun
from tests.support.evaluations import measured

VOID = {"meta", "link", "br", "img", "hr", "input", "path", "use"}


class Checker(HTMLParser):
    """Open tags must close in order; text and attributes are collected."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.text: list[str] = []
        self.attributes: list[tuple[str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def page(run_dirs: list[Path], path: Path) -> tuple[str, Checker]:
    html = write_report(run_dirs, path).read_text()
    checker = Checker()
    checker.feed(html)
    assert checker.open == []
    return html, checker


def responses(html: str) -> dict[str, Any]:
    """What the page's browser of responses reads."""
    (packed,) = re.findall(r'id="trace-data">([^<]*)<', html)
    found: dict[str, Any] = json.loads(gzip.decompress(base64.b64decode(packed)))
    return found


@pytest.fixture(scope="module")
def plain_page(plain_run: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Checker]:
    return page([plain_run], tmp_path_factory.mktemp("page") / "report.html")


def test_the_page_says_the_measured_numbers_with_their_intervals(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(questions=40, share=lambda model, arm: 0.25 if model == "base" else 0.75)
    _, checker = page([run], tmp_path / "report.html")
    text = " ".join(" ".join(checker.text).split())
    largest = measured(run, "sft", "max=64").accuracy
    assert f"75.0 {100 * largest.low:.1f} to {100 * largest.high:.1f}" in text
    assert "+50.0 points" in text
    assert "1,600 of 1,600" not in text
    assert "400 of 400 samples" in text
    assert "token-conditional control paper 40 – −24 −23.8" in text, "the paper's numbers are labelled as the paper's"
    assert "s1-32B evalchemy 36.0" in text
    assert "counted by the server" in text, "the config names no folder of weights"


def test_the_page_needs_nothing_from_outside(plain_page: tuple[str, Checker]) -> None:
    html, checker = plain_page
    assert not {"link", "img", "iframe", "object"} & set(checker.tags)
    (policy,) = [value for _, value in checker.attributes if value.startswith("default-src 'none'")]
    data, code = re.findall(r"<script[^>]*>(.*?)</script>", html, flags=re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
    assert policy.endswith(f"; script-src 'sha256-{digest}'"), "the page's own script may run, and no other"
    assert re.fullmatch(r"[A-Za-z0-9+/=]+", data)
    assert not [name for name, _ in checker.attributes if name in ("src", "srcset") or name.startswith("on")]
    links = {value for name, value in checker.attributes if name in ("href", "xlink:href")}
    assert all(link.startswith("#") for link in links)
    outside = re.findall(r"(?:https?:)?//[^\s\"'<>]+", html)
    # The config's own endpoint is shown, and XML namespaces are names, not addresses.
    assert {url for url in outside if "w3.org" not in url} == {"http://127.0.0.1:8000/v1"}
    assert "@import" not in html
    assert "url(http" not in html


def test_ids_on_the_page_are_unique_and_references_meet_them(plain_page: tuple[str, Checker]) -> None:
    html, checker = plain_page
    ids = [value for name, value in checker.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    used = {value[1:] for name, value in checker.attributes if name in ("href", "xlink:href")}
    used |= set(re.findall(r"url\(#([^)]+)\)", html))
    traces = {value for value in used if value.startswith("trace=")}
    assert used - traces <= set(ids)
    held = responses(html)
    known = {
        "/".join(
            (held["benchmarks"][q["b"]], held["models"][t["m"]], held["arms"][t["a"]]["name"], f"{q['i']}-{t['s']}")
        )
        for t in held["traces"]
        for q in [held["questions"][t["q"]]]
    }
    assert traces
    for each in traces:
        first, _, other = each.removeprefix("trace=").partition("&with=")
        assert {unquote(address) for address in (first, other) if address} <= known


def test_generated_text_is_escaped_everywhere(make_run: MakeRun, tmp_path: Path) -> None:
    evil = "</pre><script>alert('&')</script>"

    def change(row: Evaluation) -> dict[str, object]:
        return {"thinking": evil, "answer": evil, "extracted": evil, "gold": evil, "domain": evil}

    html, checker = page([make_run(change=change, text=evil + "{}")], tmp_path / "report.html")
    assert checker.tags.count("script") == html.count("<script") == 2, "the page's own data and code"
    assert "alert('" not in html
    held = responses(html)
    assert {trace["h"] for trace in held["traces"]} == {evil}


def test_labels_are_shown_as_they_are_whatever_they_mean_to_a_plot(make_run: MakeRun, tmp_path: Path) -> None:
    models = [{"label": "_$_$", "name": "a"}, {"label": "$x^2$", "name": "b"}]
    html, _ = page([make_run(models=models, samples=2)], tmp_path / "report.html")
    drawn = re.findall(r"<svg.*?</svg>", html, flags=re.DOTALL)
    thinking, total, waits, samples = ({text.strip().split(",")[0] for text in texts_of(svg)} for svg in drawn)
    for labels in (thinking, total, waits):
        assert {"_$_$", "$x^2$"} <= labels
    assert any(label.startswith("$x^2$ ") for label in samples)
    assert (tmp_path / "report.accuracy.png").is_file()


def texts_of(svg: str) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]*)</text>", svg)


def test_colours_follow_the_theme(plain_page: tuple[str, Checker]) -> None:
    html, _ = plain_page
    svg = "".join(re.findall(r"<svg.*?</svg>", html, flags=re.DOTALL))
    assert "var(--model-1)" in svg
    assert not re.findall(r"#0[1-5]0[1-5]0[1-5]", svg)
    assert "prefers-color-scheme: dark" in html


def test_the_same_runs_give_the_same_bytes(plain_run: Path, tmp_path: Path) -> None:
    first = write_report([plain_run], tmp_path / "a.html").read_bytes()
    assert write_report([plain_run], tmp_path / "b.html").read_bytes() == first
    for end in ("accuracy.png", "accuracy.svg", "accuracy-total.png", "accuracy-total.svg"):
        assert (tmp_path / f"a.{end}").read_bytes() == (tmp_path / f"b.{end}").read_bytes()


def test_failed_requests_are_announced(make_run: MakeRun, tmp_path: Path) -> None:
    def fail(row: Evaluation) -> dict[str, object]:
        return {"error": "timeout", "correct": False, "extracted": None} if row.id < "3" else {}

    _, checker = page([make_run(change=fail)], tmp_path / "report.html")
    assert re.search(r"[1-9]\d* request\(s\) failed for good", "".join(checker.text))


def test_what_happens_after_the_thinking_is_shown_and_warned_of(make_run: MakeRun, tmp_path: Path) -> None:
    def go_on(row: Evaluation) -> dict[str, object]:
        return {"answer_cut": True, "answer_tokens": 70} if row.arm == "max=0" and row.gold in ("1", "2") else {}

    run = make_run(change=go_on)
    warning = "sft with max=0: 2 of 40 answers were cut (5.0 %): sampling.answer_tokens is too small, or"
    _, checker = page([run], tmp_path / "report.html")
    text = " ".join(" ".join(checker.text).split())
    assert warning in text
    assert "7.3 2 5.0 %" in text, "mean answer tokens, cut answers and their share"
    assert "7 → 7 2 (5.0 %) → 2 (5.0 %)" in text, "base against sft, both at max=0"
    assert "mean tokens of thinking and answer (log₂ scale)" in text
    shown = io.StringIO()
    Console(file=shown).print(summary_table([run]))
    assert f"warning: {warning}" in " ".join(shown.getvalue().split())


def test_a_lean_run_makes_a_report_too(make_run: MakeRun, tmp_path: Path) -> None:
    one_arm: dict[str, JsonValue] = {"models": [{"label": "only", "name": "m"}], "sweep": None, "arms": [{}]}
    run = make_run(change=lambda row: {"thinking_tokens": 9, "domain": None}, **one_arm)
    _, checker = page([run], tmp_path / "report.html")
    text = "".join(checker.text)
    assert "By domain" not in text
    assert "at equal budgets" not in text
    assert "What waits do" not in text


def test_the_header_has_the_temperatures_of_all_arms(make_run: MakeRun, tmp_path: Path) -> None:
    arms: list[JsonValue] = [{"max_tokens": 16}, {"strategy": "majority", "votes": 2, "temperature": 0.7}]
    run = make_run(sweep=None, arms=arms, sampling={"temperature": 0})
    _, checker = page([run], tmp_path / "report.html")
    assert "temperature 0.0 and 0.7." in " ".join("".join(checker.text).split())


def test_what_a_reward_model_reads_stands_among_the_costs(make_run: MakeRun, plain_run: Path, tmp_path: Path) -> None:
    run = make_run(change=lambda row: {"reward_tokens": 1025})
    assert "<td>41,000</td>" in write_report([run], tmp_path / "read.html").read_text()
    assert "reward model</th>" not in write_report([plain_run], tmp_path / "plain.html").read_text()


def test_several_samples_bring_pass_at_k_and_majority(make_run: MakeRun, tmp_path: Path) -> None:
    _, checker = page([make_run(samples=4)], tmp_path / "report.html")
    assert "@1 50.0, @2 50.0, @4 50.0" in " ".join("".join(checker.text).split())


def test_undecided_answers_count_neither_way_and_are_announced(make_run: MakeRun, tmp_path: Path) -> None:
    def doubt(row: Evaluation) -> dict[str, object]:
        undecided = row.arm == "max=64" and row.model == "sft" and int(row.gold) <= 10
        return {"verdict": "undecided", "correct": None, "graded_by": "symbolic"} if undecided else {}

    run = make_run(share=lambda model, arm: 1.0, change=doubt)
    _, checker = page([run], tmp_path / "report.html")
    text = " ".join(" ".join(checker.text).split())
    assert "10 are undecided (count neither way)" in text
    assert "sft with max=64: 10 of 40 answers are undecided and count neither way" in text
    left_out = sorted(row.question_id for row in measured(run, "sft", "max=64").rows if int(row.gold) <= 10)
    assert f"10 question(s) have no decided answer and are left out: {', '.join(left_out[:5])}, ..." in text
    assert "n = 30" in text, "the comparisons are over the questions that both decided"
    result = measured(run, "sft", "max=64")
    assert (result.accuracy.value, result.accuracy.n, result.undecided) == (1.0, 30, 10)
    (table,) = summary_markdown([run]).split("\n\n")[:1]
    assert "| sft | max=64 | 100 (88.6–100.0) |" in table


def test_a_domain_without_a_decided_answer_has_no_questions(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(change=lambda row: {"verdict": "undecided", "correct": None} if row.domain == "domain 1" else {})
    html, _ = page([run], tmp_path / "report.html")
    assert re.search(r"<td>domain 1</td>(<td>–</td>){4}\s*<td>0</td>", html)


def test_votes_and_pass_at_k_leave_undecided_samples_out(make_run: MakeRun, tmp_path: Path) -> None:
    def doubt(row: Evaluation) -> dict[str, object]:
        return {"verdict": "undecided", "correct": None} if row.sample > 1 or row.gold == "1" else {}

    run = make_run(samples=4, share=lambda model, arm: 1.0, change=doubt)
    _, checker = page([run], tmp_path / "report.html")
    text = " ".join("".join(checker.text).split())
    assert "@1 100 (n = 39), @2 100 (n = 39)" in text
    assert all(4 not in dict(row.pass_at) for row in repeated(load_results([run]))), "no question has four decided ones"


def test_a_guess_from_the_last_line_has_no_vote_as_in_the_strategy(make_run: MakeRun) -> None:
    """Of three samples the first is right; the others guess the same wrong answer, or all of them guess."""

    def guess(row: Evaluation) -> dict[str, object]:
        right = row.sample == 0
        guessed = not right or row.gold == "1"
        verdict: dict[str, object] = {"correct": right, "verdict": "correct" if right else "incorrect"}
        return verdict | {
            "extracted": row.gold if right else "-1",
            "graded_by": "exact, from last_line" if guessed else "exact",
        }

    one: dict[str, JsonValue] = {"models": [{"label": "sft", "name": "s"}], "sweep": {"max_tokens": [64]}}
    (row,) = repeated(load_results([make_run(samples=3, change=guess, **one)]))
    assert row.majority is not None
    assert (row.majority.value, row.majority.n) == (1, 40)
    at = {k: share.value for k, share in row.majority_at}
    assert at[1] == pytest.approx(1 / 3), "one response is taken, vote or not"
    # Two of three, in random order: the first is among them in two thirds of all choices.
    assert at[2] == pytest.approx(2 / 3, abs=0.05)


def test_a_run_without_any_decided_answer_is_refused_in_words(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(change=lambda row: {"verdict": "undecided", "correct": None})
    with pytest.raises(RunError, match="no answer of 'base' with arm 'max=0' could be decided; nothing to report"):
        write_report([run], tmp_path / "report.html")


def test_a_run_of_a_version_without_verdicts_is_read(plain_run: Path, make_run: MakeRun) -> None:
    import pyarrow.parquet as pq

    run = make_run(change=lambda row: {"graded_by": "symbolic (undecided)"} if row.gold == "1" else {})
    file = run / "evaluations.parquet"
    old = pq.read_table(file).drop_columns("verdict")
    pq.write_table(old.set_column(old.schema.get_field_index("correct"), "correct", [[False] * len(old)]), file)
    result = measured(run, "sft", "max=64")
    assert (result.undecided, result.accuracy.n, result.accuracy.value) == (1, 39, 0.0)


def test_samples_are_of_different_kinds(make_run: MakeRun) -> None:
    results = load_results([make_run(share=lambda model, arm: 0.2 if arm == "max=16" else 0.6)])
    samples = choose_samples(results, results.questions)
    assert len(samples) == 6
    assert len({sample.reason for sample in samples}) == 6
    assert all(sample.other is None or sample.other.question_id == sample.row.question_id for sample in samples)
    first = samples[0].row.question_id
    assert all(sample.row.question_id != first for sample in choose_samples(results, {*results.questions} - {first}))


def test_no_sample_is_said_to_be_without_a_wait_where_no_arm_is(make_run: MakeRun) -> None:
    arms: list[JsonValue] = [{"max_tokens": 64, "waits": waits} for waits in (1, 2)]
    results = load_results([make_run(sweep=None, arms=arms, share=lambda model, arm: 0.5 if "2" in arm else 0.4)])
    assert not [each for each in choose_samples(results, results.questions, 20) if "without a wait" in each.reason]


def test_the_terminal_table_has_a_row_for_each_measurement(plain_run: Path) -> None:
    table = summary_table([plain_run])
    assert table.row_count == 10
    shown = io.StringIO()
    Console(file=shown, width=80).print(table)
    assert "…" not in shown.getvalue(), "it fits a terminal of 80 columns"


def test_the_markdown_table_says_what_the_terminals_does(plain_run: Path) -> None:
    table, notes = summary_markdown([plain_run]).split("\n\n")
    assert notes.startswith("- of 400 responses 200 are right; from 0 no answer could be read (wrong), 0 are undecided")
    header, rule, *rows = [line.strip("| ").split(" | ") for line in table.splitlines()]
    assert header == [*("model", "arm", "accuracy (%)", "thinking tokens", "answer tokens", "answers cut (%)", "waits")]
    assert set(rule) == {"---"}
    assert {len(row) for row in [rule, *rows]} == {len(header)}
    columns = [list(column.cells) for column in summary_table([plain_run]).columns]
    assert rows == [list(cells) for cells in zip(*columns, strict=True)]


@pytest.mark.parametrize(
    ("share", "text"), [(0.0, "0"), (1.0, "100"), (0.9996, "99.9"), (0.0004, "0.1"), (0.1234, "12.3")]
)
def test_rounding_never_claims_all_or_none(share: float, text: str) -> None:
    assert percent(share) == text


@pytest.mark.parametrize("place", [".", "report.html/inside.html"])
def test_a_place_where_no_report_can_be_written_is_refused(plain_run: Path, tmp_path: Path, place: str) -> None:
    """A folder most of all: what it holds stays."""
    (tmp_path / "report.html").write_text("old")
    with pytest.raises(RunError, match=r"is a folder; give the HTML file|cannot be a folder"):
        write_report([plain_run], tmp_path / place)
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.html"]
