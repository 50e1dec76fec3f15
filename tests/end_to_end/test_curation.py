"""Curation and traces on a real Ray: same bytes however the work is spread, and nothing lost or repeated after a
kill."""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from s1ray.config import validate_config
from s1ray.curation import staging
from s1ray.curation.config import CurationConfig, ModelDifficulty
from s1ray.curation.difficulty import measure, solvers
from s1ray.curation.pipeline import curate
from s1ray.generation.base import GenerationError, GenerationRequest
from s1ray.models import EngineConfig
from s1ray.runs import Run, RunError, read_manifest
from s1ray.schemas import Completion, Question, Trace, read_table
from s1ray.shards import map_shards
from s1ray.traces import pipeline as traces_pipeline
from s1ray.traces.config import TracesConfig
from s1ray.traces.pipeline import traces as generate_traces

if TYPE_CHECKING:
    import pyarrow as pa

pytestmark = [pytest.mark.end_to_end, pytest.mark.usefixtures("ray_session")]


@pytest.fixture(scope="module", autouse=True)
def _workers_get_this_module_by_value(ray_session: None) -> None:
    import ray

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])


def curation(output: Path, **changes: object) -> CurationConfig:
    data = {
        "output": str(output),
        "sources": [{"kind": "miniature", "size": 1500}],
        "quality": {"missing_answer": True},
        "decontamination": {"benchmarks": [{"path": "miniature"}]},
        "selection": {"size": 100},
    }
    return validate_config(CurationConfig, data | changes, "test")


@pytest.fixture(scope="module")
def curated(ray_session: None, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return curate(curation(tmp_path_factory.mktemp("curated") / "run"))


def test_every_row_is_either_chosen_or_dropped_with_a_reason(curated: Run) -> None:
    import pyarrow.parquet as pq

    questions = read_table(curated.path / "questions.parquet", Question).to_pylist()
    dropped = pq.read_table(curated.path / "dropped").to_pylist()
    assert len(questions) == 100
    assert len(dropped) == 1400
    assert len({row["id"] for row in questions}) == 100
    assert all(row["stage"] and row["reason"] for row in dropped)
    assert all(json.loads(row["metadata"])["flaw"] != "benchmark_leak" for row in questions)
    manifest = read_manifest(curated.path)
    assert manifest is not None
    assert manifest["rows"]["in"] == 1500
    assert manifest["rows"]["out"] == 100
    assert manifest["figures"]["sources"] == {"0 (miniature)": {"read": 1500, "staged": 1500, "quarantined": {}}}
    assert sum(manifest["drops"].values()) == 1400
    assert not (curated.path / "work").exists()
    page = (curated.path / "report.html").read_text(encoding="utf-8")
    assert "100 questions of 1,500" in page
    assert all(reason.partition(": ")[2] in page for reason in manifest["drops"])


def test_likenesses_to_benchmarks_are_listed_with_both_texts(curated: Run) -> None:
    import pyarrow.parquet as pq

    hits = pq.read_table(curated.path / "review").to_pylist()
    dropped = {row["id"] for row in pq.read_table(curated.path / "dropped").to_pylist()}
    leaks = {hit["id"] for hit in hits if hit["drops"]}
    assert len(leaks) > 10
    assert leaks <= dropped
    assert all(hit["found"] and hit["asked"] and hit["label"].startswith("miniature/") for hit in hits)
    assert {hit["id"] for hit in hits if hit["stage"] is None}.isdisjoint(dropped)


def test_other_blocks_give_the_same_bytes_and_a_finished_run_is_skipped(
    curated: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pyarrow.parquet as pq

    monkeypatch.setattr(staging, "PART_ROWS", 400)
    again = curate(curation(tmp_path / "run"))
    for name in ("questions.parquet", "dropped", "review"):
        first, second = (pq.read_table(run.path / name) for run in (curated, again))
        assert first.equals(second)
    assert (curated.path / "questions.parquet").read_bytes() == (again.path / "questions.parquet").read_bytes()
    assert curate(curation(tmp_path / "run")).skipped


def test_sources_are_compared_on_workers(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    shared = "one two three four five six seven eight"
    sources = []
    for number, text in enumerate((shared, f"Ten {shared} b c d e f g h", "b c d e f g h i j")):
        path = tmp_path / f"{number}.jsonl"
        path.write_text(json.dumps({"q": text, "s": "s", "a": "1", "d": "d"}) + "\n")
        columns = {"question": "q", "solution": "s", "answer": "a", "domain": "d"}
        sources.append({"kind": "files", "path": str(path), "columns": columns})
    settings = {"selection": {"method": "all"}, "deduplication": {"jaccard": None, "cross_source_ngrams": True}}
    run = curate(curation(tmp_path / "run", sources=sources, **settings))
    dropped = pq.read_table(run.path / "dropped").to_pylist()
    reason = "shares 8 words in a row with an earlier source"
    assert [(row["question"][:3], row["reason"]) for row in dropped] == [("Ten", reason)]


class Knower:
    """Knows the answers to questions whose id begins with one of some digits; fails once and for all on others."""

    def __init__(self, answers: Mapping[str, str], digits: str, fails: Collection[str]) -> None:
        self.answers, self.digits, self.fails = answers, digits, fails

    async def complete(self, request: GenerationRequest) -> Completion:
        assert request.messages is not None
        question = request.messages[0]["content"]
        if self.fails and question in self.fails:
            raise GenerationError("no luck")
        known = request.id[0] in self.digits
        answer = f"Final Answer: {self.answers[question] if known else 'no idea'}"
        return Completion(
            id=request.id, thinking="", answer=answer, prompt_tokens=1, thinking_tokens=0, answer_tokens=2
        )

    async def close(self) -> None:
        pass


def test_difficulty_by_models_marks_who_solved_what(curated: Run, tmp_path: Path) -> None:
    questions = read_table(curated.path / "questions.parquet", Question).select(
        ["id", "question", "answer", "metadata"]
    )
    rows = questions.to_pylist()
    answers = {row["question"]: row["answer"] for row in rows}
    failing = {rows[0]["question"]}
    engine = EngineConfig(model="some/model", device="cpu")
    config = ModelDifficulty(kind="model", models={"low": engine, "high": engine}, shard_rows=30, samples=2)

    def make_engine(
        engine: EngineConfig, answers: Mapping[str, str] = answers, failing: Collection[str] = failing
    ) -> Knower:
        return Knower(answers, "01234567", failing)

    measured = measure(questions, config, tmp_path, seed=0, make_engine=make_engine)
    assert len(measured) == 2 * 2 * len(rows)
    labels = solvers(measured)
    assert labels[rows[0]["id"]] is None
    for row in rows[1:]:
        assert labels[row["id"]] == (["high", "low"] if row["id"][0] in "01234567" else [])


class Counting:
    """Copies rows; notes each shard that it does, and fails on a chosen row while a marker is there."""

    def __init__(self, notes: str, poison: str, marker: str) -> None:
        self.notes, self.poison, self.marker = Path(notes), poison, Path(marker)

    def __call__(self, rows: pa.Table) -> pa.Table:
        ids = rows.column("id").to_pylist()
        if self.poison in ids and self.marker.exists():
            raise ValueError(f"row {self.poison} is poison")
        (self.notes / f"{ids[0]}-{len(list(self.notes.iterdir()))}").touch()
        return rows

    def close(self) -> None:
        pass


def test_a_failed_job_keeps_what_is_done_and_resumes_there(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = pa.table({"id": [f"r{i:03d}" for i in range(100)]})
    notes, marker = tmp_path / "notes", tmp_path / "marker"
    notes.mkdir()
    marker.touch()

    def make_worker(notes: str = str(notes), marker: str = str(marker)) -> Counting:
        return Counting(notes, "r055", marker)

    def run() -> list[Path]:
        return map_shards(rows, tmp_path / "shards", make_worker, fingerprint={"a": 1}, shard_rows=10)

    def worked() -> list[str]:
        """The first ids of the shards that a worker was called with, in order."""
        return [note.name.split("-")[0] for note in sorted(notes.iterdir(), key=lambda note: note.stat().st_mtime_ns)]

    with pytest.raises(RunError, match="row r055 is poison"):
        run()
    before, kept = worked(), {file.name: file.stat().st_mtime_ns for file in (tmp_path / "shards").glob("*.parquet")}
    # The shard after the poisoned one may have been cut off between its work and its file.
    assert 0 < len(kept) <= len(before) <= len(kept) + 1
    assert "r050" not in before
    marker.unlink()
    files = run()
    assert pa.concat_tables([pq.read_table(file) for file in files]).equals(rows)
    assert len(worked()) == len(before) + 10 - len(kept), "only what was missing was done"
    assert all((tmp_path / "shards" / name).stat().st_mtime_ns == time for name, time in kept.items())
    total = len(worked())
    assert run() == files
    assert len(worked()) == total


def trace_config(output: Path, questions: Path, tokenizer: Path) -> TracesConfig:
    data = {
        "output": str(output),
        "questions": str(questions),
        "teacher": {"kind": "procedural"},
        "tokenizer": str(tokenizer),
        "samples": 2,
        "shard_rows": 30,
    }
    return validate_config(TracesConfig, data, "test")


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace

    made = Tokenizer(WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    made.pre_tokenizer = Whitespace()
    folder = tmp_path_factory.mktemp("tokenizer")
    made.save(str(folder / "tokenizer.json"))
    return folder


def test_a_killed_trace_run_ends_with_the_bytes_of_an_undisturbed_one(
    curated: Run, tokenizer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    questions = curated.path / "questions.parquet"
    undisturbed = generate_traces(trace_config(tmp_path / "undisturbed", questions, tokenizer))
    traces = read_table(undisturbed.path / "traces.parquet", Trace)
    assert len(traces) == 200
    assert undisturbed.figures["correct_share"] > 0.8

    class Killed(BaseException):
        pass

    def killed(*_: object) -> None:
        raise Killed

    config = trace_config(tmp_path / "killed", questions, tokenizer)
    with monkeypatch.context() as patch:
        patch.setattr(traces_pipeline, "write_traces", killed)
        with pytest.raises(Killed):
            generate_traces(config)
    folder = tmp_path / "killed" / "responses"
    (ledger,) = folder.glob("*.jsonl")
    lines = ledger.read_bytes().splitlines(keepends=True)
    # Killed earlier: the last lines were not written yet, and one was cut short.
    kept = lines[: len(lines) // 2]
    ledger.write_bytes(b"".join(kept) + lines[len(kept)][:10])
    there = sum(b'"answered"' in line for line in kept)
    resumed = generate_traces(config)
    assert (resumed.path / "traces.parquet").read_bytes() == (undisturbed.path / "traces.parquet").read_bytes()
    (again,) = set(folder.glob("*.jsonl")) - {ledger}
    assert sum(b'"answered"' in line for line in again.read_bytes().splitlines()) == 200 - there
    assert generate_traces(config).skipped
