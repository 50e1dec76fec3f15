"""What the forcer wants of the next token's distribution, and the bans that may be part of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

CACHED = 256
"""Requests come with few different bans, and a model has few sets of ids."""


@dataclass(frozen=True, slots=True, eq=False)
class RowAction:
    """What happens to the next token's distribution. Objects are shared between steps: compare them with `is`."""

    force: int | None = None
    """This id, with certainty."""
    ban: tuple[int, ...] = ()
    """These ids are impossible."""
    exclude: tuple[int, ...] = ()
    """So are these, and before anything else: their probability goes to all others in proportion."""
    move_to: int | None = None
    """The probability of the ids in `ban` goes to this id. None: to all others in proportion."""
    wants_share: bool = False
    """`observe` wants to know how much of the sampled token's probability stood for a swallowed stop."""


class Bans:
    """Which ids the next token must not be so that none of some sequences comes to be.

    Args:
        sequences: what must not be written, in ids.

    Attributes:
        always: the ids that are sequences by themselves, banned at every token.
    """

    def __init__(self, sequences: Sequence[tuple[int, ...]]) -> None:
        self.always, self._begun, longest = _table(tuple(sequences))
        self._tail: deque[int] = deque(maxlen=max(0, longest - 1))
        self._actions: dict[tuple[int, tuple[int, ...]], RowAction] = {}
        self._now: tuple[int, ...] = ()

    @property
    def has_sequences(self) -> bool:
        """Whether some sequence is longer than one id."""
        return bool(self._begun)

    @property
    def completing(self) -> tuple[int, ...]:
        """The ids that complete one of the sequences, as the next token."""
        return tuple(sorted({*self.always, *self._now})) if self._now else self.always

    def clear(self) -> None:
        """What is written from here on does not continue what was written before."""
        self._tail.clear()
        self._now = ()

    def completed_by(self, token_id: int) -> bool:
        """Whether this token, now, completes one of the sequences."""
        return token_id in self._now or token_id in self.always

    def observe(self, token_id: int) -> None:
        """Take the token that was written."""
        self._tail.append(token_id)
        candidates = self._begun.get(token_id)
        self._now = ()
        if candidates:
            tail = tuple(self._tail)
            self._now = tuple(sorted({s[-1] for s in candidates if tail[len(tail) - len(s) + 1 :] == s[:-1]}))

    def added_to(self, action: RowAction | None) -> RowAction | None:
        """The action with the bans that hold for this one token; the always banned are in it already."""
        if not self._now:
            return action
        key = (id(action), self._now)
        if key not in self._actions:
            base = action or RowAction()
            added = set(self._now) - {base.move_to} - set(base.ban)
            self._actions[key] = replace(base, exclude=tuple(sorted(added.union(base.exclude))))
        return self._actions[key]


@lru_cache(CACHED)
def _table(
    sequences: tuple[tuple[int, ...], ...],
) -> tuple[tuple[int, ...], Mapping[int, Sequence[tuple[int, ...]]], int]:
    """The ids that are sequences by themselves, longer sequences by their last id but one, and the longest length."""
    begun: dict[int, list[tuple[int, ...]]] = {}
    for sequence in sequences:
        if len(sequence) > 1:
            begun.setdefault(sequence[-2], []).append(sequence)
    always = tuple(sorted(sequence[0] for sequence in sequences if len(sequence) == 1))
    return always, begun, max(map(len, sequences), default=0)


@lru_cache(CACHED)
def id_set(ids: tuple[int, ...]) -> frozenset[int]:
    """Ids as a set, the same one for all requests: the ids that end in a line break are thousands."""
    return frozenset(ids)
