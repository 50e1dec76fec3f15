"""Traces: a teacher's reasoning on the curated questions, sampled, graded, and resumable (s1, section 2.1)."""
