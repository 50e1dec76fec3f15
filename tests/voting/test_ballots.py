"""Votes with weights: who wins, and when nobody else can any more."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s1ray.voting.ballots import Ballot, Election, decided, elect, elected, kept, lead_probability, ranked_weights

ANSWERS = st.sampled_from(["1", "2", "3", None])
BALLOTS = st.lists(st.builds(Ballot, ANSWERS, st.integers(0, 8).map(float)), max_size=8)


def test_equal_answers_vote_together_and_the_heaviest_of_them_wins() -> None:
    ballots = [Ballot("7", 4.0), Ballot("1/2", 2.0), Ballot(None, 9.0), Ballot(r"\frac{1}{2}", 3.0), Ballot("0.5")]
    assert elect(ballots) == Election(winner=3, number=1, share=0.6)


def test_without_weights_it_is_the_majority_and_the_first_of_equals() -> None:
    assert elect([Ballot(each) for each in ["3", "7", "7", None, "3"]]) == Election(winner=0, number=0, share=0.5)
    assert elect([Ballot(each) for each in [None, "9", "2", "2"]]) == Election(winner=2, number=1, share=2 / 3)
    assert elect([Ballot(None), Ballot(None)]) is None
    assert elected([0, 1, 1]) == Election(winner=1, number=1, share=2 / 3)


def test_votes_of_no_weight_still_give_a_winner() -> None:
    assert elect([Ballot("1", 0.0), Ballot("1", 0.0), Ballot("2", 0.0)]) == Election(winner=0, number=0, share=0)


@pytest.mark.parametrize("weight", [-1.0, math.nan, math.inf])
def test_a_weight_is_a_number_that_is_not_negative(weight: float) -> None:
    with pytest.raises(ValueError, match="weight must be 0 or more"):
        Ballot("1", weight)


@settings(deadline=None)
@given(BALLOTS)
def test_the_winner_has_most_weight_behind_it(ballots: list[Ballot]) -> None:
    election = elect(ballots)
    if election is None:
        assert all(ballot.answer is None for ballot in ballots)
        return
    totals = {each: sum(b.weight for b in ballots if b.answer == each) for each in ("1", "2", "3")}
    won = ballots[election.winner]
    assert won.answer is not None
    assert totals[won.answer] == max(totals.values())
    assert won.weight == max(ballot.weight for ballot in ballots if ballot.answer == won.answer)


@settings(deadline=None)
@given(BALLOTS, st.lists(st.builds(Ballot, ANSWERS, st.integers(0, 5).map(float)), max_size=4), st.randoms())
def test_what_is_decided_stays_so(ballots: list[Ballot], missing: list[Ballot], luck: random.Random) -> None:
    if not decided(ballots, len(missing), 5.0):
        return
    before = elect(ballots)
    together = [*ballots]
    for ballot in missing:
        together.insert(luck.randint(0, len(together)), ballot)
    after = elect(together)
    if missing:
        assert before is not None
        assert after is not None
        assert together[after.winner].answer == ballots[before.winner].answer


def test_a_tie_or_an_unknown_weight_leaves_it_open() -> None:
    votes = [Ballot("1"), Ballot("1"), Ballot("2")]
    assert not decided(votes, 1, 1.0)
    assert decided([*votes, Ballot("1")], 1, 1.0)
    assert not decided([*votes, Ballot("1")], 1, math.inf)
    assert decided(votes, 0, math.inf)
    assert not decided([], 1, 1.0)


def test_the_beta_criterion_is_the_share_above_one_half() -> None:
    assert lead_probability([]) == 0.5
    # Beta(4, 1): 1 - (1/2)^4
    assert lead_probability([Ballot("5")] * 3) == pytest.approx(1 - 0.5**4)
    # Beta(3, 2): 3x^4 - 4x^3 + 1 at 1/2
    assert lead_probability([Ballot("5", 9.0), Ballot("4"), Ballot("5"), Ballot(None)]) == pytest.approx(11 / 16)


def test_ranks_weigh_instead_of_scores() -> None:
    assert ranked_weights([0.5, 9.0, 0.7], power=2) == [1, 9, 4]
    assert ranked_weights([2.0, 2.0, 1.0], power=1) == [3, 3, 1]
    assert ranked_weights([2.0, 1.0], power=0) == [1, 1]


def test_the_filter_keeps_the_highest_scores() -> None:
    assert kept([1.0, 5.0, 3.0, 4.0], 0.5) == [1, 3]
    assert kept([1.0, 1.0, 1.0], 0.1) == [0]
    assert kept([float(n) for n in range(10)], 0.3) == [7, 8, 9]
    assert kept([2.0, 1.0], 1.0) == [0, 1]
