"""Where thinking is probed, what a probe's text says, and when that ends the thinking."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from s1ray.grading import vote_classes
from s1ray.thinking.early_exit import (
    EVERY,
    WORDS,
    EarlyExit,
    ProbePoints,
    Trial,
    exits,
    mean_probability,
    trial_answer,
)
from tests.thinking.test_format import S1, ByteLevel

FORMAT = S1.resolve(ByteLevel("<|im_start|>", "<|im_end|>"))


def points(text: str, **settings: Any) -> list[int]:
    """The points found in a text, in tokens."""
    follower = ProbePoints(EarlyExit(**settings), FORMAT)
    return [at for token_id in FORMAT.encode(text) if (at := follower.observe(token_id)) is not None]


def before(text: str) -> int:
    return len(FORMAT.encode(text))


def test_a_probe_follows_what_stands_before_the_word() -> None:
    start = "So it is 4.\n"
    found = points(f"{start}Wait, or 5? Hmm", kind="confidence")
    assert found == [before(start), before(f"{start}Wait, or 5?")]


def test_only_the_words_asked_for() -> None:
    assert points("a\nWait, b\nSo c", words=("So",)) == [before("a\nWait, b\n")]


def test_every_so_many_tokens_and_at_words_but_no_place_twice() -> None:
    text = "ab\nWait" * 5
    every = before("ab\n")
    assert points(text, every=1) == list(range(1, before(text) + 1))
    both = points(text, words=("Wait",), every=every)
    assert both == sorted(set(both))
    assert every in both


def test_the_first_probe() -> None:
    assert points("a " * 50, every=5, min_tokens=12)[:2] == [15, 20]


@pytest.mark.parametrize(
    ("settings", "words", "every"),
    [
        ({}, WORDS, None),
        ({"every": 8}, (), 8),
        ({"kind": "stability"}, (), EVERY),
        ({"kind": "stability", "words": ("So",)}, ("So",), None),
        ({"kind": "stability", "words": ("So",), "every": 9}, ("So",), 9),
    ],
)
def test_each_kind_has_its_own_points_unless_some_are_given(
    settings: dict[str, Any], words: Sequence[str], every: int | None
) -> None:
    chosen = EarlyExit(**settings)
    assert (chosen.probed_words, chosen.probed_every) == (words, every)


@pytest.mark.parametrize(
    ("text", "boxed", "ended", "answer"),
    [
        ("42}", True, False, "42"),
        ("\\frac{1}{2}} and so on}", True, False, "\\frac{1}{2}"),
        ("42", True, True, None),
        ("}", True, False, None),
        (" 42", False, False, None),
        (" 42", False, True, "42"),
        (" 42\n", False, False, "42"),
        ("\n42\nor", False, False, "42"),
        ("\n", False, True, None),
    ],
)
def test_an_answer_ends_at_its_brace_or_its_line(text: str, boxed: bool, ended: bool, answer: str | None) -> None:
    assert trial_answer(text, boxed=boxed, ended=ended) == answer


@given(st.lists(st.floats(0.01, 1.0), min_size=1, max_size=20))
def test_confidence_is_the_geometric_mean(probabilities: list[float]) -> None:
    mean = mean_probability([math.log(p) for p in probabilities])
    assert mean == pytest.approx(math.prod(probabilities) ** (1 / len(probabilities)))


def test_no_tokens_have_no_confidence() -> None:
    assert mean_probability([]) is None


def trial(answer: str | None, confidence: float | None = 0.5) -> Trial:
    return Trial(at=1, answer=answer, confidence=confidence, prompt_tokens=1, tokens=1)


@pytest.mark.parametrize(
    ("settings", "trials", "ends"),
    [
        ({}, [trial("4", 0.96)], True),
        ({}, [trial("4", 0.95)], False),
        ({}, [trial("4", 0.99), trial("4", 0.5)], False),
        ({}, [trial(None, 0.99)], False),
        ({}, [trial("4", None)], False),
        ({"threshold": 0.4}, [trial("4", 0.5)], True),
        ({"kind": "stability"}, [trial("4")], False),
        ({"kind": "stability"}, [trial("4"), trial("4.0")], True),
        ({"kind": "stability"}, [trial("5"), trial("1/2"), trial("0.5")], True),
        ({"kind": "stability"}, [trial("4"), trial("5")], False),
        ({"kind": "stability"}, [trial(None), trial(None)], False),
        ({"kind": "stability", "stable": 3}, [trial("4"), trial("5"), trial("4"), trial("4")], False),
        ({"kind": "stability", "stable": 3}, [trial("5"), trial("4"), trial("4"), trial("4")], True),
    ],
)
def test_what_ends_the_thinking(settings: dict[str, Any], trials: list[Trial], ends: bool) -> None:
    assert exits(EarlyExit(**settings), trials, vote_classes) is ends


def test_a_trial_answer_begins_as_the_formats_answers_do() -> None:
    assert EarlyExit().prefix(S1) == "\nFinal Answer:"
    assert EarlyExit().prefix(S1.model_copy(update={"final_answer": ""})).endswith("\\boxed{")
    assert EarlyExit(answer_prefix="So: ").prefix(S1) == "So: "


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"stable": 3}, "stable: goes with kind"),
        ({"kind": "stability", "threshold": 0.9}, "threshold: goes with kind"),
        ({"kind": "entropy"}, "kind"),
        ({"threshold": 1.0}, "threshold"),
        ({"words": ()}, "words"),
        ({"words": ("",)}, "words"),
        ({"every": 0}, "every"),
        ({"answer_prefix": ""}, "answer_prefix"),
        ({"probe_tokens": 0}, "probe_tokens"),
        ({"patience": 1}, "patience"),
    ],
)
def test_nonsense_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        EarlyExit(**fields)
