"""vLLM's own server, as a user without s1ray would start it."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx

from s1ray.miniature import BASE_MODEL_DIR

NAME = "miniature"
"""The model's."""


@contextlib.contextmanager
def stock_server(log: Path, *options: str) -> Iterator[str]:
    """The address, with its /v1, of a server of the miniature's base model, which stops at the end of the block.

    Args:
        log: gets what it says.
        options: further ones of `vllm serve`.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        *(sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(BASE_MODEL_DIR)),
        *("--served-model-name", NAME, "--host", "127.0.0.1", "--port", str(port)),
        *("--dtype", "float32", "--max-model-len", "512", "--kv-cache-memory-bytes", str(1 << 30)),
        *("--enforce-eager", "--no-enable-chunked-prefill", *options),
    ]
    with open(log, "wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + 300
        while True:
            assert process.poll() is None, log.read_text()[-3000:]
            assert time.monotonic() < deadline, "the server does not get ready"
            try:
                if httpx.get(f"http://127.0.0.1:{port}/health").is_success:
                    break
            except httpx.TransportError:
                pass
            time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait(60)
