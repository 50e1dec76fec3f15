"""How sure a model was of a response, from the log-probabilities of its likeliest tokens at each place.

DeepConf (arXiv 2508.15260, sections 2 and 3): the confidence of a token, the mean of a window of them ("group"), and of
a response the mean, the lowest group, the lowest tenth of the groups, and the tail. Self-certainty (arXiv 2502.18581,
section 3). Inverse-entropy voting (arXiv 2511.02309, section 3). Log-probabilities are natural, confidences are in
nats, entropies in bits, as in their papers.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from s1ray.schemas import Confidence

WINDOW = 2048
"""Tokens of a group, and of the tail, in DeepConf."""
LOWEST_SHARE = 0.1
"""Of the groups, for `lowest_share_mean`: DeepConf's bottom 10 %."""
TOP_LOGPROBS = 20
"""Candidates a token that DeepConf takes, and the most that OpenAI's API gives."""
LEAST_ENTROPY = 1e-10
"""Bits below which a response's entropy is taken for this, so that its weight stays a number."""
LEAST_LOGPROB = -100.0
"""What a lower log-probability counts as: servers write -9999 or minus infinity for a token that cannot come."""


def token_confidence(logprobs: Sequence[float]) -> float:
    """DeepConf's confidence of one token: minus the mean log-probability of the k likeliest. The more of the
    probability lies on the first of them, the higher; never below log k.

    Args:
        logprobs: of the k likeliest tokens at this place, in any order; at least one.

    Raises:
        ValueError: there are none, or one is above 0 or no number.
    """
    return -sum(_checked(logprobs)) / len(logprobs)


def token_certainty(logprobs: Sequence[float]) -> float:
    """Self-certainty of one token: the divergence of its distribution from the uniform one, KL(U || p), over the tokens
    given, with their probabilities made to add up to 1. It is the paper's where all of the vocabulary is given.

    Args:
        logprobs: of the k likeliest tokens at this place; at least one.

    Raises:
        ValueError: as in `token_confidence`.
    """
    checked = _checked(logprobs)
    count = len(checked)
    return max(0.0, -sum(checked) / count + _log_total(checked) - math.log(count))


def token_entropy(logprobs: Sequence[float]) -> float:
    """Shannon entropy of one token in bits, over the tokens given, with their probabilities made to add up to 1.

    Args:
        logprobs: of the k likeliest tokens at this place; at least one.

    Raises:
        ValueError: as in `token_confidence`.
    """
    checked = _checked(logprobs)
    total = _log_total(checked)
    nats = sum(math.exp(each - total) * (total - each) for each in checked)
    return max(0.0, nats / math.log(2))


def inverse_entropy(entropy: float) -> float:
    """The weight of a response's vote in inverse-entropy voting.

    Args:
        entropy: mean of its tokens', in bits.
    """
    return 1.0 / max(entropy, LEAST_ENTROPY)


class RunningConfidence:
    """Confidence of a response while it is written; each token takes constant time, memory is the window's.

    Attributes:
        tokens: so far.
        lowest: the lowest group so far. None: no window is full yet.
    """

    def __init__(self, window: int = WINDOW) -> None:
        """Begin a response.

        Args:
            window: tokens of a group, and of the tail.
        """
        if window < 1:
            raise ValueError(f"window must be at least 1, got {window}")
        self.tokens = 0
        self.lowest: float | None = None
        self._window = window
        self._last: deque[float] = deque()
        self._sum = _Sum()
        self._last_sum = _Sum()

    def add(self, confidence: float) -> float | None:
        """Take in the next token.

        Args:
            confidence: its `token_confidence`.

        Returns:
            The confidence of the group that it completes: the mean of the window that ends with it. None: the window is
            not full yet.
        """
        self.tokens += 1
        self._sum.add(confidence)
        self._last.append(confidence)
        self._last_sum.add(confidence)
        if len(self._last) > self._window:
            self._last_sum.add(-self._last.popleft())
        if len(self._last) < self._window:
            return None
        group = self._last_sum.value / self._window
        self.lowest = group if self.lowest is None else min(self.lowest, group)
        return group

    @property
    def mean(self) -> float:
        """Of all tokens; 0 where there are none."""
        return self._sum.value / self.tokens if self.tokens else 0.0

    @property
    def tail(self) -> float:
        """The mean of the last window, or of all tokens where they are fewer; 0 where there are none."""
        return self._last_sum.value / len(self._last) if self._last else 0.0

    @property
    def lowest_group(self) -> float:
        """The lowest group; of a response shorter than a window its mean, which then is its only group."""
        return self.mean if self.lowest is None else self.lowest


def measure(
    places: Iterable[Sequence[float]], *, window: int = WINDOW, forced: Collection[int] = frozenset()
) -> Confidence:
    """A response's figures, as a row keeps them: a few numbers, whatever its length.

    Args:
        places: at each place of the response, the log-probabilities of the likeliest tokens.
        window: tokens of a group.
        forced: places whose token the model has not chosen; they are left out.

    Raises:
        ValueError: a place has none, or one that is no log-probability; or all are forced.
    """
    running, left_out = RunningConfidence(window), 0
    groups, certainties, entropies = list[float](), _Sum(), _Sum()
    for place, logprobs in enumerate(places):
        if place in forced:
            left_out += 1
            continue
        group = running.add(token_confidence(logprobs))
        if group is not None:
            groups.append(group)
        certainties.add(token_certainty(logprobs))
        entropies.add(token_entropy(logprobs))
    if not running.tokens:
        raise ValueError("no token that the model has chosen")
    return Confidence(
        tokens=running.tokens,
        forced_tokens=left_out,
        mean=running.mean,
        lowest_group=running.lowest_group,
        lowest_tenth=lowest_share_mean(groups or [running.mean]),
        tail=running.tail,
        self_certainty=certainties.value / running.tokens,
        entropy=max(0.0, entropies.value / running.tokens),
    )


def group_confidences(confidences: Sequence[float], window: int = WINDOW) -> list[float]:
    """The mean of each window of a response, which overlap: one ends with every token from the window's length on. A
    shorter response is one group.

    Args:
        confidences: of its tokens.
        window: tokens of a group.
    """
    running = RunningConfidence(window)
    groups = [group for each in confidences if (group := running.add(each)) is not None]
    return groups or ([running.mean] if confidences else [])


def lowest_share_mean(groups: Sequence[float], share: float = LOWEST_SHARE) -> float:
    """The mean of the lowest share of the groups, at least one of them (DeepConf's bottom-10 % group confidence).

    Args:
        groups: at least one.
        share: above 0, at most 1.

    Raises:
        ValueError: there is no group.
    """
    if not groups:
        raise ValueError("no group")
    # Ten groups' tenth is one group, though 10 * 0.1 may be a little more or less.
    lowest = sorted(groups)[: max(1, int(len(groups) * share + 1e-9))]
    return math.fsum(lowest) / len(lowest)


class _Sum:
    """A running sum that keeps what rounding loses (Neumaier), since a window's adds and takes away without end."""

    __slots__ = ("_lost", "_total")

    def __init__(self) -> None:
        self._total = self._lost = 0.0

    def add(self, value: float) -> None:
        total = self._total + value
        larger, smaller = (self._total, value) if abs(self._total) >= abs(value) else (value, self._total)
        self._lost += (larger - total) + smaller
        self._total = total

    @property
    def value(self) -> float:
        return self._total + self._lost


def _checked(logprobs: Sequence[Any]) -> list[float]:
    """Log-probabilities as numbers, none of them lower than `LEAST_LOGPROB`."""
    if not logprobs:
        raise ValueError("no log-probability")
    for each in logprobs:
        if isinstance(each, bool) or not isinstance(each, int | float) or not each <= 1e-3:
            raise ValueError(f"{each!r:.40} is no log-probability")
    return [max(LEAST_LOGPROB, min(0.0, each)) for each in logprobs]


def _log_total(logprobs: Sequence[float]) -> float:
    """The logarithm of the probabilities' sum."""
    most = max(logprobs)
    return most + math.log(sum(math.exp(each - most) for each in logprobs))
