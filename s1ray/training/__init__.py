"""Supervised fine-tuning on traces: s1's recipe on Ray Train and DeepSpeed."""
