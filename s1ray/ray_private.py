"""What s1ray takes from private modules of Ray's core, in one place; what it takes of Serve is in `serving/ray_llm.py`.

Ray may change these in any minor release, which is why the minor is pinned.
"""

from __future__ import annotations


def token_authentication() -> bool:
    """Whether this process uses a cluster's token."""
    from ray._private.authentication.authentication_utils import is_token_auth_enabled

    return bool(is_token_auth_enabled())


def token_headers() -> dict[str, str]:
    """Of an HTTP request to a cluster whose token this process has; nothing where it uses none."""
    from ray._private.authentication.http_token_authentication import get_auth_headers_if_auth_enabled

    return dict(get_auth_headers_if_auth_enabled({}))


def dashboard_address() -> str | None:
    """Where the connected cluster's dashboard listens, host:port; None: it has none."""
    from ray._private.worker import get_dashboard_url

    return get_dashboard_url() or None


def agent_record(key: str) -> bytes | None:
    """What a node's agent has left under a key in the connected cluster."""
    from ray.experimental.internal_kv import _internal_kv_get

    found: bytes | None = _internal_kv_get(key, namespace=b"dashboard")
    return found
