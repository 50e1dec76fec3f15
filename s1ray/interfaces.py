"""The network interface that Ray uses on a node, named to gloo and NCCL.

Left to themselves, gloo listens on the address that the host's name resolves to, which on many hosts is 127.0.0.1 or
nothing, and NCCL on the first interface that it finds. Ray knows an address of each node that the others reach it by:
the interface with that address is named to both before a process group is made.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterable, Mapping

GLOO, NCCL = "GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"
"""Variables of the libraries; one that is set already stays."""


def name_interfaces() -> None:
    """Name the interface of this node's Ray address, in a worker of Ray's."""
    import psutil
    import ray.util

    address = ray.util.get_node_ip_address()
    found = {name: [entry.address for entry in entries] for name, entries in psutil.net_if_addrs().items()}
    if (name := interface_of(address, found)) is None:
        return
    os.environ.setdefault(GLOO, name)
    if not ipaddress.ip_address(address).is_loopback:
        # NCCL takes a name for the beginning of one, unless it is told otherwise.
        os.environ.setdefault(NCCL, f"={name}")


def interface_of(address: str, interfaces: Mapping[str, Iterable[str]]) -> str | None:
    """The name of the network interface that has an address; None where none has.

    Args:
        interfaces: their addresses, by name; link-local ones may end in %name.
    """
    return next(
        (name for name, addresses in interfaces.items() if address in {each.split("%")[0] for each in addresses}), None
    )
