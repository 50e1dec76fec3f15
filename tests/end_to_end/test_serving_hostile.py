"""Requests made by schemathesis from the server's own description of its API: none makes it fail or hang.

`python -m benchmarks.serving hostile` sends thousands, and looks at memory.
"""

from __future__ import annotations

import httpx
import pytest

from s1ray.serving.local import ServedApp

pytestmark = [pytest.mark.end_to_end, pytest.mark.slow]


def test_no_request_from_the_apis_description_makes_the_server_fail(served: ServedApp) -> None:
    pytest.importorskip("schemathesis", reason="a development dependency")
    from benchmarks.serving.hostile import attack

    outcome = attack(served.url, "s1", 240, seed=1)
    assert outcome.failures == []
    assert outcome.sent > 200
    # Some were valid enough for the models to answer.
    assert outcome.statuses[200] > 20
    assert httpx.get(f"{served.url}/v1/models", timeout=60).status_code == 200
