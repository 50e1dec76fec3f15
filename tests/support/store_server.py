"""A real S3 server (moto) as a program of its own, which answers slowly or with 503 while a file says so.

    python -m tests.support.store_server ADDRESS PORT FILE

The file, which need not be there, is JSON: {"busy": share of requests that get 503, "seconds": delay of each}.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

BUCKET = "runs"
BUSY = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"


class Faulty:
    """A WSGI application in front of another."""

    def __init__(self, application: Any, faults: Path) -> None:
        self._application = application
        self._faults = faults
        self._numbers = itertools.count(1)

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Answer a request."""
        faults = json.loads(self._faults.read_text()) if self._faults.exists() else {}
        time.sleep(faults.get("seconds", 0))
        share, number = faults.get("busy", 0), next(self._numbers)
        # Spread evenly: of 10 requests at a share of 0.3 three.
        if int(number * share) > int((number - 1) * share):
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            start_response("503 Slow Down", [("Content-Type", "application/xml"), ("Content-Length", str(len(BUSY)))])
            return [BUSY]
        answer: Iterable[bytes] = self._application(environ, start_response)
        return answer


def main(address: str, port: str, faults: str) -> None:
    """Serve until killed."""
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
    from werkzeug.serving import run_simple

    application: Any = Faulty(DomainDispatcherApplication(create_backend_app), Path(faults))
    run_simple(address, int(port), application, threaded=True, request_handler=MotoRequestHandler)


if __name__ == "__main__":
    main(*sys.argv[1:])
