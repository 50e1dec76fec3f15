"""From a request to its prompt's token ids, for engines that have the model's tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from jinja2 import TemplateError

from s1ray.errors import InputError
from s1ray.generation.base import GenerationRequest


class ChatTokenizer(Protocol):
    """A tokenizer with a chat template; Hugging Face's and vLLM's are such."""

    def apply_chat_template(
        self, conversation: Sequence[dict[str, str]], *, add_generation_prompt: bool, tokenize: bool
    ) -> str:
        """Messages as the text of a prompt (for `tokenize=False`)."""

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        """Token ids of a text."""


def prompt_ids_of(request: GenerationRequest, tokenizer: ChatTokenizer) -> list[int]:
    """The request's own ids, or its messages in the model's chat template.

    Raises:
        InputError: the tokenizer has no chat template, the template refuses the messages, or the request asks for an
            effort or a strategy, which no engine of ours knows.
    """
    if request.strategy is not None:
        raise InputError("strategy: only our server carries strategies out; leave it out, or ask a served model")
    if request.reasoning_effort is not None:
        raise InputError(
            f"reasoning_effort: {request.reasoning_effort!r} means nothing to this engine; give a budget in tokens"
        )
    if request.prompt_ids is not None:
        return list(request.prompt_ids)
    messages = [dict(message) for message in request.messages or ()]
    try:
        rendered = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    except (TemplateError, ValueError) as error:
        raise InputError(f"the model's chat template refuses the messages: {error}") from error
    return tokenizer.encode(rendered, add_special_tokens=False)
