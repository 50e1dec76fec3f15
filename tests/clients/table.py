"""The page that `run.py` writes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

HEAD = """# Clients

Clients from their registries, unmodified, against the served miniature: `make test-clients` installs the versions
below, runs every call of the table and writes this page; it fails if one of them does. `tests/clients/` has one short
file for each client, which is also an example of its use. Each call has to show

- an answer, and no marker of the thinking format in it;
- the thinking, where the client has a place for it;
- where the client shows them, numbers of output and thinking tokens that equal the server's own account, which a proxy
  between client and server reads.

| client | version | call | thinking shown | usage equal | note |
|---|---|---|---|---|---|
"""


def page(results: Sequence[dict[str, Any]]) -> str:
    """The page as Markdown; every result is one of a check without problems."""
    return HEAD + "".join(map(_row, results))


def _row(result: dict[str, Any]) -> str:
    name = f"`{result['client']}` ({result['language']})"
    shown = "no" if result["thinking"] is None else "yes"
    kinds = {"output": result["output_tokens"], "thinking": result["thinking_tokens"]}
    usage = ", ".join(name for name, value in kinds.items() if value is not None) or "not shown"
    return f"| {name} | {result['version']} | {result['call']} | {shown} | {usage} | {result['note']} |\n"
