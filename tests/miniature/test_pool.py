"""The pool's flaws come at their known rates, and the benchmark is held out of everything else."""

import json
from collections import Counter

import pytest

from s1ray.miniature.corpus import documents
from s1ray.miniature.domains import DOMAINS
from s1ray.miniature.pool import FLAW_RATES, benchmark_keys, build_benchmark, build_pool
from s1ray.miniature.questions import problem_of
from s1ray.schemas import Question, question_id


@pytest.fixture(scope="module")
def pool() -> list[Question]:
    return build_pool(6_000, seed=0)


def flaw_of(question: Question) -> str | None:
    flaw: str | None = json.loads(question.metadata)["flaw"]
    return flaw


def test_rows_are_questions_with_their_ids(pool: list[Question]) -> None:
    for question in pool:
        assert question.id == question_id(question.question)


def test_the_pool_has_the_size_and_the_flaws_it_was_asked_for(pool: list[Question]) -> None:
    flaws = Counter(map(flaw_of, pool))
    assert len(pool) == 6_000
    for flaw, rate in FLAW_RATES.items():
        assert flaws[flaw] == round(rate * len(pool))


def test_sound_rows_are_distinct_complete_and_cover_every_domain(pool: list[Question]) -> None:
    sound = [question for question in pool if flaw_of(question) is None]
    assert len({question.question for question in sound}) == len(sound)
    assert all(question.solution and question.answer for question in sound)
    shares = Counter(question.domain for question in sound)
    assert set(shares) == set(DOMAINS)
    assert min(shares.values()) > 150


def test_copies_have_their_original_in_the_pool_and_near_copies_differ_from_it(pool: list[Question]) -> None:
    texts = Counter(question.question for question in pool)
    keys = Counter(problem_of(question).key for question in pool if flaw_of(question) is None)
    for question in pool:
        if flaw_of(question) == "exact_duplicate":
            assert texts[question.question] >= 2
        if flaw_of(question) == "near_duplicate":
            assert texts[problem_of(question).text] >= 1
            assert question.question != problem_of(question).text
            assert keys[problem_of(question).key] >= 1


def test_missing_fields_are_empty_and_only_where_said(pool: list[Question]) -> None:
    for question in pool:
        flaw = flaw_of(question)
        assert bool((question.solution or "").strip()) == (flaw != "missing_solution")
        assert bool((question.answer or "").strip()) == (flaw != "missing_answer")


def test_no_row_but_a_leak_asks_a_benchmark_question(pool: list[Question]) -> None:
    held_out = benchmark_keys()
    assert {question.question for question in build_benchmark()}.isdisjoint(
        question.question for question in pool if flaw_of(question) != "benchmark_leak"
    )
    for question in pool:
        assert (problem_of(question).key in held_out) == (flaw_of(question) == "benchmark_leak")


def test_a_leak_holds_a_whole_benchmark_question(pool: list[Question]) -> None:
    asked = {question.question for question in build_benchmark()}
    leaks = [question for question in pool if flaw_of(question) == "benchmark_leak"]
    assert all(any(text in leak.question for text in asked) for leak in leaks)
    assert 0.3 < sum(leak.question in asked for leak in leaks) / len(leaks) < 0.7


def test_the_benchmark_is_distinct_hard_and_even_over_domains() -> None:
    benchmark = build_benchmark()
    assert len({question.question for question in benchmark}) == 600
    levels = [json.loads(question.metadata)["level"] for question in benchmark]
    assert min(levels) >= 2
    assert sum(level >= 4 for level in levels) > 400
    shares = Counter(question.domain for question in benchmark)
    assert set(shares) == set(DOMAINS)
    assert max(shares.values()) - min(shares.values()) <= 8


def test_the_same_seed_gives_the_same_rows_and_another_seed_others() -> None:
    assert build_pool(700, seed=1) == build_pool(700, seed=1)
    assert build_pool(700, seed=1) != build_pool(700, seed=2)
    assert build_benchmark(50, seed=1) == build_benchmark(50, seed=1)
    assert build_benchmark(50, seed=1) != build_benchmark(50, seed=2)


def test_the_corpus_never_shows_a_benchmark_question() -> None:
    texts = {question.question for question in build_benchmark()}
    for document in documents(0, 1, 3000, held_out=benchmark_keys()):
        assert not any(line in texts for line in document.question.replace("<|im_end|>", "\n").splitlines())


def test_the_corpus_never_thinks_in_chat() -> None:
    for document in documents(0, 2, 3000, held_out=()):
        text = document.question + document.body
        assert "<|im_start|>think" not in text
        assert "<|im_start|>answer" not in text
        if "<|im_start|>" in text:
            assert "\n" not in document.body.removesuffix("<|im_end|>\n<|endoftext|>")
