"""Connecting to Ray, the same way from a laptop, a job and the demo.

Where the session is decided: a caller that has already initialised Ray keeps its session; otherwise `ray.init` follows
Ray's own rules (`RAY_ADDRESS`, which `ray job submit` sets; then a running local cluster; else a new local one). No
runtime environment is ever passed here: the job or the cluster brings it, and giving it twice is an error in Ray.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator


@contextlib.contextmanager
def connected(address: str | None = None, *, num_cpus: int | None = None) -> Iterator[None]:
    """Be connected to Ray inside the block; disconnect after it only if the block connected.

    Args:
        address: None for Ray's own rules, "local" for a new cluster of our own, or a cluster's address.
        num_cpus: CPUs of a new local cluster. None: all of the machine's.

    Raises:
        ConnectionError: no cluster answers at `address`.
    """
    import ray

    if ray.is_initialized():
        yield
        return
    try:
        ray.init(address=address, num_cpus=num_cpus, logging_level=logging.WARNING, log_to_driver=True)
    except (ConnectionError, RuntimeError) as error:
        where = address or "the address in RAY_ADDRESS"
        raise ConnectionError(
            f"cannot connect to Ray at {where}: {error}; is the cluster up (`ray status`)?"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()
