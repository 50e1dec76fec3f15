"""Which of several answers wins a vote with weights, and whether those that are missing could still change that.

    ballots = [Ballot("1/2", 3.1), Ballot("0.5", 2.0), Ballot("7", 4.0), Ballot(None)]
    elect(ballots)  # Election(winner=0, number=0, share=0.56...)

Equal values are one answer, however they are written (`s1ray.grading.vote_classes`); that comparison can take seconds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from s1ray.grading import vote_classes


@dataclass(frozen=True)
class Ballot:
    """One response's vote."""

    answer: str | None
    """As it was read off the response. None: it has no vote."""
    weight: float = 1.0
    """0 or more."""

    def __post_init__(self) -> None:
        if not (self.weight >= 0 and math.isfinite(self.weight)):
            raise ValueError(f"a ballot's weight must be 0 or more and finite, got {self.weight}")


@dataclass(frozen=True)
class Election:
    """Who has won."""

    winner: int
    """Place of the heaviest ballot for the answer that won; of equally heavy ones the first."""
    number: int
    """Of that answer: the different answers are counted from 0 in the order in which they are seen."""
    share: float
    """Of all votes' weight; 0 where they all weigh nothing."""


def elect(ballots: Sequence[Ballot]) -> Election | None:
    """The answer with the most weight behind it; ties go to the answer that comes first, as in s1's harness.

    Args:
        ballots: in the order that decides ties.

    Returns:
        None where nobody has a vote.
    """
    return elected(_classes(ballots), [ballot.weight for ballot in ballots])


def elected(classes: Sequence[int | None], weights: Sequence[float] | None = None) -> Election | None:
    """The same, where it is known which answers are the same.

    Args:
        classes: each ballot's answer as a number (`s1ray.grading.vote_classes`). None has no vote.
        weights: of the ballots. None: all are 1.

    Returns:
        None where nobody has a vote.
    """
    weights = [1.0] * len(classes) if weights is None else weights
    totals = _totals(classes, weights)
    if not totals:
        return None
    number = max(totals, key=totals.__getitem__)  # the first seen of equals
    places = [place for place, each in enumerate(classes) if each == number]
    winner = max(places, key=weights.__getitem__)
    everything = math.fsum(totals.values())
    return Election(winner, number, totals[number] / everything if everything else 0.0)


def decided(ballots: Sequence[Ballot], remaining: int, heaviest: float) -> bool:
    """Whether the answer that wins now wins whatever the missing ballots say.

    It has to lead by more than all of them weigh, since a tie may go to the answer of a missing ballot.

    Args:
        ballots: those that are there.
        remaining: how many are missing.
        heaviest: the most that one of those can weigh; infinity where that is not known.
    """
    if remaining < 0:
        raise ValueError(f"remaining must be 0 or more, got {remaining}")
    if remaining == 0:
        return True
    totals = _totals(_classes(ballots), [ballot.weight for ballot in ballots])
    first, second = sorted([*totals.values(), 0.0, 0.0], reverse=True)[:2]
    return first - second > remaining * heaviest


def lead_probability(ballots: Sequence[Ballot]) -> float:
    """How likely the answer that leads is the more frequent one of the model's two most frequent answers, given so many
    votes for each (Adaptive-Consistency's Beta criterion, arXiv 2305.11860, section 3): the share of Beta(first + 1,
    second + 1) that lies above one half. Weights do not count. 0.5 where nobody has a vote.
    """
    totals = _totals(_classes(ballots), [1.0] * len(ballots))
    first, second = (int(each) for each in sorted([*totals.values(), 0.0, 0.0], reverse=True)[:2])
    # With whole numbers this is a sum of binomial coefficients.
    tosses = first + second + 1
    return sum(math.comb(tosses, heads) for heads in range(first + 1)) / (1 << tosses)


def ranked_weights(scores: Sequence[float], power: float) -> list[float]:
    """Weights by rank, of which only the order of the scores counts: (n - rank + 1)^power, rank 1 for the highest
    (Borda voting with self-certainty, arXiv 2502.18581, section 4). Equal scores share the better rank.

    Args:
        scores: of n responses; higher is better.
        power: 0: all weigh the same. The paper takes 0.3 to 1.2 for 8 to 64 responses.
    """
    return [float(len(scores) - sum(other > score for other in scores)) ** power for score in scores]


def kept(scores: Sequence[float], share: float) -> list[int]:
    """Places of the responses with the highest scores, in order: DeepConf's filter before the vote.

    Args:
        scores: higher is better; of equal ones the first are kept.
        share: of the responses, above 0 and at most 1; rounded up, so at least one is kept.
    """
    count = math.ceil(len(scores) * share - 1e-9)
    best = sorted(range(len(scores)), key=lambda place: (-scores[place], place))
    return sorted(best[:count])


def _classes(ballots: Sequence[Ballot]) -> list[int | None]:
    return vote_classes([ballot.answer for ballot in ballots])


def _totals(classes: Sequence[int | None], weights: Sequence[float]) -> dict[int, float]:
    """Weight behind each answer, in the order in which they are seen."""
    behind: dict[int, list[float]] = {}
    for number, weight in zip(classes, weights, strict=True):
        if number is not None:
            behind.setdefault(number, []).append(weight)
    # fsum: the sum must not depend on the ballots' order.
    return {number: math.fsum(each) for number, each in behind.items()}
