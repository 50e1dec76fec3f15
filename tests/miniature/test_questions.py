"""The world's questions: exact answers, checked against independent computations, and the verifier."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s1ray.errors import InputError
from s1ray.miniature.domains import DOMAINS, LEVELS
from s1ray.miniature.questions import Problem, draw, problem_of, to_question, verify
from s1ray.miniature.seeding import generator
from s1ray.miniature.working import one_pass, slipping_pass
from s1ray.schemas import Question

problems = st.builds(
    lambda domain, level, seed: draw(generator("test", seed), domain, level),
    st.sampled_from(sorted(DOMAINS)),
    st.sampled_from(LEVELS),
    st.integers(0, 10**6),
)


def problems_of(domain: str, count: int = 60) -> list[Problem]:
    return [draw(generator("test", domain, seed), domain, 1 + seed % 6) for seed in range(count)]


@given(problems)
def test_the_verifier_takes_the_exact_answer_in_any_spacing_and_nothing_else(problem: Problem) -> None:
    question = to_question(problem)
    assert verify(question, problem.answer)
    assert verify(question, f"  {problem.answer.upper()}. ")
    assert not verify(question, problem.answer + "1")
    assert not verify(question, "")


@given(problems, st.integers(1, 4))
def test_a_pass_without_slips_reaches_the_exact_answer_whatever_its_stride(problem: Problem, stride: int) -> None:
    lines, answer = one_pass(problem.rules, problem.spec, stride=stride)
    assert answer == problem.answer
    assert lines


@given(problems, st.integers(0, 10**6))
def test_a_pass_whose_every_slip_is_noticed_reaches_the_exact_answer(problem: Problem, seed: int) -> None:
    lines, answer = slipping_pass(problem.rules, problem.spec, generator(seed), stride=1, slip=1.0, notice=1.0)
    assert answer == problem.answer
    assert sum(line.startswith("Wait, ") for line in lines) == len(lines) / 2


@given(problems, st.integers(0, 10**6))
def test_a_slip_is_always_wrong_and_the_walk_still_ends(problem: Problem, seed: int) -> None:
    rng = generator(seed)
    state = problem.rules.start(problem.spec)
    step = problem.rules.next_step(problem.spec, state, 0)
    state = problem.rules.advance(problem.spec, state, step)
    assert problem.rules.slip(problem.spec, state, rng) != state
    slipping_pass(problem.rules, problem.spec, rng, stride=1, slip=0.5, notice=0.0)


@given(problems)
def test_a_question_gives_its_problem_back(problem: Problem) -> None:
    question = to_question(problem)
    again = problem_of(question)
    assert (again.text, again.answer, again.key) == (question.question, question.answer, problem.key)


def test_a_foreign_question_is_refused_by_name() -> None:
    with pytest.raises(InputError, match=r"'abc'.*metadata"):
        problem_of(Question(id="abc", question="Why?"))


@pytest.mark.parametrize("domain", sorted(DOMAINS))
def test_harder_levels_take_more_steps(domain: str) -> None:
    def mean_steps(level: int) -> float:
        drawn = [draw(generator("steps", domain, level, seed), domain, level) for seed in range(30)]
        return sum(len(one_pass(problem.rules, problem.spec)[0]) for problem in drawn) / 30

    means = [mean_steps(level) for level in LEVELS]
    assert all(later > earlier for earlier, later in itertools.pairwise(means))
    assert means[0] <= 4


@pytest.mark.parametrize("domain", sorted(DOMAINS))
def test_phrasings_hold_no_run_of_eight_words_without_data(domain: str) -> None:
    for phrasing in DOMAINS[domain].phrasings:
        words = ["{" in word for word in phrasing.split()]
        assert all(len(list(run)) < 8 for has_data, run in itertools.groupby(words) if not has_data)


def test_running_totals_agree_with_python() -> None:
    for problem in problems_of("arithmetic"):
        assert problem.answer == str(eval(f"{problem.spec['start']}{''.join(problem.spec['steps'])}"))


def test_last_digits_agree_with_folding_over_the_whole_numbers() -> None:
    for problem in problems_of("last_digit"):
        value = problem.spec["start"]
        for step in problem.spec["steps"]:
            value = eval(f"{value}{step}")
        assert problem.answer == str(value % 10)


def test_the_unknown_of_an_equation_gives_its_result() -> None:
    for problem in problems_of("equation"):
        value = int(problem.answer)
        for step in problem.spec["steps"]:
            value = eval(f"{value}{step}")
        assert value == problem.spec["start"]


def test_terms_of_a_sequence_agree_with_the_closed_form() -> None:
    for problem in problems_of("sequence"):
        spec, n = problem.spec, problem.spec["term"] - 1
        assert int(problem.answer) == spec["start"] + n * spec["difference"] + spec["growth"] * n * (n - 1) // 2


def test_digits_in_another_base_read_back_as_the_number() -> None:
    for problem in problems_of("base_conversion"):
        assert int(problem.answer, problem.spec["base"]) == problem.spec["number"]


def test_common_divisors_agree_with_math() -> None:
    for problem in problems_of("gcd"):
        assert problem.answer == str(math.gcd(problem.spec["a"], problem.spec["b"]))


def test_weekdays_agree_with_the_sum_of_all_moves() -> None:
    days = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]
    for problem in problems_of("weekday"):
        start = days.index(problem.spec["start"])
        assert problem.answer == days[(start + sum(map(int, problem.spec["steps"]))) % 7]


def test_cups_agree_with_shuffling_all_six() -> None:
    for problem in problems_of("cups"):
        cups = [number == problem.spec["start"] for number in range(1, 7)]
        for a, b in (map(int, step.split("-")) for step in problem.spec["steps"]):
            cups[a - 1], cups[b - 1] = cups[b - 1], cups[a - 1]
        assert problem.answer == str(cups.index(True) + 1)


def test_walks_end_at_the_sum_of_their_moves() -> None:
    for problem in problems_of("walk"):
        x, y = problem.spec["start"]
        for step in problem.spec["steps"]:
            x += int(step[1]) * {"E": 1, "W": -1}.get(step[0], 0)
            y += int(step[1]) * {"N": 1, "S": -1}.get(step[0], 0)
        assert problem.answer == f"{x},{y}"


def test_bits_agree_with_python() -> None:
    for problem in problems_of("boolean"):
        value = int(problem.spec["start"], 2)
        for step in problem.spec["steps"]:
            value = eval(f"{value}{step[0]}{int(step[1:], 2)}")
        assert problem.answer == f"{value:03b}"


def test_ranks_agree_with_sorting() -> None:
    for problem in problems_of("ranking"):
        assert problem.answer == sorted(problem.spec["letters"])[problem.spec["rank"] - 1]


def test_arrows_lead_where_a_dictionary_leads() -> None:
    for problem in problems_of("pointers"):
        arrows = dict(arrow.split(">") for arrow in problem.spec["arrows"])
        node = problem.spec["start"]
        for _ in range(problem.spec["hops"]):
            node = arrows[node]
        assert problem.answer == node


def test_counts_agree_with_filtering() -> None:
    for problem in problems_of("counting"):
        numbers = [int(step) for step in problem.spec["steps"]]
        match problem.spec["test"].split():
            case ["even" | "odd" as parity]:
                passing = [n for n in numbers if n % 2 == (parity == "odd")]
            case [comparison, bound]:
                passing = [n for n in numbers if (n > int(bound) if comparison == "above" else n < int(bound))]
        assert problem.answer == str(len(passing))


def test_common_letters_agree_with_set_intersection() -> None:
    for problem in problems_of("sets"):
        assert problem.answer == str(len(set(problem.spec["steps"]) & set(problem.spec["second"])))
