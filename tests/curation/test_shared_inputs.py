"""Odd inputs and real data sets that lie beside the repository; skipped where they are not there."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from s1ray.config import ConfigError
from tests.support.curation import quarantined, staged

SHARED = Path(__file__).parents[3] / "shared"
DATA = Path(os.environ.get("S1RAY_SHARED_DATA", SHARED / "data"))
CASES = DATA.parent / "cases" / "curation"

MAPPED = {"solution": "solution", "answer": "answer"}
CHAT = {"question": "{messages:user}", "solution": "{messages:assistant}", "answer": "answer"}
NESTED = {"solution": "solution", "answer": "reward_model.ground_truth"}
JOINED = {"question": "{passage}\n{question}\n{options:letters}", "answer": "label"}

# File, columns, rows that are staged, and the kinds and places of those that are put aside.
READ: list[tuple[str, dict[str, str], int, list[tuple[str, int]]]] = [
    ("01_bad_line.jsonl", MAPPED, 3, [("not JSON", 3)]),
    ("03_missing_key.jsonl", MAPPED, 3, []),
    ("04_mixed.jsonl", MAPPED, 4, [("wrong type", 3), ("wrong type", 4)]),
    ("05_pool.jsonl.gz", MAPPED, 1, []),
    ("07_pool.csv", MAPPED, 1, []),
    ("08_array.json", MAPPED, 2, []),
    ("09_mix", MAPPED, 6, []),
    ("10_ndjson", MAPPED, 1, []),
    ("10b_json", MAPPED, 1, []),
    ("11_messages.jsonl", CHAT, 1, []),
    ("11b_nested.jsonl", NESTED, 1, []),
    ("12_bom.jsonl", MAPPED, 2, []),
    ("12c_surrogate.jsonl", MAPPED, 1, [("broken text", 1)]),
    ("13_schema", MAPPED, 2, []),
    ("15_huge.jsonl", MAPPED, 2, []),
    ("18_bytes.parquet", MAPPED, 1, []),
    ("19_dict.parquet", MAPPED, 2, []),
    ("20_where.jsonl", MAPPED, 3, []),
    ("22_mcq.jsonl", JOINED, 1, []),
]


@pytest.mark.skipif(not CASES.exists(), reason=f"{CASES} is not here")
@pytest.mark.parametrize(("name", "columns", "rows", "bad"), READ, ids=[case[0] for case in READ])
def test_an_odd_input_is_read_or_put_aside(
    name: str, columns: dict[str, str], rows: int, bad: list[tuple[str, int]], tmp_path: Path
) -> None:
    found, _ = staged(tmp_path, {"kind": "files", "path": str(CASES / name), "columns": columns})
    assert len(found) == rows
    assert [(entry["reason"].split(":")[0], entry["line"]) for entry in quarantined(tmp_path)] == bad
    texts = [str(row[field]) for row in found for field in ("question", "solution", "answer")]
    assert not any(text.startswith(("{'", "['")) or text == "nan" for text in texts)


@pytest.mark.skipif(not CASES.exists(), reason=f"{CASES} is not here")
def test_odd_inputs_are_not_fatal_to_each_other(tmp_path: Path) -> None:
    sources: list[dict[str, Any]] = [
        {"kind": "files", "path": str(CASES / name), "columns": columns} for name, columns, _, _ in READ
    ]
    sources += [{"kind": "files", "path": str(CASES / name)} for name in ("12d_nul.jsonl", "14_empty.jsonl")]
    found, done = staged(tmp_path, *sources)
    assert len(found) == sum(rows for _, _, rows, _ in READ)
    assert len(quarantined(tmp_path)) == sum(len(bad) for _, _, _, bad in READ) + 1
    assert len(done.read) == len(sources)


@pytest.mark.skipif(not DATA.exists(), reason=f"{DATA} is not here")
def test_agieval_questions_are_joined_so_different_ones_differ(tmp_path: Path) -> None:
    found, _ = staged(tmp_path, {"kind": "agieval", "path": str(DATA / "agieval_*.parquet")})
    assert len(found) == 1355
    assert not quarantined(tmp_path)
    asked = Counter(row["question"] for row in found)
    answers = {row["question"]: row["answer"] for row in found}
    twice = [row for row in found if asked[row["question"]] > 1 and row["answer"] != answers[row["question"]]]
    assert not twice, "the same text with another label"
    assert sum(count - 1 for count in asked.values()) <= 1
    assert {row["answer"] for row in found} <= set("ABCDE")


@pytest.mark.skipif(not DATA.exists(), reason=f"{DATA} is not here")
@pytest.mark.parametrize(
    ("name", "columns", "where", "rows"),
    [
        ("math_12500", {"question": "problem", "solution": "solution"}, {"split": "train", "level": {"ge": 4}}, 3994),
        ("gsm8k", {"solution": "answer", "answer": "final_answer"}, {"split": ["train"]}, 7473),
        ("omni_math_rule_2821", {"question": "problem", "domain": "domain"}, {"difficulty": {"gt": 6}}, None),
        ("aime_1983_2024", {"question": "problem", "answer": "answer"}, {"year": {"le": 2021}}, 915),
        ("olympiadbench_oe_maths_en", {"solution": "solution", "answer": "final_answer[0]"}, {}, 675),
        ("theoremqa", {"question": "Question", "answer": "Answer"}, {"Picture": {"missing": True}}, 747),
    ],
)
def test_real_sets_are_read_whole(
    name: str, columns: dict[str, str], where: dict[str, object], rows: int | None, tmp_path: Path
) -> None:
    source = {"kind": "files", "path": str(DATA / f"{name}.parquet"), "columns": columns, "where": where}
    found, _ = staged(tmp_path, source)
    assert not quarantined(tmp_path)
    assert rows is None or len(found) == rows
    assert found
    assert not any(str(row["domain"]).startswith("[") for row in found)


@pytest.mark.skipif(not DATA.exists(), reason=f"{DATA} is not here")
def test_several_answers_are_never_one_by_chance(tmp_path: Path) -> None:
    source = {"kind": "files", "path": str(DATA / "math_cot_100x8.parquet"), "columns": {"answer": "pred"}}
    with pytest.raises(ConfigError, match=r"100 of 100 rows cannot be used \(100 wrong type\)"):
        staged(tmp_path, source)
    assert "column 'pred' is a list of 8; say which, for example pred[0]" in quarantined(tmp_path)[0]["reason"]
