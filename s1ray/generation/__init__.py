"""One small interface for getting completions, and its engines: vLLM in process, HTTP, and a scripted fake."""

from s1ray.generation.base import GenerationError, GenerationRequest, Generator, complete_all, request_seed

__all__ = ["GenerationError", "GenerationRequest", "Generator", "complete_all", "request_seed"]
