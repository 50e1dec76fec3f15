from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import JsonValue, TypeAdapter, ValidationError

from s1ray.benchmarks import (
    Benchmark,
    BenchmarkRef,
    asked,
    check_there,
    find_benchmark,
    is_file,
    load_benchmark,
    read_benchmark,
)
from s1ray.benchmarks.options import ordered
from s1ray.errors import InputError, MissingError, UnreachableError
from s1ray.grading import grade, kind_of
from s1ray.registry import BENCHMARKS
from s1ray.schemas import Question, question_id, to_table, write_table

REF: TypeAdapter[Benchmark] = TypeAdapter(BenchmarkRef)
SHARED = Path(os.environ.get("S1RAY_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the shared data sets are not there")

OWN = [Question(id="1", question="One?", answer="1")]


def own() -> list[Question]:
    return OWN


def nothing() -> None:
    return None


def rows() -> list[dict[str, str]]:
    return [{"question": "One?"}]


def test_a_benchmark_is_a_file_a_registered_name_or_a_function(tmp_path: Path) -> None:
    file = tmp_path / "bench.parquet"
    write_table(to_table(OWN, Question), file)
    assert load_benchmark(str(file)) == OWN
    assert load_benchmark(f"{__name__}:own") == OWN
    assert len(load_benchmark("miniature")) == 600
    assert [is_file(name) for name in (str(file), f"{__name__}:own", "miniature")] == [True, False, False]


def test_what_is_neither_file_nor_name_is_refused_with_the_names(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match=r"nowhere.parquet'.*registered benchmarks: .*miniature"):
        check_there(str(tmp_path / "nowhere.parquet"))
    with pytest.raises(InputError, match="gives a dict; it must give Question rows"):
        load_benchmark(f"{__name__}:rows")


@pytest.mark.parametrize(
    ("name", "message"), [("OWN", "is a list, not a function"), ("nothing", "gives a NoneType; it must give Question")]
)
def test_what_gives_no_rows_is_refused(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_benchmark(f"{__name__}:{name}")


HUB_ROWS: dict[str, list[dict[str, object]]] = {
    "aime24": [{"id": 60, "problem": "Two and two?", "solution": "Add.", "answer": "004", "url": "u", "year": "2024"}],
    "aime25": [{"question": "Three and three?", "answer": "6"}],
    "math500": [
        {
            "problem": "$1/2$?",
            "solution": "So.",
            "answer": "\\frac12",
            "subject": "Algebra",
            "level": 2,
            "unique_id": "a/1",
        }
    ],
    "amc23": [{"id": 0, "question": "Nine?", "answer": "9.0", "url": "u"}],
    "olympiadbench": [
        {
            "id": 7,
            "context": None,
            "question": "Pairs?",
            "solution": ["First.", "Second."],
            "final_answer": ["$(1,2)$"],
            "subfield": "Algebra",
            "answer_type": "Tuple",
            "unit": None,
            "is_multiple_answer": False,
        },
        {"id": 8, "context": "Let x be 1.", "question": "x?", "solution": [], "final_answer": ["1"], "subfield": None},
    ],
    "olymmath": [{"problem": "Find $a$.", "answer": "$2$", "subject": "Geometry", "unique_id": "OlymMATH-HARD-0-EN"}],
    "minerva": [{"question": "Mass?", "answer": "2e33"}],
    "gsm8k": [{"question": "How many eggs?", "answer": "9 * 2 = <<9*2=18>>18\n#### 1,018"}],
}
EXPECTED = {
    "aime24": [("Two and two?", "004", None)],
    "aime25": [("Three and three?", "6", None)],
    "math500": [("$1/2$?", "\\frac12", "Algebra")],
    "amc23": [("Nine?", "9.0", None)],
    "olympiadbench": [("Pairs?", "$(1,2)$", "Algebra"), ("Let x be 1.\n\nx?", "1", None)],
    "olymmath": [("Find $a$.", "$2$", "Geometry")],
    "minerva": [("Mass?", "2e33", None)],
    "gsm8k": [("How many eggs?", "1,018", None)],
}
GPQA = {
    "Question": "Which colour has the sky? ",
    "Correct Answer": "Blue\n",
    "Incorrect Answer 1": "Red",
    "Incorrect Answer 2": "Green",
    "Incorrect Answer 3": "Brown",
    "High-level domain": "Physics",
}


def jsonl(path: Path, rows: list[dict[str, object]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def table(path: Path, rows: list[dict[str, object]]) -> str:
    pq.write_table(pa.Table.from_pylist(rows), path)
    return str(path)


@pytest.mark.parametrize("name", HUB_ROWS)
@pytest.mark.parametrize("write", [jsonl, table])
def test_named_benchmarks_read_files_in_the_hubs_columns(name: str, write: object, tmp_path: Path) -> None:
    path = write(tmp_path / ("x.jsonl" if write is jsonl else "x.parquet"), HUB_ROWS[name])  # type: ignore[operator]
    benchmark = REF.validate_python({"name": name, "path": path})
    assert (benchmark.name, benchmark.hub) == (name, None)
    questions = read_benchmark(benchmark)
    assert [(q.question, q.answer, q.domain) for q in questions] == EXPECTED[name]
    for question in questions:
        assert question.id == question_id(question.question)
        assert asked(benchmark, question).question == question.question, "the question as it is, without instructions"
        assert question.answer is not None
        assert grade(question.answer, f"So \\boxed{{{question.answer}}}", kind=kind_of(question.metadata)).correct


def test_every_named_benchmark_is_one_and_has_its_own_name() -> None:
    named = [name for name in BENCHMARKS.names() if name != "miniature"]
    assert {"aime24", "aime24_figures", "gpqa_diamond", "olymmath_easy", *HUB_ROWS} == set(named)
    for name in named:
        assert REF.validate_python(name).name == name
        assert REF.validate_python(name).hub is not None


def test_what_comes_along_is_kept(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "x.jsonl", HUB_ROWS["math500"])
    (question,) = read_benchmark(REF.validate_python({"name": "math500", "path": path}))
    assert question.solution == "So."
    assert json.loads(question.metadata) == {"level": 2, "unique_id": "a/1"}
    path = jsonl(tmp_path / "o.jsonl", HUB_ROWS["olympiadbench"])
    first, _ = read_benchmark(REF.validate_python({"name": "olympiadbench", "path": path}))
    assert first.solution == "First."


def test_a_multiple_choice_question_is_asked_with_its_options_and_answered_by_a_letter(tmp_path: Path) -> None:
    file = tmp_path / "gpqa_diamond.csv"
    with file.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(GPQA))
        writer.writeheader()
        writer.writerow(GPQA)
    benchmark = REF.validate_python({"name": "gpqa_diamond", "path": str(file)})
    assert benchmark.private_text
    (question,) = read_benchmark(benchmark)
    assert (question.question, question.domain) == ("Which colour has the sky?", "Physics")
    assert question.id == question_id("Which colour has the sky?"), "whatever the options' order is"
    lines = asked(benchmark, question).question.split("\n")
    assert lines[:2] == ["Which colour has the sky?", ""]
    assert sorted(line[3:] for line in lines[2:]) == ["Blue", "Brown", "Green", "Red"]
    assert [line[:3] for line in lines[2:]] == ["A) ", "B) ", "C) ", "D) "]
    assert f"{question.answer}) Blue" in lines
    assert kind_of(question.metadata) == "choice"


def test_the_options_order_depends_on_question_and_seed_alone() -> None:
    options = ["right", "one", "two", "three"]
    code = (
        f"from s1ray.benchmarks.options import ordered; print([ordered(f'q{{i}}', {options!r}, 3) for i in range(50)])"
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", code], env=os.environ | {"PYTHONHASHSEED": seed}, capture_output=True, text=True
        ).stdout
        for seed in ("1", "2")
    }
    orders = [ordered(f"q{i}", options, 3) for i in range(50)]
    assert printed == {f"{orders}\n"}
    assert ordered("q", options, 0) == ordered("q", options, 0)
    assert [ordered(f"q{i}", options, 4) for i in range(50)] != orders
    # The place of the wrong options in the file does not matter.
    assert ordered("q7", ["right", "three", "one", "two"], 3) == orders[7]
    places = Counter(ordered(f"q{i}", options, 0)[1] for i in range(2000))
    assert set(places) == set("ABCD")
    assert all(400 < count < 600 for count in places.values()), "the right one is anywhere as often"


def test_this_order_is_for_ever() -> None:
    assert ordered("q", ["right", "one", "two", "three"], 0) == (["right", "two", "three", "one"], "A")


def test_the_prompt_is_the_configs_own_and_ids_are_of_the_bare_question(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "x.jsonl", [{"q": "Why {question}?", "a": "1"}])
    prompt = "Solve.\n{question}\n\nPut the answer in \\boxed{}"
    benchmark = REF.validate_python({"name": "mine", "path": path, "question": "q", "answer": "a", "prompt": prompt})
    (question,) = read_benchmark(benchmark)
    once = asked(benchmark, question)
    assert once.question == "Solve.\nWhy {question}?\n\nPut the answer in \\boxed{}"
    assert once.id == question_id("Why {question}?")


def test_ones_own_in_ten_lines(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {"problem": {"text": f"q{i}"}, "final": [str(i)], "level": i % 3, "split": "ab"[i % 2], "topic": "t"}
        for i in range(6)
    ]
    entry = {
        "name": "mine",
        "path": jsonl(tmp_path / "x.jsonl", rows),
        "question": "problem.text",
        "answer": "final",
        "domain": "topic",
        "where": {"split": "a", "level": {"ge": 1}},
        "metadata": ["level"],
        "answer_kind": "number",
        "limit": 2,
    }
    questions = read_benchmark(REF.validate_python(entry))
    assert [(q.question, q.answer, q.domain) for q in questions] == [("q2", "2", "t"), ("q4", "4", "t")]
    assert json.loads(questions[0].metadata) == {"level": 2, "answer_kind": "number"}


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.parquet"])
def test_question_rows_are_taken_as_they_are_in_any_format(tmp_path: Path, name: str) -> None:
    rows = [Question(id="my-id", question="One?", answer="1", domain="d", metadata='{"answer_kind": "number"}')]
    if name.endswith("parquet"):
        write_table(to_table(rows, Question), tmp_path / name)
    else:
        jsonl(tmp_path / name, [vars(row) | {"extra": 1} for row in rows])
    assert load_benchmark(str(tmp_path / name)) == rows


def test_a_file_with_question_and_answer_needs_no_definition(tmp_path: Path) -> None:
    path = table(tmp_path / "amc.parquet", [{"id": 1, "question": "One?", "answer": 1}])
    (question,) = load_benchmark(path)
    assert (question.id, question.answer) == (question_id("One?"), "1")


def record(**changes: object) -> dict[str, object]:
    return {"problem": "One?", "final": "1", "topic": "t"} | changes


@pytest.mark.parametrize(
    ("rows", "changes", "message"),
    [
        ([record()], {"answer": "finale"}, r"record 1: no column 'finale'; did you mean 'final'\?"),
        ([record()], {"question": "question"}, "record 1: no column 'question'; there are final, problem, topic"),
        ([record()], {"domain": "topics"}, "x.jsonl: no column 'topics'; did you mean 'topic'"),
        ([record()], {"metadata": ["levels"]}, "no column 'levels'"),
        ([record()], {"where": {"levl": 3}}, "no column 'levl'"),
        ([record(), record(problem="Two?", final=None)], {}, "record 2: has no answer; every question"),
        ([record(), record(problem="Two?", final="  ")], {}, "record 2: has no answer; every question"),
        ([record(problem=None)], {}, "record 1: has no question"),
        ([record(), record(problem="Two?"), record(final="2")], {}, "record 3: asks the same question as record 1"),
        ([record(final=["1", "2"])], {}, "record 1: wrong type: column 'final' is a list of 2; say which"),
        ([record()], {"answer_after": "####"}, "record 1: the answer has no '####'"),
        ([record(final="x #### ")], {"answer_after": "####"}, "record 1: there is nothing after '####'"),
        ([record()], {"answer_kind": "choice"}, "record 1: the answer '1' names no option; it must be a letter A to J"),
    ],
)
def test_mistakes_of_a_file_are_told_in_words(
    rows: list[dict[str, object]], changes: dict[str, JsonValue], message: str, tmp_path: Path
) -> None:
    path = jsonl(tmp_path / "x.jsonl", rows)
    entry: dict[str, JsonValue] = {"name": "mine", "path": path, "question": "problem", "answer": "final"}
    with pytest.raises(InputError, match=message) as error:
        read_benchmark(REF.validate_python(entry | changes))
    assert str(error.value).startswith(f"benchmark mine: {path}: ")
    assert "One?" not in str(error.value), "questions may be private"


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"name": "mine"}, "no benchmark is called 'mine'; give `path` or `hub`, or a name: aime24, "),
        ("aime42", "registered benchmarks: aime24, "),
        ({"name": "mine", "path": "x", "hub": "a/b"}, "give one of path and hub, not both"),
        ({"name": "miniature", "question": "q"}, "question: has no effect on the benchmark 'miniature'"),
        ({"name": "mine", "path": "x", "subset": "s"}, "subset: has no effect"),
        ({"name": "mine", "path": "x", "prompt": "Solve it"}, 'prompt: must hold "{question}"'),
        ({"name": "mine", "path": "x", "question": "{a!r}"}, "question: "),
        ({"name": "mine", "path": "x", "question": "q", "options": ["a", "b"], "answer": "c"}, "leave it out"),
        ({"name": "mine", "path": "x", "options": ["a", "b"]}, "question: `options` need its column"),
        ({"name": "a/b", "path": "x"}, "name"),
        ("livecodebench", "its answers are programs, .* needs a sandbox"),
        ({"name": "LiveCodeBench_v5"}, "its answers are programs"),
    ],
)
def test_mistakes_of_a_definition_are_told_in_words(entry: object, message: str) -> None:
    with pytest.raises((ValidationError, InputError), match=message):
        REF.validate_python(entry)


class Hub:
    """Stands for the Hub and the library that reads it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, offline: bool = False) -> None:
        self.asked: list[str] = []
        self.loaded: list[tuple[object, ...]] = []
        self.down = False
        config = SimpleNamespace(HF_HUB_OFFLINE=offline, HF_ENDPOINT="https://hub.example")
        monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=self.load, config=config))
        monkeypatch.setattr(httpx, "head", self.head)

    def head(self, address: str, *, timeout: float) -> None:
        assert timeout <= 10
        self.asked.append(address)
        if self.down:
            raise httpx.ConnectError("Name or service not known")

    def load(self, path: str, subset: str | None, *, split: str, revision: str | None, streaming: bool) -> object:
        self.loaded.append((path, subset, split, revision, streaming))
        if self.down:
            raise ConnectionError(f"Couldn't reach {path!r}: OfflineModeIsEnabled")
        return iter([{"Question": f"q{i}", **{k: v for k, v in GPQA.items() if k != "Question"}} for i in range(3)])


def test_a_named_benchmark_comes_from_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    hub = Hub(monkeypatch)
    questions = load_benchmark("gpqa_diamond")
    assert [q.question.partition("\n")[0] for q in questions] == ["q0", "q1", "q2"]
    assert {q.source for q in questions} == {"Idavidrein/gpqa"}
    assert hub.loaded == [("Idavidrein/gpqa", "gpqa_diamond", "train", None, True)]
    entry = {"name": "gpqa_diamond", "hub": "mirror/gpqa", "subset": None, "revision": "abc"}
    read_benchmark(REF.validate_python(entry))
    assert hub.loaded[-1] == ("mirror/gpqa", None, "train", "abc", True)


def test_an_unreachable_hub_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    hub = Hub(monkeypatch)
    hub.down = True
    with pytest.raises(UnreachableError, match=r"https://hub.example\) does not answer: .*as `path` of the benchmark"):
        load_benchmark("aime24")
    assert hub.loaded == [], "the library would try for half a minute"


def test_offline_only_the_cache_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    hub = Hub(monkeypatch, offline=True)
    assert len(load_benchmark("gpqa_diamond")) == 3
    assert hub.asked == []
    assert hub.loaded[0][-1] is False, "streams are not cached"
    hub.down = True
    with pytest.raises(UnreachableError, match=r"OfflineModeIsEnabled; without network, export it to a file"):
        load_benchmark("gpqa_diamond")


def test_a_damaged_file_is_told_by_its_name(tmp_path: Path) -> None:
    path = Path(table(tmp_path / "x.parquet", [{"id": "1", "question": "One?", "answer": "1"}]))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match=r"x\.parquet: cannot be read as Parquet"):
        load_benchmark(str(path))


MINE = Benchmark(name="mine", path="nowhere.jsonl", question="q")


def test_a_package_may_register_a_definition() -> None:
    assert find_benchmark(f"{__name__}:MINE") is MINE


@needs_shared
@pytest.mark.parametrize(
    ("entry", "count"),
    [
        ({"name": "math500", "path": str(SHARED / "math500.parquet")}, 500),
        ({"name": "gsm8k", "path": str(SHARED / "gsm8k.parquet"), "where": {"split": "test"}}, 1319),
        ({"name": "olympiadbench", "path": str(SHARED / "olympiadbench_oe_maths_en.parquet")}, 675),
        ({"name": "aime24", "path": str(SHARED / "aime_1983_2024.parquet"), "where": {"year": 2024}}, 30),
    ],
)
def test_real_files_are_read_whole(entry: dict[str, JsonValue], count: int) -> None:
    questions = read_benchmark(REF.validate_python(entry))
    assert len({question.id for question in questions}) == count
    assert all(question.answer for question in questions)
