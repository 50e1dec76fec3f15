"""What s1ray takes from private modules of Ray's core, in one place; what it takes of Serve is in `serving/ray_llm.py`.

Ray may change these in any minor release, which is why the minor is pinned.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from s1ray.errors import UnreachableError

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient


def token_authentication() -> bool:
    """Whether this process uses a cluster's token."""
    from ray._private.authentication.authentication_utils import is_token_auth_enabled

    return bool(is_token_auth_enabled())


def token_headers() -> dict[str, str]:
    """Of an HTTP request to a cluster whose token this process has; nothing where it uses none."""
    from ray._private.authentication.http_token_authentication import get_auth_headers_if_auth_enabled

    return dict(get_auth_headers_if_auth_enabled({}))


def job_client(address: str, seconds: float) -> JobSubmissionClient:
    """Ray's client for jobs, with an end to each wait, which Ray's own has not.

    A head that does not answer, or answers with 5xx, is an `UnreachableError` in each call, the first one included.

    Args:
        address: of the dashboard.
        seconds: that a connection may take, or be silent.

    Raises:
        UnreachableError: the head does not answer.
        AuthenticationError: Ray's own: it does not take the token.
        RuntimeError: it is no head, or of another version.
    """
    from ray.job_submission import JobSubmissionClient

    class Client(JobSubmissionClient):  # type: ignore[misc]
        def _do_request(self, method: str, endpoint: str, **options: Any) -> Any:
            try:
                response = super()._do_request(method, endpoint, timeout=seconds, **options)
            except OSError as error:
                raise UnreachableError(f"{address}: no answer ({type(error).__name__}: {error})") from None
            # What the head's agent refuses with 400, the head passes on with 500.
            text, known = response.text, "already exists" in response.text
            if response.status_code >= 500 and (known or "Request failed with status code 400" not in text):
                raise UnreachableError(f"{address}{endpoint}: status {response.status_code}: {text.strip()[-200:]}")
            return response

    return Client(address)


def labels_match(labels: Mapping[str, str], selector: Mapping[str, str]) -> bool:
    """Whether a node's labels are what a label selector asks for, as Ray's scheduler decides it."""
    from ray._raylet import node_labels_match_selector

    return bool(node_labels_match_selector(dict(labels), dict(selector)))


def dashboard_address() -> str | None:
    """Where the connected cluster's dashboard listens, host:port; None: it has none."""
    from ray._private.worker import get_dashboard_url

    return get_dashboard_url() or None


def agent_record(key: str) -> bytes | None:
    """What a node's agent has left under a key in the connected cluster."""
    from ray.experimental.internal_kv import _internal_kv_get

    found: bytes | None = _internal_kv_get(key, namespace=b"dashboard")
    return found
