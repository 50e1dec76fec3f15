"""A valid Serve file, and a model's folder that tests may damage."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from s1ray.miniature import BASE_MODEL_DIR
from s1ray.serving.check import IMPORT_PATH

Data = dict[str, Any]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the packaged model."""
    return Path(shutil.copytree(BASE_MODEL_DIR, tmp_path / "model"))


@pytest.fixture
def valid(folder: Path) -> Data:
    """A Serve file's contents, of which every value is right."""
    model: Data = {
        "name": "m",
        "model": str(folder),
        "thinking_format": "s1",
        "device": "cpu",
        "max_model_len": 2048,
        "max_num_seqs": 8,
        "budgets": {"default": 256, "maximum": 1024},
        "autoscaling": {"min_replicas": 1, "max_replicas": 2},
        "engine_kwargs": {},
    }
    application = {"name": "app", "route_prefix": "/", "import_path": IMPORT_PATH, "args": {"models": [model]}}
    return {"http_options": {"host": "127.0.0.1", "port": 8000}, "applications": [application]}
