from __future__ import annotations

import json
import os
import random
import time
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from pydantic import JsonValue

from s1ray.config import validate_config
from s1ray.curation.config import Benchmark, DecontaminationConfig, Tier
from s1ray.curation.decontamination import BenchmarkIndex, Finding, Hit
from s1ray.curation.decontamination.benchmarks import has_private_text
from s1ray.curation.text import TokenBlock, word_ngrams
from s1ray.schemas import question_id

SHARED = Path(os.environ.get("S1RAY_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data"))
S1_RULE = DecontaminationConfig(recipe="s1_code")
ALL: list[Tier] = ["whole", "letters", "s1_ngrams", "ngrams", "template", "overlap"]
REVIEWED = DecontaminationConfig(drop=[], review=ALL)
ASKED = "One two three four five six seven eight, nine ten"


def found(question: str, asked: str, config: DecontaminationConfig = REVIEWED) -> Finding:
    return BenchmarkIndex.build([("bench/0", asked)], config).find([question])[0]


def tiers(question: str, asked: str) -> set[str]:
    return {hit.tier for hit in found(question, MILL).review}


def dropped(question: str, asked: str, config: DecontaminationConfig | None = None) -> Hit | None:
    return found(question, asked, config or DecontaminationConfig()).drop


@cache
def rows(name: str) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    path = SHARED / name
    if not path.exists():
        pytest.skip(f"{path} is not here")
    records: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return records


def test_seven_words_are_never_flagged_by_the_rule() -> None:
    words = "one two three four five six seven"
    assert found(words, words, S1_RULE) == Finding()


def test_eight_words_of_other_case_and_spacing_are_flagged() -> None:
    hit = dropped("  ONE two\tthree four\n five SIX seven eight,  and more", ASKED, S1_RULE)
    assert hit == Hit("s1_ngrams", "bench/0", "one two three four five six seven eight,", ASKED)


def test_punctuation_glued_to_a_word_hides_a_run_from_the_rule() -> None:
    question = "one two three four five six seven eight nine ten"
    assert dropped(question, ASKED, S1_RULE) is None
    assert dropped(question, ASKED) is not None


def test_seven_common_words_are_not_enough() -> None:
    assert dropped("one two three four five six seven and eight, nine ten", ASKED, S1_RULE) is None


LONG = "Let $x$ be a positive integer with $x^2 + 3x = 40$. What is the value of $\\frac{x}{2}$ in lowest terms?"


@pytest.mark.parametrize(
    "question",
    [
        LONG,
        LONG.upper(),
        LONG.lower().replace(" ", "  "),
        LONG.replace("$", ""),
        f"Solve the following problem.\n\n{LONG}\nPut your answer in \\boxed{{}}.",
        f"{LONG}\n(A) 1 (B) 5/2 (C) 3 (D) 4",
        LONG.replace("\\frac{x}{2}", "x/2"),
        LONG.replace("\\frac{x}{2}", "\\dfrac x2").replace("x^2", "x²"),
        LONG.replace("\\frac", "frac").replace("$", ""),
        LONG.replace("\\frac{x}{2}", "  x  2 "),
    ],
)
def test_a_whole_question_is_dropped_however_it_is_written(question: str) -> None:
    hit = dropped(question, LONG)
    assert hit is not None
    assert (hit.label, hit.asked) == ("bench/0", LONG)


@pytest.mark.parametrize(
    "question",
    [
        LONG.replace("3x", "4x"),
        LONG.replace("+ 3x", "- 3x"),
        LONG.replace("lowest terms?", "lowest terms, if $x > 3$?"),
        LONG.replace("value", "cube"),
        "What is the value of $\\frac{x}{2}$ in lowest terms?",
        "Something else altogether about trees.",
    ],
)
def test_another_question_is_not_dropped(question: str) -> None:
    assert dropped(question, LONG) is None


def test_a_question_does_not_end_within_a_formula() -> None:
    asked = "If a number $x$ is four more than twice another number $y$, and their sum is ten, find $x$."
    assert dropped(asked.replace("find $x$", "find $x + y$"), asked) is None
    assert dropped(asked.replace("find $x$.", "find $x^2$."), asked) is None
    assert dropped(f"{asked} Then find $y$.", asked) is not None


def test_short_questions_are_sentences_of_their_own() -> None:
    asked = "What is gcd(77, 56)?"
    assert dropped("Homework: what is gcd( 77,56 )? Show work.", asked) is not None
    assert dropped("What is gcd(77, 57)?", asked) is None
    assert dropped("Tell me: what is gcd(77, 56) + 3?", asked) is None
    # A very short one is the whole text.
    assert dropped("Two?", "two") is not None
    assert dropped("One. Two. Three.", "two") is None
    assert dropped("Why is 2 + 2 even?", "2 + 2") is None


STRIPPED = [
    ("Compute $\\dbinom{31}{28}$.", "Compute    31  28  ."),
    ("Evaluate $\\left\\lceil\\sqrt{20}\\right\\rceil^2$.", "Evaluate  lceilsqrt(20)rceil^2 ."),
    ("Evaluate $\\log_264$.", "Evaluate   _264 ."),
    ("Solve for $x$: $\\frac{x}{2} + \\frac{x}{3} = 5$", "Solve for  x :  fracx2 + fracx3 = 5 "),
    ("Solve\n\\[\\frac{|x^2 - 81|}{x^2 - 36x} < 0.\\]", "Solve\n [ frac{|x^2 - 81|}{x^2 - 36x} < 0. ]"),
]


@pytest.mark.parametrize(("asked", "question"), STRIPPED)
def test_a_short_question_without_its_latex_is_dropped(asked: str, question: str) -> None:
    hit = dropped(question, asked)
    assert hit is not None
    assert hit.tier == "letters"


@pytest.mark.parametrize(
    ("asked", "question"),
    [
        ("Compute $\\dbinom{31}{28}$.", "Compute $31 \\cdot 28$."),
        ("Compute $\\dbinom{31}{28}$.", "Compute 31*28 now  ."),
        ("Compute $\\sqrt{31+28}$.", "Compute 31+28."),
        ("Compute $31!-28$.", "Compute   31 - 28."),
        ("Solve for $x$: $|x|-3 = 5$", "Solve for $x$: $x-3 = 5$"),
        ("Solve for $x$: $x-3 < 52$", "Solve  for x : x-3 > 52"),
    ],
)
def test_a_short_question_of_the_same_letters_is_not_dropped(asked: str, question: str) -> None:
    assert dropped(question, asked) is None


def test_parts_of_a_question_are_known_by_themselves() -> None:
    asked = (
        "A farmer has a field of wheat and some geese. (a) How many geese can the farmer feed for forty days with the "
        "grain of this field? (b) How much grain is left over when the farmer sells half of all the geese in March?"
    )
    hit = dropped("How much grain is left over when the farmer sells half of all the geese in March?", asked)
    assert hit is not None
    assert hit.label == "bench/0, part 2"
    assert dropped("How much grain is left over when the farmer sells none of the geese in March?", asked) is None


def test_a_question_in_a_solution_is_dropped_too() -> None:
    index = BenchmarkIndex.build([("bench/0", LONG)], DecontaminationConfig())
    solutions = [
        f"We recall the problem: {LONG} It has the answer 5/2.",
        "It is 5.",
        None,
        "Let x be a positive integer with it.",
    ]
    findings = index.find(["What?"] * 4, solutions=solutions)
    assert [finding.drop is not None for finding in findings] == [True, False, False, False]
    assert findings[0].drop is not None
    assert findings[0].drop.place == "solution"
    off = BenchmarkIndex.build([("bench/0", LONG)], DecontaminationConfig(solutions=False))
    assert off.find(["What?"], solutions=solutions[:1]) == [Finding()]


MILL = "Tom walks to the old mill at noon. He meets 5 dogs and 7 cats on his way. How many animals does he meet in all?"


def test_what_is_like_a_question_is_reviewed_with_both_texts() -> None:
    assert "template" in tiers(MILL.replace("5", "6").replace("7", "9"), MILL)
    other = MILL.replace("Tom walks to the old", "Ann runs to a new").replace("meets 5", "meets, 5")
    assert "ngrams" in tiers(other, MILL)
    moved = MILL.removeprefix("Tom walks to the old mill at noon. ") + " Tom walks to the old mill at noon."
    assert {"overlap", "s1_ngrams"} <= tiers(moved, MILL)
    half = "Tom walks to the old mill at noon. He meets 5 dogs and"
    hits = {hit.tier: hit for hit in found(half, MILL).review}
    assert hits["overlap"] == Hit("overlap", "bench/0", half, MILL, 1.0)


@pytest.mark.parametrize("private", [True, False])
def test_the_text_of_a_private_benchmark_is_not_shown(tmp_path: Path, private: bool) -> None:
    file = tmp_path / "secret.jsonl"
    file.write_text(json.dumps({"question": LONG}))
    benchmark: dict[str, JsonValue] = {"path": str(file), "private_text": private}
    fields: dict[str, JsonValue] = {"benchmarks": [benchmark], "review": ["s1_ngrams"]}
    config = validate_config(DecontaminationConfig, fields, "test")
    finding = BenchmarkIndex.load(config).find([f"Please tell: {LONG}"])[0]
    assert finding.drop is not None
    assert finding.drop.label == "secret/0"
    hits = [finding.drop, *finding.review]
    assert len(hits) == 2
    assert {hit.asked.startswith("(this benchmark's questions are not") for hit in hits} == {private}


def test_a_registered_benchmark_says_itself_that_its_text_is_private() -> None:
    assert has_private_text(Benchmark(path="gpqa_diamond"))
    assert not has_private_text(Benchmark(path="math500"))


def test_what_is_dropped_of_the_likeness_is_configured() -> None:
    other = MILL.replace("5", "6")
    assert dropped(other, MILL) is None
    hit = dropped(other, MILL, DecontaminationConfig(drop=["whole", "template"]))
    assert hit is not None
    assert hit.tier == "template"


def test_boilerplate_is_left_out_when_asked() -> None:
    asked = [
        (f"aime/{i}", f"Problem {i} where m and n are relatively prime positive integers find m+n") for i in range(3)
    ]
    question = "Another one where m and n are relatively prime positive integers find it"
    assert BenchmarkIndex.build(asked, S1_RULE).find([question])[0].drop is not None
    lenient = DecontaminationConfig(review=["s1_ngrams", "ngrams"])
    assert BenchmarkIndex.build(asked, lenient).find([question])[0] == Finding()
    # Phrases that the benchmark has once.
    assert BenchmarkIndex.build(asked[:1], DecontaminationConfig(review=["ngrams"])).find([question])[0] == Finding()


def test_a_row_s_finding_does_not_depend_on_the_rows_beside_it() -> None:
    questions = [LONG, "", "2 + 2", LONG.replace("3x", "4x"), "x", f"Well. {LONG} Right?", "What is the value of it?"]
    index = BenchmarkIndex.build([("a", LONG), ("b", "2 + 2"), ("c", "What is the value of it?")], REVIEWED)
    together = index.find(questions)
    assert together == [index.find([question])[0] for question in questions]
    assert together == index.find(questions, TokenBlock.of(questions))
    assert index.find([]) == []
    assert BenchmarkIndex.build([], REVIEWED).find(questions, solutions=questions) == [Finding()] * len(questions)


def test_a_text_that_repeats_a_question_takes_no_longer_than_its_length() -> None:
    asked = "Let the number of the trees in the garden be even. How many trees are in the garden, where x is seven"
    index = BenchmarkIndex.build([("b", asked)], REVIEWED)
    start = time.process_time()
    index.find([f"{asked} + 1 and " * 2000])
    assert time.process_time() - start < 5


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
    for draw in range(5):
        held_out = set(random.Random(draw).sample(range(len(test)), 500))
        index = BenchmarkIndex.build([("m", test[i]) for i in sorted(held_out)], S1_RULE)
        pool = [row["problem"] for row in problems if row["split"] == "train"]
        pool += [problem for i, problem in enumerate(test) if i not in held_out]
        lost.append(sum(finding.drop is not None for finding in index.find(pool)) / len(pool))
    assert all(0.0685 <= share <= 0.0775 for share in lost), lost


def test_one_question_in_twelve_is_too_short_for_the_rule() -> None:
    test = [row["problem"] for row in rows("math_12500.parquet") if row["split"] == "test"]
    assert round(sum(len(problem.split()) < 8 for problem in test) / len(test), 3) == 0.082


def test_the_training_row_that_differs_from_a_math500_question_in_a_sign_is_reviewed() -> None:
    problems = rows("math_12500.parquet")
    math500 = [(row["unique_id"], row["problem"]) for row in rows("math500.parquet")]
    marked = [row["problem"] for row in problems if row["split"] == "train" and row["math500_id"]]
    assert len(marked) == 1
    assert "z^4 - z^2 + 1" in marked[0]
    finding = BenchmarkIndex.build(math500, DecontaminationConfig()).find(marked)[0]
    assert finding.drop is None
    assert {hit.tier for hit in finding.review} >= {"ngrams", "overlap"}
    assert all("z^4 + z^2 + 1" in hit.asked for hit in finding.review)


def pairs(**wanted: str) -> list[dict[str, Any]]:
    return [row for row in rows("contamination_pairs.parquet") if wanted.items() <= row.items()]


def found_in(pair: dict[str, Any]) -> Finding:
    return found(pair["train_problem"], pair["math500_problem"], DecontaminationConfig())


def test_the_one_question_that_s1k_and_math500_share_is_found_among_the_look_alikes() -> None:
    leaks = [pair["math500_problem"] for pair in pairs(project="s1") if found_in(pair).drop]
    assert len(leaks) == 1
    assert leaks[0].startswith("Steve says to Jon")


def test_aime_boilerplate_is_a_third_of_what_the_rule_flags() -> None:
    problems = rows("aime_1983_2024.parquet")
    asked = [(str(i), row["problem"]) for i, row in enumerate(problems) if row["year"] >= 2022]
    pool = [row["problem"] for row in problems if row["year"] < 2022]
    lenient = DecontaminationConfig(drop=["s1_ngrams"], review=[])
    indexes = [BenchmarkIndex.build(asked, settings) for settings in (S1_RULE, lenient)]
    flagged = [sum(finding.drop is not None for finding in index.find(pool)) for index in indexes]
    assert flagged == [255, 163]


def test_whole_questions_find_the_aime_problems_that_math500_asks() -> None:
    problems = [row["problem"] for row in rows("aime_1983_2024.parquet") if row["year"] < 2022]
    math500 = [(row["unique_id"], row["problem"]) for row in rows("math500.parquet")]
    index = BenchmarkIndex.build(math500, DecontaminationConfig())
    assert sum(finding.drop is not None for finding in index.find(problems)) == 7
