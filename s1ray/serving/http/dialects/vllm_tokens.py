"""vLLM's routes from text to tokens and back."""

from __future__ import annotations

from s1ray.serving.http.dialects.base import Dialect, Route
from s1ray.serving.ray_llm import DetokenizeRequest, TokenizeCompletionRequest


class VLLMTokens(Dialect):
    """`/tokenize` and `/detokenize`."""

    routes = (
        Route("/tokenize", "tokenize", TokenizeCompletionRequest),
        Route("/detokenize", "detokenize", DetokenizeRequest),
    )
