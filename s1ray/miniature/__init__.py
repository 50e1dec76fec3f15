"""s1ray at laptop size: a small world of questions, a procedural teacher, a tiny base model for two cores."""

from s1ray.config import BASE_MODEL_DIR, resolve_model

__all__ = ["BASE_MODEL_DIR", "resolve_model"]
