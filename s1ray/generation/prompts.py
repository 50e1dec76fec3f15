"""From a request to its prompt's token ids, for engines that have the model's tokenizer."""

from __future__ import annotations

from typing import Any

from jinja2 import TemplateError

from s1ray.generation.base import GenerationRequest


def prompt_ids_of(request: GenerationRequest, tokenizer: Any) -> list[int]:
    """The request's own ids, or its messages in the model's chat template.

    Raises:
        ValueError: the tokenizer has no chat template, or the template refuses the messages.
    """
    if request.prompt_ids is not None:
        return list(request.prompt_ids)
    messages = [dict(message) for message in request.messages or ()]
    try:
        rendered = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    except TemplateError as error:
        raise ValueError(f"the model's chat template refuses the messages: {error}") from error
    return tokenizer.encode(rendered, add_special_tokens=False)
