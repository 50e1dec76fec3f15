import pytest
from hypothesis import given
from hypothesis import strategies as st

from s1ray.grading.boxes import last_boxed
from s1ray.grading.choices import choice_letter
from s1ray.grading.extraction import extract_answer

WORDS = st.text(alphabet="abcdefgh .,\n$()", max_size=60)
ATOM = st.text(alphabet="0123456789xyz+-", min_size=1, max_size=6)
LATEX = st.recursive(
    ATOM,
    lambda inner: st.one_of(
        st.tuples(inner, inner).map(lambda pair: rf"\frac{{{pair[0]}}}{{{pair[1]}}}"),
        inner.map(lambda x: rf"\sqrt{{{x}}}"),
        inner.map(lambda x: rf"\{{{x}\}}"),
        st.tuples(inner, inner).map("".join),
    ),
    max_leaves=6,
)


@given(before=WORDS, box=LATEX, after=WORDS)
def test_a_box_is_found_whatever_stands_around_it(before: str, box: str, after: str) -> None:
    found = extract_answer(f"{before}\\boxed{{{box}}}{after}")
    assert found is not None
    assert (found.value, found.how) == (box, "boxed")


@given(first=LATEX, second=LATEX)
def test_the_last_box_counts(first: str, second: str) -> None:
    assert last_boxed(f"\\boxed{{{first}}} was wrong, so \\boxed{{{second}}}.") == second


@given(complete=LATEX, cut=LATEX)
def test_a_box_cut_open_by_the_end_is_passed_over(complete: str, cut: str) -> None:
    assert last_boxed(f"So \\boxed{{{complete}}}. Check: \\boxed{{{cut}") == complete


def test_a_box_that_alone_is_cut_gives_the_rest_of_its_line() -> None:
    assert last_boxed("So \\boxed{5") == "5"
    assert last_boxed("So \\boxed{5\nand more") is None


@given(st.text(max_size=200))
def test_any_text_is_survived_and_values_are_never_empty(text: str) -> None:
    found = extract_answer(text)
    assert found is None or found.value.strip()


@given(answers=st.lists(ATOM.filter(lambda a: a.strip("-+")), min_size=1, max_size=4))
def test_the_last_labelled_line_counts(answers: list[str]) -> None:
    text = "".join(f"Final Answer: {answer}\nMore words here.\n" for answer in answers)
    found = extract_answer(text)
    assert found is not None
    assert (found.value, found.how) == (answers[-1], "label")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("Final Answer: 4", "4"),
        ("**Final Answer:** $\\frac{1}{2}$", "\\frac{1}{2}"),
        ("### Final Answer\n\n42", "42"),
        ("Answer:\n7 apples", "7 apples"),
        ("Answer: 3\nAnswer: 5\n", "5"),
        ("Final Answer: The final answer is $17$. I hope it is correct.", "17"),
        (r"$= \boxed{255}$ more. The final answer is 10,455", "10,455"),
        ("Thus the answer is 12.5. We are done.", "12.5"),
        ("Answer: $$\n\\frac{1}{2}\n$$\n", "\\frac{1}{2}"),
        ("Answer: The largest $n$ is 34.", "34"),
        ("Answer: 12, 15, 20", "12, 15, 20"),
    ],
)
def test_labels(text: str, value: str) -> None:
    found = extract_answer(text)
    assert found is not None
    assert (found.value, found.how) == (value, "label")


@pytest.mark.parametrize(
    "text",
    [
        r"$\boxed{80}$. Rounding before the final answer is a common mistake.",
        r"So $\boxed{80}$. The final answer is positive, because both factors are.",
    ],
)
def test_a_sentence_about_the_final_answer_does_not_replace_a_box(text: str) -> None:
    found = extract_answer(text)
    assert found is not None
    assert (found.value, found.how) == ("80", "boxed")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("\\fbox{3}", "3"),
        ("$\\boxed 7$", "7"),
        ("\\boxed{1} and \\boxed{2}", "1, 2"),
        ("\\boxed{(1,2)}, \\quad \\boxed{(2,1)}.", "(1,2), (2,1)"),
        ("\\boxed{1} papers and \\boxed{2} bins", "2"),
        ("\\boxed{\\left\\{1, 2\\right\\}}", "\\left\\{1, 2\\right\\}"),
        ("\\boxed{$5$.}", "5"),
        ("\\boxedx{5}", None),
    ],
)
def test_boxes(text: str, value: str | None) -> None:
    assert last_boxed(text) == value


def test_the_last_line_is_a_guess_and_says_so() -> None:
    found = extract_answer("We add 3 and 4.\nThat makes\n7")
    assert found is not None
    assert (found.value, found.how) == ("7", "last_line")


def test_a_single_line_is_its_own_answer() -> None:
    found = extract_answer("12, 15, 20")
    assert found is not None
    assert (found.value, found.how) == ("12, 15, 20", "whole")
    assert extract_answer("  \n ") is None


@pytest.mark.parametrize(
    ("value", "letter"),
    [
        ("C", "C"),
        ("(c)", "C"),
        ("C) 42", "C"),
        ("C. because", "C"),
        ("\\text{(B)}", "B"),
        ("option D", "D"),
        ("\\textbf{(E)}\\ 12", "E"),
        ("A dog", None),
        ("42", None),
        ("(A) or (B)", None),
        ("the choice is (A)", "A"),
        ("CD", None),
    ],
)
def test_choice_letters(value: str, letter: str | None) -> None:
    assert choice_letter(value) == letter
