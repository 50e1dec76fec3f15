"""An all-reduce between every two nodes: training hangs where this does not end."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from datetime import timedelta

from s1ray.doctor.base import Facts, Finding
from s1ray.interfaces import name_interfaces

CHECK = "all-reduce"
MEGABYTES = 8
"""Of the tensor that is summed."""


def pairs(count: int) -> list[tuple[int, int]]:
    """Two and two of some nodes, so that each is in a pair and the work of each stays the same."""
    found = [(first, first + 1) for first in range(0, count - 1, 2)]
    return [*found, (count - 1, 0)] if count % 2 and count > 1 else found


def all_reduce(rank: int, address: str, port: int, backend: str, seconds: float) -> Facts:
    """One side of an all-reduce of two processes.

    Args:
        rank: 0 listens at the address, 1 connects to it.
        address: of the node of rank 0.
        port: that is free there.
        backend: gloo or nccl.
        seconds: to wait for the other side.

    Returns:
        Whether the sum is right, and the bytes a second.
    """
    import torch
    import torch.distributed as dist

    # As training does.
    name_interfaces()
    device = "cuda" if backend == "nccl" else "cpu"
    limit = timedelta(seconds=seconds)
    where = f"tcp://[{address}]:{port}" if ":" in address else f"tcp://{address}:{port}"
    dist.init_process_group(backend, init_method=where, rank=rank, world_size=2, timeout=limit)
    try:
        ones = torch.full((MEGABYTES * 2**18,), float(rank + 1), device=device)
        dist.all_reduce(ones[:1])  # connects
        began = time.monotonic()
        dist.all_reduce(ones)
        right = bool((ones[1:] == 3.0).all())
        return {"right": right, "bytes_per_second": ones.numel() * 4 / max(time.monotonic() - began, 1e-9)}
    finally:
        dist.destroy_process_group()


def judge(backend: str, results: Sequence[tuple[str, str, Facts]]) -> Iterator[Finding]:
    """What the pairs brought home.

    Args:
        backend: of all of them.
        results: names of both nodes, and the facts of one side; `error` says why there are none, `busy` that no GPU was
            free in time.
    """
    fine = []
    for first, second, facts in results:
        where = f"{first}, {second}"
        if facts.get("busy"):
            seen = f"no GPU was free for {backend}, so it was not tried"
            yield Finding("warning", CHECK, where, seen, "ask again while no job holds the GPUs")
        elif problem := facts.get("error"):
            advice = (
                "let the nodes reach each other on all ports; with several interfaces set "
                f"{'NCCL' if backend == 'nccl' else 'GLOO'}_SOCKET_IFNAME to the one between them"
            )
            yield Finding("failed", CHECK, where, f"{backend}: {problem}", advice)
        elif not facts["right"]:
            yield Finding("failed", CHECK, where, f"{backend}: the sum is wrong", "replace one of the nodes")
        else:
            fine.append(facts["bytes_per_second"])
    if fine:
        slowest = min(fine) / 1e6
        seen = f"{backend}: {len(fine)} pair(s) of nodes sum {MEGABYTES} MiB, the slowest at {slowest:,.0f} MB/s"
        yield Finding("ok", CHECK, "cluster", seen)
