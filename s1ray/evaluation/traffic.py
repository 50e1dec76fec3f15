"""Calls that a run makes to its endpoints: tokens, money, and what was lost to calls of no use.

The sums are kept beside the journals every few seconds, so that those of a killed run are those of all its starts, but
for the last seconds before each kill.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterable
from typing import Any

from s1ray.evaluation.config import Endpoint
from s1ray.generation.base import Call
from s1ray.manifests import RunError
from s1ray.storage import Location, write_json
from s1ray.teachers.bill import bill
from s1ray.teachers.tally import Tally

KEPT_S = 5.0
"""Seconds between two writes of the sums."""
CANCELLED = "CancelledError"
"""Reason of a call that the run itself ended: a strategy had its answer, or the run was stopped."""


class Traffic:
    """Calls to one endpoint; it is told of each (`s1ray.generation.base.OnCall`)."""

    def __init__(self, endpoint: Endpoint) -> None:
        """None yet."""
        self.endpoint = endpoint
        self.tally = Tally()
        self.seconds = 0.0
        """In calls, all together; many are in flight at once."""
        self.waited = 0.0
        """Between a call of no use and the next one for the same request, all together."""
        self.useless: dict[str, list[float]] = {}
        """What was wrong -> how often, and the seconds in those calls."""
        self.cancelled = 0

    def __call__(self, call: Call) -> None:
        """Count a call that is sent or has ended."""
        if call.outcome == "sent":
            self.tally.sent += 1
            self.waited += call.seconds
            return
        self.seconds += call.seconds
        usage = None if call.usage is None else dataclasses.asdict(call.usage)
        self.tally.end(call.outcome, usage, 0)
        if call.outcome == "answered":
            return
        if call.reason == CANCELLED:
            self.cancelled += 1
            return
        count = self.useless.setdefault((call.reason or "unknown").partition(":")[0], [0, 0.0])
        count[0] += 1
        count[1] += call.seconds

    @property
    def lost(self) -> float:
        """Seconds in calls of no use and after them, all together."""
        return self.waited + sum(seconds for _, seconds in self.useless.values())

    @property
    def spent(self) -> float | None:
        """Money, by the counts of tokens that came. None: no prices are given."""
        return None if self.endpoint.prices is None else self.endpoint.prices.spent(self.tally)

    def figures(self) -> dict[str, Any]:
        """What the manifest says of them."""
        useless = {what: {"calls": int(n), "seconds": round(s, 2)} for what, (n, s) in sorted(self.useless.items())}
        return bill(self.tally, self.endpoint.prices, None) | {
            "seconds": round(self.seconds, 2),
            "useless": useless,
            "cancelled": self.cancelled,
            "seconds_waited_after_useless": round(self.waited, 2),
            "seconds_lost": round(self.lost, 2),
        }

    def line(self) -> str | None:
        """What was lost, in words. None: nothing."""
        if not self.useless:
            return None
        kinds = ", ".join(f"{int(n):,} {what}" for what, (n, _) in sorted(self.useless.items()))
        about = self.lost / self.endpoint.concurrency
        return (
            f"{self.endpoint.base_url}: {self.tally.sent:,} calls, of no use, and asked again or given up: {kinds}; "
            f"that took {self.lost:,.0f} s of requests (about {about:,.0f} s of the run, with "
            f"{self.endpoint.concurrency} in flight)"
        )

    @property
    def key(self) -> str:
        """Tells it from the run's other endpoints, also where a later start finds it at another address."""
        return "all" if self.endpoint.models is None else ", ".join(self.endpoint.models)

    def state(self) -> dict[str, Any]:
        """Everything, for `take_over`."""
        names = ("seconds", "waited", "useless", "cancelled")
        facts = {"api": self.endpoint.api, "tally": dataclasses.asdict(self.tally)}
        return facts | {name: getattr(self, name) for name in names}

    def take_over(self, state: dict[str, Any]) -> None:
        """Begin with what an earlier start counted.

        Raises:
            RunError: it asked by another API, which takes other settings (no seed, say).
        """
        if (api := state.pop("api", self.endpoint.api)) != self.endpoint.api:
            raise RunError(
                f"endpoint.api: the run began with {api} at the endpoint of {self.key} models, and would go on with "
                f"{self.endpoint.api}; set it back, choose another `output`, or pass --force to start again"
            )
        self.tally = Tally(**state.pop("tally"))
        for name, value in state.items():
            setattr(self, name, value)


class Record:
    """Keeps the sums of all endpoints in a file.

    Args:
        path: the file; what it holds is taken over, as far as it is of the same endpoints.
        traffics: of the endpoints.

    Raises:
        RunError: the file is damaged, or an endpoint's API is not that of an earlier start.
    """

    def __init__(self, path: Location, traffics: Iterable[Traffic]) -> None:
        self._path, self._written = path, time.monotonic()
        self.traffics = list(traffics)
        if not path.exists():
            return
        try:
            kept = json.loads(path.read_text())
            for traffic in self.traffics:
                if (state := kept.get(traffic.key)) is not None:
                    traffic.take_over(state)
        except OSError as error:
            raise RunError(f"{path}: cannot be read ({error}); run again when it can be") from None
        except (ValueError, TypeError, LookupError, AttributeError):
            raise RunError(
                f"{path}: is damaged; delete it (what the calls of earlier starts took is then not counted), and run "
                "the same command again"
            ) from None

    def keep(self, *, now: bool = False) -> None:
        """Write the sums, if some time has gone by.

        Args:
            now: in any case.
        """
        if now or time.monotonic() - self._written > KEPT_S:
            self._written = time.monotonic()
            write_json(self._path, {each.key: each.state() for each in self.traffics})

    @property
    def spent(self) -> dict[str, float]:
        """Currency -> money so far, where prices are given."""
        money: dict[str, float] = {}
        for each in self.traffics:
            if each.spent is not None and each.endpoint.prices is not None:
                currency = each.endpoint.prices.currency
                money[currency] = money.get(currency, 0.0) + each.spent
        return money
