from __future__ import annotations

import os
import random
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from s1ray.curation.config import DecontaminationConfig
from s1ray.curation.decontamination import BenchmarkIndex
from s1ray.curation.text import word_ngrams
from s1ray.schemas import question_id

SHARED = Path(os.environ.get("S1RAY_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data"))
S1_RULE = DecontaminationConfig(whole_questions=False)
ASKED = "One two three four five six seven eight, nine ten"


def leaks(question: str, config: DecontaminationConfig = S1_RULE, asked: str = ASKED) -> tuple[str, str] | None:
    return BenchmarkIndex.build([("bench/0", asked)], config).leak(question)


@cache
def rows(name: str) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    path = SHARED / name
    if not path.exists():
        pytest.skip(f"{path} is not here")
    records: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return records


def test_seven_words_are_never_flagged_by_the_rule() -> None:
    assert leaks("one two three four five six seven", asked="one two three four five six seven") is None


def test_eight_words_of_other_case_and_spacing_are_flagged() -> None:
    found = leaks("  ONE two\tthree four\n five SIX seven eight,  and more")
    assert found == ("shares 8 words in a row with a benchmark question", "bench/0")


def test_punctuation_glued_to_a_word_hides_a_run() -> None:
    assert leaks("one two three four five six seven eight nine ten") is None


def test_seven_common_words_are_not_enough() -> None:
    assert leaks("one two three four five six seven and eight, nine ten") is None


def test_whole_questions_are_found_where_the_rule_is_blind() -> None:
    config = DecontaminationConfig()
    assert leaks("Homework: what is gcd( 77,56 )? Show work.", config, "What is gcd(77, 56)?") == (
        "contains a benchmark question",
        "bench/0",
    )
    assert leaks("What is gcd(77, 57)?", config, "What is gcd(77, 56)?") is None
    # A very short question is found by equality alone.
    assert leaks("2+2?", config, "2 + 2") is not None
    assert leaks("Why is 2 + 2 even?", config, "2 + 2") is None


def test_boilerplate_is_left_out_when_asked() -> None:
    asked = [
        (f"aime/{i}", f"Problem {i} where m and n are relatively prime positive integers find m+n") for i in range(3)
    ]
    question = "Another one where m and n are relatively prime positive integers find it"
    assert BenchmarkIndex.build(asked, S1_RULE).leak(question) is not None
    lenient = DecontaminationConfig(whole_questions=False, boilerplate=3)
    assert BenchmarkIndex.build(asked, lenient).leak(question) is None


def test_normalisation_is_that_of_s1() -> None:
    assert word_ngrams("  A\tB \n\n c.  ", 3) == ["a b c."]
    assert word_ngrams("A b\nC d", 3) == ["a b c", "b c d"]
    assert word_ngrams("a b", 3) == []


def test_question_ids_are_those_of_s1() -> None:
    assert question_id("What is 2+2?") == "52cb6b5e4a038af1"


def test_math_loses_seven_percent_to_the_rule() -> None:
    problems = rows("math_12500.parquet")
    test = [row["problem"] for row in problems if row["split"] == "test"]
    lost = []
    for draw in range(3):
        held_out = set(random.Random(draw).sample(range(len(test)), 500))
        index = BenchmarkIndex.build([("m", test[i]) for i in sorted(held_out)], S1_RULE)
        pool = [row["problem"] for row in problems if row["split"] == "train"]
        pool += [problem for i, problem in enumerate(test) if i not in held_out]
        lost.append(sum(index.leak(problem) is not None for problem in pool) / len(pool))
    assert all(0.06 < share < 0.085 for share in lost), lost


def test_the_training_row_that_equals_a_math500_question_is_found() -> None:
    problems = rows("math_12500.parquet")
    math500 = [(row["unique_id"], row["problem"]) for row in rows("math500.parquet")]
    leaked = [row["problem"] for row in problems if row["split"] == "train" and row["math500_id"]]
    assert len(leaked) == 1
    index = BenchmarkIndex.build(math500, DecontaminationConfig())
    assert index.leak(leaked[0]) is not None


def test_the_one_question_that_s1k_and_math500_share_is_found_among_the_look_alikes() -> None:
    pairs = [row for row in rows("contamination_pairs.parquet") if row["project"] == "s1"]
    found = []
    for row in pairs:
        index = BenchmarkIndex.build([("b", row["math500_problem"])], DecontaminationConfig())
        leak = index.leak(row["train_problem"])
        if leak and leak[0] == "contains a benchmark question":
            found.append(row["math500_problem"])
    assert len(found) == 1
    assert found[0].startswith("Steve says to Jon")


def test_rewritten_problems_are_the_rules_blind_spot() -> None:
    # People judged these pairs to be the same problem; hardly one shares eight words in a row. A rule on words cannot
    # do better.
    pairs = [row for row in rows("contamination_pairs.parquet") if row["contamination_type"] == "c_sem"]
    found = sum(
        BenchmarkIndex.build([("b", row["math500_problem"])], DecontaminationConfig()).leak(row["train_problem"])
        is not None
        for row in pairs
    )
    assert (found, len(pairs)) == (1, 53)


def test_aime_boilerplate_is_a_third_of_what_the_rule_flags() -> None:
    problems = rows("aime_1983_2024.parquet")
    asked = [(str(i), row["problem"]) for i, row in enumerate(problems) if row["year"] >= 2022]
    pool = [row["problem"] for row in problems if row["year"] < 2022]
    indexes = [
        BenchmarkIndex.build(asked, settings)
        for settings in (S1_RULE, DecontaminationConfig(whole_questions=False, boilerplate=3))
    ]
    flagged = [sum(index.leak(problem) is not None for problem in pool) for index in indexes]
    assert flagged == [255, 163]


def test_whole_questions_find_the_aime_problems_that_math500_asks() -> None:
    problems = [row["problem"] for row in rows("aime_1983_2024.parquet") if row["year"] < 2022]
    math500 = [(row["unique_id"], row["problem"]) for row in rows("math500.parquet")]
    index = BenchmarkIndex.build(math500, DecontaminationConfig())
    leaks = [index.leak(problem) for problem in problems]
    assert sum(leak is not None and leak[0] == "contains a benchmark question" for leak in leaks) == 6
