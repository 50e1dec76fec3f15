"""`python -m s1ray.cli`."""

from s1ray.cli import app

app()
