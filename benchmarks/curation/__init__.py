"""Measures the curation stage: what its decontamination finds."""
