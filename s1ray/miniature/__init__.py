"""s1ray at laptop size: a small world of questions, a procedural teacher, and a tiny base model for two cores.

It registers itself with entry points, like any other package (`pyproject.toml`).
"""

from pathlib import Path

BASE_MODEL_DIR = Path(__file__).parent / "base_model"
"""The packaged base model, "miniature-base" in configs: a Hugging Face folder."""
