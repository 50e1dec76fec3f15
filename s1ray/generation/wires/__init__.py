"""Wire formats: how a request is written for a provider's API, and what its answer says. Pure functions, no I/O."""

from s1ray.generation.wires.anthropic_messages import AnthropicMessages
from s1ray.generation.wires.base import Wire
from s1ray.generation.wires.chat_completions import ChatCompletions
from s1ray.generation.wires.openai_responses import OpenAIResponses

__all__ = ["AnthropicMessages", "ChatCompletions", "OpenAIResponses", "Wire"]
