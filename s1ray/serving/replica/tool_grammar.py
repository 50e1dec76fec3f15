"""An end to the white space in forced tool calls.

Where a request forces a call of a tool, vLLM makes the model write it by a grammar that allows any amount of white
space between the parts of its arguments, whatever `disable_any_whitespace` says. A small or quantised model fills its
whole response with it, and the call never ends. xgrammar takes a limit for each such place, but vLLM has no setting:
`install` sets it in every grammar of a tool call, in the process that asks the engine.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

MAX_WHITE_SPACE = 16
"""Characters of white space in one place: a line break and an indentation."""


def install() -> None:
    """Limit the white space of tool calls from now on; once more changes nothing."""
    from vllm.tool_parsers import structural_tag_registry

    original = structural_tag_registry.get_model_structural_tag
    if hasattr(original, "original"):
        return

    def limited(*args: Any, **kwargs: Any) -> Any:
        tag = original(*args, **kwargs)
        for part in _parts(tag):
            if getattr(part, "max_whitespace_cnt", 0) is None:
                part.max_whitespace_cnt = MAX_WHITE_SPACE  # type: ignore[attr-defined]  # the field was just read
        return tag

    limited.original = original  # type: ignore[attr-defined]
    structural_tag_registry.get_model_structural_tag = limited


def _parts(value: object) -> Iterator[BaseModel]:
    """All models within a model, itself included."""
    if isinstance(value, BaseModel):
        yield value
        for name in type(value).model_fields:
            yield from _parts(getattr(value, name))
    elif isinstance(value, list):
        for part in value:
            yield from _parts(part)
