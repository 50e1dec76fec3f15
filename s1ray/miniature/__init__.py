"""s1ray at laptop size: a small world of questions, a procedural teacher, and a tiny base model that runs on two cores."""

from s1ray.config import BASE_MODEL_DIR, resolve_model

__all__ = ["BASE_MODEL_DIR", "resolve_model"]
