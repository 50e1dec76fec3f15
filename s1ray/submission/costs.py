"""What the nodes of a job have cost so far, where somebody says what they cost an hour."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from s1ray.config import Config, load_config

TYPE_LABELS = ("ray.io/node-group", "ray.io/instance-type", "ray.io/market-type")


class NodePrices(Config):
    """A price file: what a node of each type costs.

    currency: USD
    per_hour: {head: 0.40, cpu: 1.61, train_h100: 98.32}
    """

    currency: str = Field(default="USD", max_length=8)
    per_hour: dict[str, Annotated[float, Field(ge=0)]] = Field(min_length=1)
    """Node type, as cluster.yaml calls it (the label ray.io/node-group), or instance type -> price of an hour."""


def read_prices(path: Path) -> NodePrices:
    """A price file.

    Raises:
        ConfigError: it cannot be read, or is wrong.
    """
    return load_config(NodePrices, path)


def cost_line(prices: NodePrices, nodes: Sequence[Mapping[str, Any]], start: float, now: float) -> str:
    """What the cluster's nodes have cost between two times.

    All nodes count, also those that other jobs use: the bill does not tell jobs apart.

    Args:
        prices: by node type.
        nodes: of the state API.
        start: of the job, in seconds.
        now: or its end.
    """
    total, hours, unknown = 0.0, Counter[str](), Counter[str]()
    for node in nodes:
        began = (node.get("start_time_ms") or 0) / 1000
        ended = (node.get("end_time_ms") or 0) / 1000 or now
        seconds = min(ended, now) - max(began, start)
        if seconds <= 0:
            continue
        kind = node_type(node, prices)
        if kind is None:
            unknown[str((node.get("labels") or {}).get(TYPE_LABELS[0]) or "no type")] += 1
            continue
        hours[kind] += seconds / 3600  # type: ignore[assignment]
        total += prices.per_hour[kind] * seconds / 3600
    used = ", ".join(f"{count:,.2f} h of {kind}" for kind, count in sorted(hours.items()))
    left = f"; without a price: {', '.join(f'{count} x {kind}' for kind, count in unknown.items())}" if unknown else ""
    return f"cost so far: {total:,.2f} {prices.currency} ({used or 'no node with a price'}{left})"


def node_type(node: Mapping[str, Any], prices: NodePrices) -> str | None:
    """The name under which a node has a price. None: it has none."""
    labels = node.get("labels") or {}
    names = [str(labels[label]) for label in TYPE_LABELS if label in labels]
    if node.get("is_head_node"):
        names.append("head")
    return next((name for name in names if name in prices.per_hour), None)
