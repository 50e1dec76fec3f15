"""The wheel, installed alone in an environment of its own and used in an empty folder."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENT = {"PATH": "/usr/bin:/bin"}
"""No PYTHONPATH, which would bring the checkout back."""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def s1ray(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command of an environment that has the wheel, and this one's packages but for the checkout."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = folder / "lib" / version / "site-packages"
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", packages, wheel],
        check=True,
    )
    # A folder that a .pth file names is searched after the environment's own; .pth files in it, such as the one of the
    # checkout's editable installation, are not read.
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    command = folder / "bin" / "s1ray"
    command.write_text(f"#!{python}\nfrom s1ray.cli import app\n\napp()\n")
    command.chmod(0o755)
    return command


def test_the_wheel_holds_all_that_is_no_code(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for path in (ROOT / "s1ray").rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            assert str(path.relative_to(ROOT)) in names
    assert not {name.partition("/")[0] for name in names} & {"tests", "benchmarks", "docs"}


@pytest.mark.parametrize(
    ("command", "output"),
    [
        (["demo", "--dry-run"], "eval: "),
        (["curate", "--config", "miniature", "--dry-run"], "# selection: 1,000 questions by s1"),
        (["recipes"], "s1ray train --config s1-32b"),
        (["serve", "check", "serve.yaml"], "serve.yaml: valid"),
    ],
    ids=["demo", "curate", "recipes", "serve check"],
)
def test_an_installed_package_works_in_an_empty_folder(
    s1ray: Path, tmp_path: Path, command: list[str], output: str
) -> None:
    if "serve.yaml" in command:
        (tmp_path / "serve.yaml").write_text((ROOT / "serve_config.yaml").read_text())
    result = subprocess.run([s1ray, *command], cwd=tmp_path, capture_output=True, text=True, env=ENVIRONMENT)
    assert result.returncode == 0, result.stderr
    assert output in result.stdout


def test_the_checkout_is_not_what_is_tested(s1ray: Path, tmp_path: Path) -> None:
    code = "import s1ray; print(s1ray.__file__)"
    command = [str(s1ray.with_name("python")), "-c", code]
    found = subprocess.run(command, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, check=True)
    assert Path(found.stdout.strip()).is_relative_to(s1ray.parents[1])


def test_what_a_job_uploads_has_every_file_of_the_package() -> None:
    """`ray job submit --working-dir .` leaves out what .rayignore names, by git's rules."""
    from ray._private.thirdparty.pathspec import PathSpec

    ignored = PathSpec.from_lines("gitwildmatch", (ROOT / ".rayignore").read_text().splitlines())
    files = [path.relative_to(ROOT).as_posix() for room in ("s1ray", "jobs") for path in (ROOT / room).rglob("*.py")]
    assert len(files) > 100
    assert not [file for file in files if ignored.match_file(file)]
    assert ignored.match_file("benchmarks/curation/scale.json")
    assert ignored.match_file("tests/conftest.py")
