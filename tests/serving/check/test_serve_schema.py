"""Serve's schema, made of its source alone, is the one that Serve has; and a check imports nothing heavy for it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from s1ray.serving.check import serve_schema
from s1ray.serving.check.serve_file import _models

ROOT = Path(__file__).resolve().parents[3]
HEAVY = ("torch", "vllm", "transformers", "datasets", "ray.serve", "ray.data", "fastapi", "pandas", "pyarrow", "numpy")

VALUES: list[Any] = [None, True, -1, 0, 0.5, 1, 10**9, "", "x", "/x", "x.y:z", [], ["x"], {}, {"x": 1}, {"x": "y"}]
"""Among them, for every field, some that it takes and some that it does not."""

REQUIRED = {"applications": [], "import_path": "x.y:z", "gang_size": 2, "name": "x", "actor_class": "x.y:z"}
"""Values that fields without a default take; a model's own validators run only where all fields are valid."""


@pytest.mark.parametrize("file", ["serve_config.yaml", "deploy/serve/s1.1-32b.tp4.h100.yaml"])
def test_a_check_imports_nothing_heavy(file: str) -> None:
    code = (
        "import sys; from s1ray.cli import app\n"
        f"app(['serve', 'check', {file!r}], standalone_mode=False)\n"
        f"print([m for m in {HEAVY} if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.splitlines() == [f"{file}: valid", "[]"]


def reached(model: type[BaseModel], other: type[BaseModel]) -> Iterator[tuple[type[BaseModel], type[BaseModel]]]:
    """Both models, and those of their fields, in pairs."""
    yield model, other
    for name, info in model.model_fields.items():
        ours, theirs = _models(info.annotation), _models(other.model_fields[name].annotation)
        for pair in zip(ours, theirs, strict=True):
            yield from reached(*pair)


def said_of(model: type[BaseModel], data: dict[str, Any]) -> object:
    """What a model makes of data, or says against it."""
    try:
        # As text: a member of one class's enum is none of the other's.
        return repr(model.model_validate(data))
    except ValidationError as error:
        return [(problem["loc"], problem["msg"]) for problem in error.errors(include_url=False)]
    except (ImportError, AttributeError) as error:
        return str(error)


def test_it_says_what_serves_own_says_of_every_field() -> None:
    from ray.serve.schema import ServeDeploySchema

    schema = serve_schema.schema_from_source()
    assert schema is not ServeDeploySchema
    assert schema.model_json_schema() == ServeDeploySchema.model_json_schema()
    pairs = dict(reached(schema, ServeDeploySchema))
    assert {model.__name__ for model in pairs} >= {"ServeDeploySchema", "DeploymentSchema", "AutoscalingConfig"}
    answers = []
    for ours, theirs in pairs.items():
        required = {name: REQUIRED[name] for name, info in ours.model_fields.items() if info.is_required()}
        assert isinstance(said_of(ours, required), str), ours
        for field in ours.model_fields:
            for value in VALUES:
                data = required | {field: value}
                answer = said_of(ours, data)
                assert answer == said_of(theirs, data), (ours, data)
                answers.append(answer)
    assert {str, list} == {type(answer) for answer in answers}


def test_serve_is_imported_where_its_source_does_not_do(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray.serve.schema import ServeDeploySchema

    monkeypatch.setattr(serve_schema, "MODULE", "ray.serve.nowhere")
    with pytest.raises(FileNotFoundError, match=r"no source of ray\.serve\.nowhere"):
        serve_schema.schema_from_source()
    assert serve_schema.deploy_schema.__wrapped__() is ServeDeploySchema


def test_the_statements_of_a_definition_are_those_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "some_package"
    package.mkdir()
    (package / "__init__.py").write_text("raise AssertionError('executed')\n")
    (package / "limits.py").write_text(
        "import some_package.nothing\n"
        "try:\n    import nowhere\nexcept ImportError:\n    nowhere = 1\n"
        "LIMIT = nowhere\n"
        "if LIMIT:\n    LIMIT += 1\n"
        "OTHER = some_package.nothing\n"
    )
    (package / "schema.py").write_text(
        "from __future__ import annotations\n"
        "from some_package.limits import OTHER, LIMIT as MOST\n"
        "def odd(n: NoSuchType): return n != 0 and even(n - 1)\n"
        "def even(n): return n == 0 or odd(n - 1)\n"
        "class Wanted:\n    most = MOST\n    parity = [even(7), odd(7)]\n"
        "class Unwanted(OTHER): pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(serve_schema, "SERVE", "some_package")
    needed = serve_schema.needed_statements("some_package.schema", "Wanted")
    wanted = serve_schema.execute("some_package.schema", needed, {})["Wanted"]
    assert (wanted.most, wanted.parity) == (2, [False, True])
