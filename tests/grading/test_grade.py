from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s1ray.errors import InputError
from s1ray.grading import Grade, GraderError, check_references, find_grader, grade, grade_by, kind_of
from s1ray.grading.grade import infer_kind
from s1ray.grading.notation import canonical
from s1ray.grading.numbers import parse_number


@given(st.integers(min_value=-(10**12), max_value=10**12))
def test_integers_equal_themselves_in_any_writing(n: int) -> None:
    for writing in (f"{n}", f"{n:,}", f"{n}.0", f"${n}$", f"x = {n}", f"{n}/1", f"\\frac{{{n}}}{{1}}"):
        verdict = grade(str(n), f"\\boxed{{{writing}}}")
        assert verdict.correct, (writing, verdict)
        assert verdict.graded_by in ("exact", "numeric")


@given(st.integers(), st.integers())
def test_two_integers_are_correct_only_if_equal(gold: int, answer: int) -> None:
    assert grade(str(gold), f"Final Answer: {answer}").correct == (gold == answer)


@given(st.fractions(max_denominator=1000))
def test_fractions_are_read_exactly(value: Fraction) -> None:
    top, bottom = value.numerator, value.denominator
    sign, top = ("-" if top < 0 else ""), abs(top)
    for writing in (
        f"{sign}{top}/{bottom}",
        f"{sign}\\dfrac{{{top}}}{{{bottom}}}",
        f"{sign} \\frac {{{top}}}{{{bottom}}}",
    ):
        number = parse_number(canonical(writing))
        assert number is not None, writing
        assert number.value == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("023", 23),
        ("1,000.50", Fraction(2001, 2)),
        ("1{,}234", 1234),
        ("-\\frac12", Fraction(-1, 2)),
        ("1\\frac{1}{2}", Fraction(3, 2)),
        ("2 3/4", Fraction(11, 4)),
        ("1.5e3", 1500),
        (".5", Fraction(1, 2)),
        ("−7", -7),
        ("1,00", None),
        ("1/0", None),
        ("5x", None),
        ("1e9999", None),
        ("", None),
    ],
)
def test_numbers(text: str, value: Fraction | None) -> None:
    number = parse_number(canonical(text))
    assert (number.value if number else None) == value


@pytest.mark.parametrize(
    ("gold", "text", "correct", "rule"),
    [
        ("023", "\\boxed{23}", True, "numeric"),
        ("True", "Answer: true.", True, "structure"),
        ("Tuesday", "Answer: Monday", False, "exact"),
        ("3, 5, 9", "Answer: [3,5,9]", True, "structure"),
        ("C", "The answer is (C).", True, "choice"),
        ("C", "The answer is D.", False, "choice"),
        ("C", "\\boxed{42}", False, "no answer"),
        ("50\\%", "\\boxed{50}", True, "numeric"),
        ("0.5", "\\boxed{50\\%}", True, "numeric"),
        ("7", "\\boxed{7 apples}", True, "numeric"),
        ("7", "\\boxed{7x}", False, "symbolic"),
        ("52_8", "\\boxed{52}", True, "structure"),
        ("52_8", "\\boxed{52_9}", False, "structure"),
        ("52", "\\boxed{52_8}", False, "structure"),
        ("\\{1,2\\}", "\\boxed{(1,2)}", False, "structure"),
        ("\\boxed{\\frac{\\sqrt{3}}{3}}", "\\boxed{\\frac{1}{\\sqrt{3}}}", True, "symbolic"),
        ("x^2+2x+1", "\\boxed{(x+1)^2}", True, "symbolic"),
        ("5", "", False, "no answer"),
        ("5", "We get\n5", True, "exact, from last_line"),
    ],
)
def test_verdicts(gold: str, text: str, correct: bool, rule: str) -> None:
    verdict = grade(gold, text)
    assert (verdict.correct, verdict.graded_by) == (correct, rule)


def test_text_answers_keep_their_order_and_math_lists_do_not() -> None:
    assert grade("1, 2", "\\boxed{2, 1}").correct
    assert not grade("1, 2", "\\boxed{2, 1}", kind="text").correct


def test_an_empty_reference_is_an_error() -> None:
    with pytest.raises(InputError, match="reference answer ' ' is empty"):
        grade(" ", "\\boxed{5}")


def test_kinds() -> None:
    assert [infer_kind(gold) for gold in ("C", "(B)", "12", "1/2", "Tuesday", "x+1")] == [
        "choice",
        "choice",
        "number",
        "number",
        "text",
        "math",
    ]
    assert kind_of(None) is None
    assert kind_of('{"level": 3}') is None
    assert kind_of('{"answer_kind": "text"}') == "text"
    with pytest.raises(InputError, match="question 'q': metadata gives answer_kind 'list'"):
        check_references([("q", "5", '{"answer_kind": "list"}')], "file")


def strict(gold: str, text: str, *, kind: str | None = None) -> Grade:
    """What another package would register."""
    return Grade("correct" if gold == text else "incorrect", text, f"strict {kind}")


def test_a_grader_of_ones_own_is_one_function() -> None:
    assert find_grader("rules") is grade
    assert find_grader(f"{__name__}:strict")("5", "5", kind="proof") == Grade("correct", "5", "strict proof")
    check_references([("q", ".", '{"answer_kind": "proof"}')], "file", f"{__name__}:strict")
    with pytest.raises(InputError, match="no grader is called 'rulse'; did you mean 'rules'"):
        find_grader("rulse")
    with pytest.raises(InputError, match="is a str, not a function"):
        find_grader(f"{__name__}:__name__")


def broken(gold: str, text: str, *, kind: str | None = None) -> Grade:
    raise KeyError("key")


def says_true(gold: str, text: str, *, kind: str | None = None) -> bool:
    return True


def refuses(gold: str, text: str, *, kind: str | None = None) -> Grade:
    raise InputError("no such reference")


@pytest.mark.parametrize(
    ("grader", "message"),
    [
        ("json:loads", r"'json:loads' fails at question 'q': TypeError: "),
        (f"{__name__}:broken", "fails at question 'q': KeyError: 'key'"),
        (f"{__name__}:says_true", "gives True at question 'q'; it must return a Grade"),
    ],
)
def test_a_grader_that_is_none_is_found_before_anything_is_asked(grader: str, message: str) -> None:
    with pytest.raises(GraderError, match=message):
        check_references([("p", " ", None), ("q", "5", None)], "file", grader)
    with pytest.raises(GraderError, match="at question 'an example'"):
        check_references([("p", None, None)], "file", grader)


def test_a_grader_may_refuse_a_reference() -> None:
    check_references([("q", "5", None)], "file", f"{__name__}:refuses")
    with pytest.raises(InputError, match="no such reference"):
        grade_by(f"{__name__}:refuses", "5", "5", where="q")


def test_a_grader_of_older_times_is_told_what_a_verdict_is() -> None:
    with pytest.raises(TypeError, match="is one of correct, incorrect, unparsable, undecided, no gold, not True"):
        Grade(True, "7", "exact")  # type: ignore[arg-type]
