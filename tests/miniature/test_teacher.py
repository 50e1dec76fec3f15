"""The teacher: its traces' form, how often it is right, re-checks and disagreements."""

from statistics import mean

from s1ray.miniature.domains import DOMAINS
from s1ray.miniature.pool import build_benchmark
from s1ray.miniature.questions import draw, verify
from s1ray.miniature.seeding import generator
from s1ray.miniature.teacher import ProceduralTeacher
from s1ray.miniature.working import Habits, think


def test_traces_do_not_depend_on_the_order_of_questions_but_on_the_seed() -> None:
    questions = build_benchmark(60, seed=5)
    forward = [ProceduralTeacher(1).solve(question) for question in questions]
    backward = [ProceduralTeacher(1).solve(question) for question in reversed(questions)]
    assert forward == backward[::-1]
    assert forward != [ProceduralTeacher(2).solve(question) for question in questions]


def test_the_teacher_is_right_nearly_always_but_not_always() -> None:
    teacher = ProceduralTeacher(0)
    questions = build_benchmark(1500, seed=3)
    right = mean(verify(question, teacher.solve(question)[1].removeprefix("Final Answer:")) for question in questions)
    assert 0.95 < right < 0.99


def test_the_attempt_is_the_answer_that_the_last_line_names() -> None:
    teacher = ProceduralTeacher(0)
    for question in build_benchmark(300, seed=4):
        thinking, attempt = teacher.solve(question)
        assert attempt.startswith("Final Answer: ")
        last = thinking.splitlines()[-1]
        assert last.startswith(("So ", "Most say "))
        assert last.endswith(" " + attempt.removeprefix("Final Answer: "))


def test_traces_show_from_no_to_many_rechecks() -> None:
    teacher = ProceduralTeacher(0)
    thinkings = [teacher.solve(question)[0] for question in build_benchmark(800, seed=6)]
    rechecks = [sum(line.startswith("So ") for line in thinking.splitlines()) - 1 for thinking in thinkings]
    assert 0.4 < rechecks.count(0) / len(rechecks) < 0.65
    assert set(range(5)) <= set(rechecks)


def test_a_disagreement_is_named_and_settled_by_the_most_frequent_answer() -> None:
    habits = Habits(quick_first=0.0, careful_slip=0.35, notice=0.0, rechecks=(0.0, 1.0))
    settled = 0
    for seed in range(200):
        rng = generator("disagree", seed)
        problem = draw(rng, "arithmetic", 2)
        thinking, answer = think(problem.rules, problem.spec, rng, habits)
        votes = [line.removeprefix("So ") for line in thinking.splitlines() if line.startswith("So ")]
        assert len(votes) >= 2
        if len(set(votes)) > 1 and len(votes) < 9:
            settled += 1
            assert " or " in thinking
            assert thinking.splitlines()[-1] == f"Most say {answer}"
            assert all(votes.count(answer) > votes.count(vote) for vote in votes if vote != answer)
    assert settled > 50


def test_a_first_pass_may_be_quick_and_every_recheck_is_careful() -> None:
    for domain in DOMAINS:
        problem = draw(generator("quick", domain), domain, 6)
        habits = Habits(quick_first=1.0, quick_slip=0.0, careful_slip=0.0, rechecks=(0.0, 1.0))
        thinking, _ = think(problem.rules, problem.spec, generator(0), habits)
        first, second = thinking.split("\nWait, ")
        assert len(first.splitlines()) < len(second.splitlines())
        assert all(len(line) <= 20 for line in second.splitlines())
