"""`/metrics`: the server's metrics from every node of the cluster, on one page.

Ray exports the metrics of all processes of a node at a port of that node. In production, let Prometheus scrape the
nodes (Ray writes a service discovery file); this page is for a laptop, a quick check, or a gateway that can reach only
the server.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterable, Sequence

import httpx

PREFIXES = ("ray_s1ray_", "ray_vllm_", "ray_serve_")
"""Metrics of the server, the engines and Serve; Ray has about a hundred others."""

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"

TIMEOUT_S = 5.0

NODES_S = 10.0
"""Seconds for which the list of nodes is cached."""

_SUFFIX = re.compile(r"_(bucket|sum|count|created)$")


def merge(pages: Iterable[str], prefixes: Sequence[str] = PREFIXES) -> str:
    """Merge the pages of several nodes: the format requires each metric's samples together, under one header.

    Args:
        pages: in Prometheus' text format.
        prefixes: of the metrics to keep.
    """
    headers: dict[str, dict[str, str]] = {}
    samples: dict[str, list[str]] = {}
    for page in pages:
        for line in page.splitlines():
            if line.startswith("# "):
                _, kind, name, *_ = [*line.split(maxsplit=3), "", ""]
                if kind in ("HELP", "TYPE") and name.startswith(tuple(prefixes)):
                    headers.setdefault(name, {}).setdefault(kind, line)
            elif line.startswith(tuple(prefixes)):
                name = re.split(r"[{ ]", line, maxsplit=1)[0]
                samples.setdefault(name if name in headers else _SUFFIX.sub("", name), []).append(line)
    lines = []
    for name in sorted(samples):
        lines += [*sorted(headers.get(name, {}).values()), *samples[name]]
    return "\n".join(lines) + "\n" if lines else ""


class Nodes:
    """The cluster's nodes, as sources of metrics."""

    def __init__(self) -> None:
        self._urls: list[str] = []
        self._listed = -NODES_S

    async def page(self) -> str:
        """The metrics of all nodes; one that does not answer is left out."""
        if time.monotonic() - self._listed > NODES_S:
            self._urls, self._listed = await asyncio.to_thread(_urls), time.monotonic()
        # Nodes are reached directly, never through a proxy from the environment.
        async with httpx.AsyncClient(timeout=TIMEOUT_S, trust_env=False) as client:
            pages = await asyncio.gather(*(_page(client, url) for url in self._urls))
        return merge(pages)


def _urls() -> list[str]:
    import ray

    nodes = [node for node in ray.nodes() if node["Alive"] and node["MetricsExportPort"]]
    return [f"http://{_host(node['NodeManagerAddress'])}:{node['MetricsExportPort']}/metrics" for node in nodes]


def _host(address: str) -> str:
    return f"[{address}]" if ":" in address else address


async def _page(client: httpx.AsyncClient, url: str) -> str:
    try:
        response = await client.get(url)
        response.raise_for_status()
    except httpx.HTTPError:
        return ""
    return response.text
