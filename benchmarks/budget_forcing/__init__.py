"""What budget forcing costs: in the engine, call by call from outside, and as vLLM's own maximum."""
