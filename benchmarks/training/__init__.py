"""Benchmarks of fine-tuning: speed against other trainers, memory against its estimate."""
