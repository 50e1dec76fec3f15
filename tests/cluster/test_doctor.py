"""`s1ray doctor` as a job: of hosts that are well, of a folder that each host has for itself, and of a lost link."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.support.ray_hosts import TEMPORARY, WORKERS, RayHosts

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]


def findings(cluster: RayHosts, storage: str) -> list[dict[str, Any]]:
    """What the doctor says on the head of all hosts."""
    done = cluster.job("-m", "s1ray.cli", "doctor", "--address", "auto", "--storage", storage, "--json")
    report = re.search(r"^\{\n.*?^\}", done.stdout, re.MULTILINE | re.DOTALL)
    assert report is not None, done.stdout + done.stderr
    found: list[dict[str, Any]] = json.loads(report[0])["findings"]
    return found


def of(found: list[dict[str, Any]], check: str) -> list[tuple[str, str]]:
    """Status and place of a check's lines."""
    return sorted((line["status"], line["where"]) for line in found if line["check"] == check)


def test_a_cluster_that_is_well(whole: RayHosts) -> None:
    for storage in (str(whole.shared), f"{whole.bucket}/doctor"):
        found = findings(whole, storage)
        assert of(found, "node") == []
        ((status, hosts),) = of(found, "storage")
        assert status == "ok"
        assert all(whole.hosts[name].address in hosts for name in ("head", *WORKERS))
        assert ("ok", "cluster") in of(found, "all-reduce")
        assert ("ok", "cluster") in of(found, "token")
        assert not [line for line in found if line["status"] == "failed" and line["check"] != "versions"], found


def test_a_folder_that_each_host_has_for_itself_is_no_storage(whole: RayHosts) -> None:
    found = of(findings(whole, f"{TEMPORARY}"), "storage")
    bad = {where for status, where in found if status == "failed"}
    assert bad == {whole.hosts[name].address for name in WORKERS}


def test_a_host_without_its_link_is_named(whole: RayHosts) -> None:
    lost = whole.hosts["two"]
    lost.unplug()
    found = findings(whole, str(whole.shared))
    assert ("failed", lost.address) in of(found, "node")
    ((status, hosts),) = of(found, "storage")
    assert (status, lost.address in hosts) == ("ok", False)
