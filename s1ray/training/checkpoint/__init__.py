"""Checkpoints that a run resumes from."""
