"""Budget forcing inside vLLM."""
