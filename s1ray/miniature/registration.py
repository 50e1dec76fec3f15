"""What the miniature adds to s1ray's registries: a source, a benchmark and a teacher (`pyproject.toml` names them)."""
