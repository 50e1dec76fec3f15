"""s1's sixteen sources on small exports in the Hub's own columns."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from s1ray.config import ConfigError
from s1ray.curation.pipeline import plan
from s1ray.curation.staging import check_sources
from s1ray.registry import SOURCES
from tests.curation.test_sources import config
from tests.support.curation import quarantined, sources_of, staged

S1 = [name for name in SOURCES.names() if name not in ("files", "hub", "miniature")]


def export(path: Path, rows: list[dict[str, Any]], kind: str = "jsonl") -> Path:
    """A file as the Hub's data would be exported."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = path.with_name(f"{path.name}.{kind}")
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def taken(tmp_path: Path, kind: str, path: Path, **changes: object) -> list[dict[str, Any]]:
    """The staged rows of a source, each with its metadata opened."""
    rows, _ = staged(tmp_path / "run", {"kind": kind, "path": str(path)} | changes)
    assert not quarantined(tmp_path / "run")
    return [row | json.loads(row["metadata"]) for row in rows]


def test_there_are_sixteen_and_each_says_where_it_comes_from() -> None:
    assert len(S1) == 16
    for name in S1:
        (source,) = sources_of({"kind": name})
        (line,) = check_sources([source], [])
        assert line == f"source {source.label}: from the Hugging Face Hub, newest revision"
        assert "/" in source.label


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_math(kind: str, tmp_path: Path) -> None:
    rows = [{"problem": "p", "solution": "s", "answer": "a", "subject": "Algebra", "level": 5, "unique_id": "x"}]
    (row,) = taken(tmp_path, "s1_math", export(tmp_path / "train", rows, kind))
    assert (row["question"], row["solution"], row["answer"]) == ("p", "s", "a")
    assert (row["source"], row["cot_type"]) == ("simplescaling/openaimath/Algebra", "math")
    assert row["domain"] is None


def test_numina_math_keeps_the_forum_and_what_is_listed(tmp_path: Path) -> None:
    origins = ["aops_forum", "cn_k12", "olympiads", "cn_k12"]
    rows = [{"source": o, "problem": f"p{i}", "solution": "s", "messages": []} for i, o in enumerate(origins)]
    path = export(tmp_path / "train", rows)
    assert [row["source"] for row in taken(tmp_path, "numina_math", path)] == ["AI-MO/NuminaMath-CoT/aops_forum"]
    others = export(tmp_path / "numinamath_500", [{"problem": "p3"}, {"problem": "p99"}])
    assert [row["question"] for row in taken(tmp_path / "b", "numina_math", path, others=str(others))] == ["p0", "p3"]


def test_olympic_arena_is_english_text(tmp_path: Path) -> None:
    row: dict[str, Any]
    row = {"problem": "p", "solution": "s", "answer": ["1"], "language": "EN", "modality": "text-only", "subject": "CS"}
    rows = [
        row,
        row | {"language": "ZH"},
        row | {"modality": "multi-modal"},
        row | {"subject": "Biology", "answer": None},
    ]
    export(tmp_path / "arena" / "CS" / "test", rows, "parquet")
    found = taken(tmp_path, "olympic_arena", tmp_path / "arena")
    assert [(row["source"], row["answer"], row["cot_type"]) for row in found] == [
        ("GAIR/OlympicArena/CS", "1", "coding"),
        ("GAIR/OlympicArena/Biology", None, "science"),
    ]


def test_theorem_qa_has_no_pictures(tmp_path: Path) -> None:
    row = {"Question": "q", "Answer": "True", "Answer_type": "bool", "Picture": None}
    path = export(tmp_path / "test", [row, row | {"Picture": {"bytes": "x"}}])
    (found,) = taken(tmp_path, "theorem_qa", path)
    assert (found["source"], found["solution"]) == ("TIGER-Lab/TheoremQA/bool", "True")


def test_omni_math_is_taken_whole(tmp_path: Path) -> None:
    rows = [{"domain": ["a", "b"], "difficulty": 8.0, "problem": "p", "solution": "s", "answer": "1", "source": "x"}]
    (row,) = taken(tmp_path, "omni_math", export(tmp_path / "test", rows, "parquet"))
    assert (row["source"], row["domain"]) == ("KbsdJames/Omni-MATH", None)


def test_sci_eval_is_drawn_evenly_over_tasks_and_topics(tmp_path: Path) -> None:
    def rows(task: str, topic: str, count: int) -> list[dict[str, Any]]:
        text = {
            "question": f"{task} {topic}?\n\nAnswer:",
            "category": "c",
            "type": "t",
            "task_name": task,
            "topic": topic,
        }
        return [text | {"question": f"{i} {text['question']}", "answer": ["A"]} for i in range(count)]

    many = rows("SocraticQA", "a", 30) + rows("SocraticQA", "b", 30) + rows("MedQA", "c", 30)
    many.append(many[0] | {"answer": None})
    export(tmp_path / "sci" / "test", many[:40], "parquet")
    export(tmp_path / "sci" / "validation", many[40:])
    found = taken(tmp_path, "sci_eval", tmp_path / "sci", size=12)
    tasks = [row["source"].split("/")[-1] + row["question"].split()[2] for row in found]
    assert {task: tasks.count(task) for task in tasks} == {"SocraticQAa?": 3, "SocraticQAb?": 3, "MedQAc?": 6}
    assert not any("Answer:" in row["question"] for row in found)
    assert {row["cot_type"] for row in found} == {"science", "health science"}
    reagent = rows("reagent selection", "x", 1)[0] | {"question": "Given\nOptimal ligand:", "answer": ["L"]}
    (row,) = taken(tmp_path / "b", "sci_eval", export(tmp_path / "reagent", [reagent]))
    assert row["question"] == "Given\nWhat is the optimal ligand?"
    assert len(taken(tmp_path / "c", "sci_eval", tmp_path / "sci", size=None)) == 90


def test_olympiad_bench_has_its_context(tmp_path: Path) -> None:
    row: dict[str, Any]
    row = {"question": "q", "solution": ["s1", "s2"], "final_answer": ["2"], "context": "c", "subject": "Math"}
    row["question_type"] = "Open-ended"
    rows = [row, row | {"context": None, "final_answer": ["1", "2"]}]
    folder = tmp_path / "OlympiadBench"
    export(folder / "OE_TO_maths_en_COMP" / "0", rows, "parquet")
    proof = {"question": "prove", "solution": ["s"], "final_answer": None, "context": None}
    export(folder / "TP_TO_physics_en_COMP" / "0", [proof | {"subject": "Physics", "question_type": "Theorem proof"}])
    found = taken(tmp_path, "olympiad_bench", folder)
    assert [(row["question"], row["solution"], row["answer"], row["source"][20:]) for row in found] == [
        ("c\n\nq", "s1", "2", "/Open-ended/Math"),
        ("q", "s1", None, "/Open-ended/Math"),
        ("prove", "s", None, "/Theorem proof/Physics"),
    ]
    assert taken(tmp_path / "b", "olympiad_bench", folder, context=False)[0]["question"] == "q"


def test_jee_bench(tmp_path: Path) -> None:
    rows = [{"subject": s, "gold": "AB", "index": 1, "type": "MCQ", "question": s} for s in ("chem", "phy", "math")]
    found = taken(tmp_path, "jee_bench", export(tmp_path / "test", rows))
    assert [row["cot_type"] for row in found] == ["science", "math", "math"]
    assert found[0]["source"] == "daman1209arora/jeebench/chem"


def test_agieval_joins_passage_question_and_options(tmp_path: Path) -> None:
    row = {"passage": "P", "question": "Q?", "options": ["(A)1", "(B)2"], "label": "B", "answer": None, "other": None}
    folder = tmp_path / "agieval"
    export(folder / "logiqa-en" / "test", [row])
    explained = row | {"passage": None, "other": json.dumps({"solution": "because"})}
    export(folder / "aqua-rat" / "test", [explained], "parquet")
    math = {"passage": None, "question": "M?", "options": None, "label": None, "answer": "7", "solution": "s"}
    export(folder / "math_agieval" / "few_shot", [math | {"level": 5}, math | {"level": 4}])
    found = {row["source"].split("/")[-1]: row for row in taken(tmp_path, "agieval", folder)}
    assert set(found) == {"logiqa", "aqua_rat", "math_agieval"}
    assert found["logiqa"]["question"] == "P\n\nQ?\n(A)1\n(B)2"
    assert (found["logiqa"]["solution"], found["logiqa"]["answer_kind"]) == ("B", "choice")
    assert (found["aqua_rat"]["question"], found["aqua_rat"]["solution"]) == ("Q?\n(A)1\n(B)2", "because")
    assert (found["math_agieval"]["question"], found["math_agieval"]["answer"]) == ("M?", "7")
    assert found["math_agieval"]["answer_kind"] is None
    (folder / "aqua-rat").rename(folder / "elsewhere")
    with pytest.raises(ConfigError, match=r"elsewhere/test.parquet: its path names none of the subsets aqua_rat, "):
        check_sources(sources_of({"kind": "agieval", "path": str(folder)}), [])


def test_s1s_own_sets(tmp_path: Path) -> None:
    (row,) = taken(tmp_path, "s1_prob", export(tmp_path / "prob", [{"question": "q", "solution": "s"}]))
    assert (row["question"], row["answer"]) == ("q", None)
    (row,) = taken(tmp_path / "b", "s1_teasers", export(tmp_path / "t", [{"Question": " q\n", "Answer": 4}]))
    assert (row["question"], row["solution"], row["answer"]) == ("q", "4", "4")


def test_gpqa_loses_diamond_and_gets_its_choices(tmp_path: Path) -> None:
    wrong = {f"Incorrect Answer {i}": f"wrong {i}\n" for i in (1, 2, 3)}
    row = wrong | {"Correct Answer": "right\n", "Explanation": "because"}
    path = export(tmp_path / "gpqa_extended", [row | {"Question": f"q{i}"} for i in range(20)])
    diamond = export(tmp_path / "gpqa_diamond", [{"Question": "q3"}])
    found = taken(tmp_path, "gpqa_extended", path, diamond=str(diamond))
    assert len(found) == 19
    assert {row["answer"] for row in found} == set("ABCD")
    for row in found:
        question, choices = row["question"].split("\nAnswer Choices:\n")
        assert question != "q3"
        assert f"({row['answer']}) right" in choices.split("\n")
        assert row["solution"] == f"because\n\nAnswer: {row['answer']}"
        assert row["answer_kind"] == "choice"
    with pytest.raises(ConfigError, match="give GPQA Diamond, exported"):
        sources_of({"kind": "gpqa_extended", "path": str(path)})
    empty = export(tmp_path / "empty", [{"question": "lower case"}])
    with pytest.raises(ConfigError, match="no row has a text in the column 'Question'"):
        staged(tmp_path, {"kind": "gpqa_extended", "path": str(path), "diamond": str(empty)})


def test_crosswords_have_the_instruction_and_are_drawn(tmp_path: Path) -> None:
    rows = [{"input": f"Instruction\n### Clue: clue {i} (4)", "output": f"o{i}", "instruction": "x"} for i in range(50)]
    path = export(tmp_path / "train", rows)
    found = taken(tmp_path, "xword", path, size=10)
    assert len(found) == 10
    assert found[0]["question"].startswith("Solve the crossword puzzle.")
    assert found[0]["question"].endswith("\n\nclue " + found[0]["solution"][1:] + " (4)")
    backwards = taken(tmp_path / "b", "xword", export(tmp_path / "b" / "train", rows[::-1]), size=10)
    assert {row["id"] for row in backwards} == {row["id"] for row in found}, "the draw does not depend on the order"


def test_code_has_no_solutions_so_requiring_them_is_refused(tmp_path: Path) -> None:
    (row,) = taken(tmp_path, "usaco", export(tmp_path / "u", [{"question": " q ", "name": "x"}]))
    assert (row["question"], row["solution"]) == ("q", None)
    rows = [{"question_content": f"{level} ", "difficulty": level} for level in ("easy", "hard")]
    (row,) = taken(tmp_path / "b", "live_code_bench", export(tmp_path / "l", rows))
    assert (row["question"], row["source"]) == ("hard", "livecodebench/code_generation_lite")
    with pytest.raises(ConfigError, match=r"sources.0: columns.solution: not set, but quality.missing_solution is on"):
        plan(config(sources=[{"kind": "usaco"}]))


def test_aime_ends_where_the_development_set_begins(tmp_path: Path) -> None:
    rows = [{"ID": f"{y}-I-1", "Year": y, "Question": f"q{y}", "Answer": "7", "Part": "I"} for y in range(1983, 2025)]
    path = export(tmp_path / "AIME", rows)
    found = taken(tmp_path, "aime_1983_2021", path)
    assert [row["question"] for row in found] == [f"q{year}" for year in range(1983, 2022)]
    assert {row["source"] for row in found} == {"qq8933/AIME_1983_2024"}
    assert len(taken(tmp_path / "b", "aime_1983_2021", path, last_year=2022)) == 40


def test_files_in_other_columns_are_refused_before_anything_starts(tmp_path: Path) -> None:
    path = export(tmp_path / "train", [{"question": "q", "answer": "a"}])
    with pytest.raises(ConfigError, match=r"train.jsonl: line 1: missing column: no column 'problem'"):
        check_sources(sources_of({"kind": "s1_math", "path": str(path)}), [])


def test_subsets_and_splits_of_the_hub_are_read_in_s1s_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str | None, str]] = []

    def load_dataset(path: str, subset: str | None, *, split: str, revision: str | None, streaming: bool) -> object:
        assert (path, revision, streaming) == ("GAIR/OlympicArena", "abc", True)
        asked.append((subset, split))
        row = {
            "problem": f"{subset} {split}",
            "solution": "s",
            "answer": "1",
            "language": "EN",
            "modality": "text-only",
        }
        return iter([row | {"subject": str(subset)}])

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    rows, _ = staged(tmp_path, {"kind": "olympic_arena", "revision": "abc"})
    assert [row["question"] for row in rows] == [f"{subset} {split}" for subset, split in asked]
    assert asked[0] == ("Math", "test")
    assert asked[7] == ("Math", "val")
    assert len(asked) == 14
