"""The cloud's metadata service: which role a node has, and whether any program on it may take its credentials."""

from __future__ import annotations

import http.client
from collections.abc import Iterator, Sequence

from s1ray.doctor.base import Facts, Finding, Node, Request

CHECK = "cloud"
METADATA, SECONDS = "169.254.169.254", 1.0
AWS_ROLE = "/latest/meta-data/iam/security-credentials/"
GCP_ACCOUNT = "/computeMetadata/v1/instance/service-accounts/default/email"
TTL = {"X-aws-ec2-metadata-token-ttl-seconds": "60"}


def look(request: Request, node_id: str) -> Facts:
    """The provider, the role's name (never its credentials), and whether version 1 of AWS's service answers."""
    status, answer = _ask("GET", GCP_ACCOUNT, {"Metadata-Flavor": "Google"})
    if status == 200 and "@" in answer:
        return {"provider": "gcp", "role": answer}
    if status is None:
        return {"provider": None}
    found, token = _ask("PUT", "/latest/api/token", TTL)
    open_status, _ = _ask("GET", "/latest/meta-data/", {})
    if found != 200 and open_status != 200:
        return {"provider": None}
    headers = {"X-aws-ec2-metadata-token": token} if found == 200 else {}
    role_status, role = _ask("GET", AWS_ROLE, headers)
    return {
        "provider": "aws",
        "role": role.split()[0] if role_status == 200 and role.split() else None,
        "version_1": open_status == 200,
        "version_2": found == 200,
    }


def judge(nodes: Sequence[Node], request: Request) -> Iterator[Finding]:
    """Only nodes that reach such a service have a line."""
    for node in nodes:
        facts = node.of(CHECK)
        if facts is None or facts["provider"] is None:
            continue
        role = facts["role"]
        if facts["provider"] == "gcp":
            advice = "use a service account of the cluster's own with the rights it needs"
            default = (role or "").endswith("-compute@developer.gserviceaccount.com")
            seen = f"service account {role}{', the default one with wide rights' if default else ''}"
            yield Finding("warning" if default else "ok", CHECK, node.name, seen, advice if default else "")
        elif facts["version_1"]:
            seen = "the metadata service answers without a session (IMDSv1): a forged request gets the role's keys"
            advice = "set MetadataOptions: {HttpTokens: required, HttpPutResponseHopLimit: 1} (2 for containers)"
            yield Finding("warning", CHECK, node.name, seen, advice)
        elif role is None and request.storage is not None and request.storage.startswith("s3://"):
            advice = "give the node type an IamInstanceProfile that may read and write the bucket"
            yield Finding("warning", CHECK, node.name, "the node has no role, and the storage is on S3", advice)
        else:
            yield Finding("ok", CHECK, node.name, f"role {role or 'none'}, metadata by session only (IMDSv2)")


def _ask(method: str, path: str, headers: dict[str, str]) -> tuple[int | None, str]:
    connection = http.client.HTTPConnection(METADATA, timeout=SECONDS)
    try:
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        return response.status, response.read(4096).decode("utf-8", "replace").strip()
    except (OSError, http.client.HTTPException):
        return None, ""
    finally:
        connection.close()
