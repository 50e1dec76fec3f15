"""When a vote over the responses to one request is decided, and for whom: pure, and slow where answers need algebra."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from s1ray.grading import extract_answer
from s1ray.serving.protocol.strategies import Votes
from s1ray.voting.ballots import Ballot, decided, elect, lead_probability
from s1ray.voting.confidence import RunningConfidence, inverse_entropy

Decision = Literal["all", "majority", "first", "lead_probability"]
"""all: every response has been counted. majority: what is missing cannot change the answer. first: so many as the
request wanted have ended. lead_probability: the leading answer is likely enough the most frequent."""


@dataclass(frozen=True)
class Outcome:
    """A decided vote."""

    winner: int
    """Place among the ballots."""
    share: float
    """Of all weight, behind the winner's answer."""
    by: Decision


def read_answer(text: str) -> str | None:
    """The answer that a response votes for; a guess from its last line is none."""
    found = extract_answer(text)
    return None if found is None or found.how == "last_line" else found.value


def weight_of(strategy: Votes, running: RunningConfidence, *, certainty: float, entropy: float) -> float:
    """What a response's vote weighs.

    Args:
        strategy: says what counts.
        running: DeepConf's confidences of the response.
        certainty: mean self-certainty of its tokens.
        entropy: mean entropy of its tokens, in bits.
    """
    weights = {
        "none": 1.0,
        "confidence": running.mean,
        "lowest_group": running.lowest_group,
        "tail": running.tail,
        "self_certainty": certainty,
        "inverse_entropy": inverse_entropy(entropy),
    }
    return weights[strategy.weights]


def outcome(strategy: Votes, ballots: Sequence[Ballot], missing: int) -> Outcome | None:
    """Who wins, if that is decided.

    Where votes have weights, nobody knows what a missing one will weigh: it is taken for as heavy as the heaviest.

    Args:
        strategy: what the request asks for.
        ballots: of the responses that have ended, in the order that decides ties; at least one.
        missing: responses that may still vote.
    """
    by = _decision(strategy, ballots, missing)
    if by is None:
        return None
    election = elect(ballots)
    return Outcome(0, 0.0, by) if election is None else Outcome(election.winner, election.share, by)


def _decision(strategy: Votes, ballots: Sequence[Ballot], missing: int) -> Decision | None:
    last: Decision = "all"
    if strategy.first is not None:
        missing, last = min(missing, max(0, strategy.first - len(ballots))), "first"
    if not missing:
        return last
    heaviest = max(ballot.weight for ballot in ballots)
    if strategy.stop_early and decided(ballots, missing, heaviest):
        return "majority"
    likely = strategy.lead_probability
    return "lead_probability" if likely is not None and lead_probability(ballots) >= likely else None
