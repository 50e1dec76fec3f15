"""Object stores of these tests are a real S3 server on loopback."""

from tests.support.object_store import bucket, s3_environment, s3_server

__all__ = ["bucket", "s3_environment", "s3_server"]
