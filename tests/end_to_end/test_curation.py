"""Curation and traces on a real Ray: same bytes however the work is spread, and nothing lost or repeated after a
kill."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from s1ray.config import validate_config
from s1ray.curation import staging
from s1ray.curation.config import CurationConfig
from s1ray.curation.difficulty.config import ModelDifficulty
from s1ray.curation.pipeline import curate
from s1ray.generation.base import OnCall
from s1ray.manifests import read_manifest
from s1ray.runs import Run
from s1ray.schemas import Question, Trace, read_table
from s1ray.storage import Location
from s1ray.teachers.base import Ask, Response, RunningTeacher, Teacher
from s1ray.traces import pipeline as traces_pipeline
from s1ray.traces.config import TracesConfig
from s1ray.traces.pipeline import traces as generate_traces

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


class Knower(Teacher):
    """Knows the answers to questions whose id begins with one of some digits; of one it gives no answer."""

    kind: str = "knower"
    digits: str
    silent: str = ""
    """Id of the question that it does not answer."""

    def start(self, seed: int, folder: Location) -> RunningTeacher:
        return _Knowing(self)


class _Knowing:
    def __init__(self, config: Knower) -> None:
        self._config = config

    def respond(self, asks: Sequence[Ask], calls: OnCall) -> Iterator[tuple[Ask, Response]]:
        for ask in asks:
            known = ask.question.id[0] in self._config.digits
            error = "no luck" if ask.question.id == self._config.silent else None
            yield ask, Response("", f"Final Answer: {ask.question.answer if known else 'no idea'}", error=error)

    def close(self) -> None:
        pass


@pytest.mark.slow
def test_difficulty_by_models_marks_who_solved_what(curated: Run, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    first = read_table(curated.path / "questions.parquet", Question).to_pylist()[0]["id"]
    config = curation(tmp_path / "run")
    low, high = Knower(digits="0123", silent=first), Knower(digits="01234567")
    models = ModelDifficulty(kind="model", models={"low": low, "high": high}, samples=2)
    run = curate(config.model_copy(update={"difficulty": models}))
    attempts = pq.read_table(run.path / "difficulty.parquet").to_pylist()
    manifest = read_manifest(run.path)
    assert manifest is not None
    left = manifest["rows"]["after domains"]
    assert len(attempts) == 2 * 2 * left
    assert manifest["figures"]["difficulty"]["high"]["answered"] == 2 * left
    assert manifest["figures"]["difficulty"]["low"]["failed"] == 2
    questions = read_table(run.path / "questions.parquet", Question).to_pylist()
    dropped = [row for row in pq.read_table(run.path / "dropped").to_pylist() if row["stage"] == "difficulty"]
    assert len(questions) == 100
    assert all(row["solved_by"] == [] and row["id"][0] not in "01234567" for row in questions)
    assert {row["pass_rates"] for row in questions} == {'{"high": 0.0, "low": 0.0}'}
    assert {row["reason"] for row in dropped if row["id"] != first} == {"too easy"}
    for row in dropped:
        known = [name for name, digits in (("high", "01234567"), ("low", "0123")) if row["id"][0] in digits]
        assert row["solved_by"] == (known or None) or row["id"] == first
        assert row["detail"] == ", ".join(row["solved_by"] or ())
    bounded = {**models.model_dump(exclude={"models"}), "max_pass_rate": 1.0, "min_pass_rate": 0.5}
    again = curate(
        config.model_copy(
            update={
                "output": str(tmp_path / "bounded"),
                "difficulty": ModelDifficulty(models=models.models, **bounded),
            }
        )
    )
    questions = read_table(again.path / "questions.parquet", Question).to_pylist()
    assert all("high" in row["solved_by"] for row in questions)


def trace_config(output: Path, questions: Location, tokenizer: Path) -> TracesConfig:
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
