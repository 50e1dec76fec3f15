"""A real S3 server on loopback, in this process, and a bucket of its own for each test.

pytest_plugins or: from tests.support.object_store import bucket, s3_server  # noqa: F401
"""

from __future__ import annotations

import logging
import os
import uuid
from collections.abc import Iterator

import pytest

from s1ray.storage import StorePath, location


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The address of a server that runs until the session ends."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="session")
def s3_environment(s3_server: str) -> Iterator[None]:
    """What this process, and those that it starts, need to reach the server."""
    with pytest.MonkeyPatch.context() as patch:
        reach(patch, s3_server)
        yield


@pytest.fixture
def bucket(s3_environment: None) -> StorePath:
    """An empty bucket."""
    return new_bucket()


def reach(patch: pytest.MonkeyPatch, server: str) -> None:
    """Set the environment so that S3 is at `server`."""
    patch.setenv("AWS_ENDPOINT_URL", server)
    patch.setenv("AWS_ACCESS_KEY_ID", "test")
    patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    patch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def new_bucket() -> StorePath:
    """Make a bucket."""
    from pyarrow import fs

    name = f"bucket-{uuid.uuid4().hex[:12]}"
    fs.S3FileSystem(endpoint_override=os.environ["AWS_ENDPOINT_URL"], allow_bucket_creation=True).create_dir(name)
    made = location(f"s3://{name}")
    assert isinstance(made, StorePath)
    return made


def objects(folder: StorePath) -> dict[str, bytes]:
    """What lies in a folder and below: name -> content."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
