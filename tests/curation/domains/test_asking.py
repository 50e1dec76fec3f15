"""The judge's rounds, with the actors' work done in this process."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from s1ray.config import ConfigError, validate_config
from s1ray.curation.config import CurationConfig
from s1ray.curation.domains import asking
from s1ray.curation.domains.asking import NO_ANSWER, UNCLEAR, Judge
from s1ray.curation.domains.config import JudgeClassifier
from s1ray.curation.domains.finding import classified
from s1ray.curation.domains.takeover import check_takeover
from s1ray.curation.domains.taxonomy import Taxonomy
from s1ray.curation.features import Features
from s1ray.errors import MissingError
from s1ray.generation.base import OnCall
from s1ray.runs import Run
from s1ray.storage import Location
from s1ray.teachers.asks import Asks
from s1ray.teachers.base import Ask, Response, Teacher
from s1ray.teachers.collect import _Actor
from s1ray.teachers.ledger import Ledger

TAXONOMY = {"algebra": "letters", "geometry": "shapes", "other": ""}
QUESTIONS = ["x", "triangle", "mumble", "slow x", "silent", "triangle", "x y"]
"""The second and the sixth are the same."""


class Sorter(Teacher):
    """Knows x and triangles; says so of a slow question when it is asked again, and nothing of a silent one."""

    asked: ClassVar[Counter[str]] = Counter()

    kind: str = "sorter"

    def start(self, seed: int, folder: Location) -> Sorter:
        return self

    def respond(self, asks: Sequence[Ask], calls: OnCall) -> Iterator[tuple[Ask, Response]]:
        for ask in asks:
            text = ask.question.question.splitlines()[-2]
            Sorter.asked[text] += 1
            if text == "silent":
                yield ask, Response(error="no luck")
            elif text == "mumble" or (text == "slow x" and not ask.sample):
                yield ask, Response(attempt="algebra or geometry")
            else:
                yield ask, Response(attempt="So:\ngeometry" if text == "triangle" else "So:\nalgebra")

    def close(self) -> None:
        pass


@pytest.fixture(autouse=True)
def _in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    def collect(asks: Asks, teacher: Teacher, ledger: Ledger, *, seed: int, max_failed: int, what: str) -> None:
        ledger.read()
        wanted = [place for place, ask in enumerate(asks.ids()) if ask not in ledger.answers]
        ledger.folder.mkdir(parents=True, exist_ok=True)
        if wanted:
            actor = _Actor(teacher, seed, asks.read, ledger.folder, frozenset(), None)
            assert actor(asks.part(wanted)).column("error").to_pylist() == [None]
        ledger.read()
        assert sum(ask not in ledger.answers for ask in asks.ids()) <= max_failed

    monkeypatch.setattr(asking, "collect", collect)
    Sorter.asked.clear()


def stage(folder: Path, output: str, **fields: Any) -> CurationConfig:
    classifier = {"kind": "judge", "teacher": {"kind": f"{__name__}:Sorter"}, "max_failed_share": 0.3, **fields}
    data = {
        "output": str(folder / output),
        "sources": [{"kind": "miniature", "size": 1}],
        "domains": {"taxonomy": TAXONOMY, "classifier": classifier},
    }
    return validate_config(CurationConfig, data, "test")


def parts_of(folder: Path) -> tuple[list[Path], np.ndarray[Any, np.dtype[np.int64]]]:
    """The questions in two parts, and where each begins."""
    files = [folder / "rows" / f"{number}.parquet" for number in range(2)]
    files[0].parent.mkdir(parents=True, exist_ok=True)
    for file, texts in zip(files, (QUESTIONS[:3], QUESTIONS[3:]), strict=True):
        pq.write_table(pa.table({"question": texts}), file)
    return files, np.array([0, 3, 7])


def ids() -> np.ndarray[Any, np.dtype[np.uint64]]:
    numbers = {text: number for number, text in enumerate(sorted({*QUESTIONS}), start=7)}
    return np.array([numbers[text] for text in QUESTIONS], np.uint64)


def judge_of(config: CurationConfig, folder: Path) -> Judge:
    assert isinstance(config.domains.classifier, JudgeClassifier)
    return Judge(config.domains.classifier, Taxonomy.of(TAXONOMY), folder, config.seed)


def test_what_is_not_clear_is_asked_again_and_equal_questions_once(tmp_path: Path) -> None:
    parts, starts = parts_of(tmp_path)
    judge = judge_of(stage(tmp_path, "run", retries=1), tmp_path / "ledger")
    found = judge.domains(ids(), np.arange(7), parts, starts)
    assert found.tolist() == [0, 1, UNCLEAR, 0, NO_ANSWER, 1, 0]
    del Sorter.asked["silent"]
    assert Sorter.asked == {"x": 1, "triangle": 1, "mumble": 2, "slow x": 2, "x y": 1}
    figures = judge.figures()
    assert figures["answers"] == 7
    assert figures["asked_again"] == 2

    again = judge_of(stage(tmp_path, "run", retries=1), tmp_path / "ledger")
    some = np.array([1, 2, 3, 6])
    assert again.domains(ids()[some], some, parts, starts).tolist() == [1, UNCLEAR, 0, 0]
    assert Sorter.asked.total() == 7
    assert again.domains(ids()[:0], some[:0], parts, starts).tolist() == []


def test_more_rounds_than_a_call_holds_give_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts, starts = parts_of(tmp_path)
    monkeypatch.setattr(asking, "AT_ONCE", 2)
    monkeypatch.setattr(asking, "READ", 1)
    judge = judge_of(stage(tmp_path, "run"), tmp_path / "ledger")
    found = judge.domains(ids(), np.arange(7), parts, starts)
    assert found.tolist() == [0, 1, UNCLEAR, 0, NO_ANSWER, 1, 0]


@pytest.mark.parametrize("otherwise", [None, "other"])
def test_what_is_found_takes_the_place_of_the_features(tmp_path: Path, otherwise: str | None) -> None:
    parts, starts = parts_of(tmp_path)
    files = [tmp_path / "features" / part.name for part in parts]
    files[0].parent.mkdir()
    for number, file in enumerate(files):
        begin, end = starts[number : number + 2].tolist()
        domains = pa.array(["other" if row == 3 else None for row in range(begin, end)], pa.string())
        by = pa.array(["mapping" if row == 3 else "no domain" for row in range(begin, end)])
        columns = {"id": ids()[begin:end], "domain": domains.dictionary_encode(), "domain_by": by.dictionary_encode()}
        pq.write_table(pa.table(columns), file)
    config = stage(tmp_path, "run")
    config = config.model_copy(update={"domains": config.domains.model_copy(update={"otherwise": otherwise})})
    left = np.array([0, 1, 2, 3, 4, 6])
    with Run("curate", config) as run:
        features = classified(config, run, tmp_path / "work", parts, Features(files), left)
    codes, names = features.codes("domain")
    by_codes, words = features.codes("domain_by")
    found = [(names[code] if code >= 0 else None, words[by]) for code, by in zip(codes, by_codes, strict=True)]
    unclear, silent = (
        (otherwise, "otherwise" if otherwise else why) for why in ("domain not clear", "judge gave no answer")
    )
    assert found == [
        ("algebra", "judge"),
        ("geometry", "judge"),
        unclear,
        ("other", "mapping"),
        silent,
        (None, "no domain"),
        ("algebra", "judge"),
    ]
    assert "slow x" not in Sorter.asked
    assert features.column("id").tolist() == ids().tolist()

    taken = stage(tmp_path, "taken", answers_from=str(run.path))
    Sorter.asked.clear()
    with Run("curate", taken) as other:
        features = classified(taken, other, tmp_path / "other", parts, Features(files), left)
    assert set(Sorter.asked) == {"silent"}
    assert other.figures["domains_judge"]["taken_over"] == 6


def test_answers_of_another_judge_are_not_taken(tmp_path: Path) -> None:
    with Run("curate", stage(tmp_path, "run")) as run:
        run.rows = {"in": 1}
    assert check_takeover(stage(tmp_path, "new")) == []
    same = stage(tmp_path, "new", answers_from=str(run.path))
    assert check_takeover(same)[0].startswith("domains: 0 answers are taken over from ")
    with pytest.raises(ConfigError, match="this run's own output"):
        check_takeover(stage(tmp_path, "run", answers_from=str(run.path)))
    with pytest.raises(ConfigError, match=r"another domains\.classifier\.structured \(False, here True\)"):
        check_takeover(stage(tmp_path, "new", answers_from=str(run.path), structured=True))
    with pytest.raises(ConfigError, match=r"another domains\.seed \(0, here 5\)"):
        check_takeover(same.model_copy(update={"seed": 5}))
    (tmp_path / "empty").mkdir()
    with pytest.raises(MissingError, match="asked a judge"):
        check_takeover(stage(tmp_path, "new", answers_from=str(tmp_path / "empty")))
    assert "domains.classifier.answers_from" in same.incidental_fields()
