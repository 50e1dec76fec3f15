"""The lessons of the miniature's reward model: which lines are called right."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from s1ray.miniature.reward import _judged, lessons, train


def test_lines_are_right_that_a_pass_without_slips_has_too() -> None:
    correct = ["1+1=2", "+3=5", "*2=10"]
    assert list(_judged(correct, correct)) == [True, True, True]
    assert list(_judged(["1+1=2", "+3=6", "*2=12"], correct)) == [True, False, False]
    assert list(_judged(["1+1=2", "+3=6", "Wait, +3=5", "*2=10"], correct)) == [True, False, True, True]
    assert list(_judged([*correct, "+1=11"], correct)) == [True, True, True, False]


def test_lessons_are_drawn_anew_with_questions_apart() -> None:
    learned = list(itertools.islice(lessons(0, held_out=False), 300))
    held_out = list(itertools.islice(lessons(0, held_out=True), 100))
    assert learned[:20] == list(itertools.islice(lessons(0, held_out=False), 20))
    assert not {each.question for each in learned} & {each.question for each in held_out}
    flat = [right for each in learned for right in each.right]
    assert all(len(each.lines) == len(each.right) for each in learned)
    assert 0.15 < flat.count(False) / len(flat) < 0.5


@pytest.mark.slow
def test_a_step_of_training_writes_a_checkpoint_that_the_server_loads(tmp_path: Path) -> None:
    from s1ray.serving.reward.config import RewardConfig
    from s1ray.serving.reward.model import Asked, RewardModel

    figures = train(tmp_path, steps=2)
    assert figures["lines"] > 1000
    model = RewardModel(RewardConfig(model=str(tmp_path), separator="\n"), "cpu")
    assert len(model.score([Asked("Compute 2 + 3.", ("2+3=5", "So 5"))])[0].scores) == 2
