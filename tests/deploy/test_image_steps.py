"""The steps of the Dockerfile that install, run in a folder: no container engine is needed, and minutes are."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy.test_cluster import ROOT
from tests.deploy.test_images import IMAGES, versions


def find_links() -> dict[str, str]:
    """For uv, where this machine has torch's CPU build, if pip has been told so."""
    command = [sys.executable, "-m", "pip", "config", "get", ":env:.find-links"]
    told = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    return {"UV_FIND_LINKS": ",".join(told.split())} if told else {}


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_images_steps_give_an_environment_that_works_and_a_list_of_what_is_in_it(tmp_path: Path) -> None:
    source, prefix = tmp_path / "src", tmp_path / "opt" / "s1ray"
    dockerfile = (IMAGES / "Dockerfile").read_text(encoding="utf-8").replace("${TARGET}", "cpu")
    build = dockerfile[: dockerfile.index("FROM ${BASE}\n")]
    prefix.parent.mkdir()
    for verb, words in re.findall(r"^(COPY|RUN) (.*)$", build, flags=re.MULTILINE):
        if verb == "COPY":
            *files, to = words.split()
            for file in files:
                copy(ROOT / file, source / to)
            continue
        for step in words.split(" && "):
            command = step.replace('"', "").replace("/opt/", f"{prefix.parent}/").split()
            environment = dict(os.environ) | find_links()
            done = subprocess.run(command, cwd=source, env=environment, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stdout + done.stderr
    listed = json.loads((prefix / "sbom.cdx.json").read_text(encoding="utf-8"))
    assert listed["bomFormat"] == "CycloneDX"
    found = {re.sub("[_.]", "-", part["name"]).lower(): part["version"] for part in listed["components"]}
    locked = versions("image-cpu")
    assert {name: found.get(name) for name in locked} == locked
    assert "s1ray" in found
    # With nothing of this environment in sight.
    bare = {"PATH": f"{prefix}/bin:/usr/bin:/bin", "HOME": str(tmp_path)}
    for command in (["s1ray", "recipes"], ["ray", "--version"], ["python", "-c", "import vllm, deepspeed, boto3"]):
        subprocess.run(command, cwd=tmp_path, env=bare, check=True, capture_output=True)
    looked = subprocess.run(
        ["s1ray", "doctor", "--json"], cwd=tmp_path, env=bare, check=False, capture_output=True, text=True
    )
    findings = json.loads(looked.stdout)["findings"]
    (versions_line,) = (line for line in findings if line["check"] == "versions")
    assert versions_line["status"] == "ok", versions_line
    assert "packages as in the CPU lock" in versions_line["seen"]


def copy(source: Path, to: Path) -> None:
    """As COPY does: a folder's contents, or a file into a folder."""
    if source.is_dir():
        shutil.copytree(source, to, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        to.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, to / source.name)
