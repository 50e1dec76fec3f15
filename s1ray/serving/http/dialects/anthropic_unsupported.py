"""What Anthropic's API has and this server has not, found in a request before vLLM's protocol drops it.

Refused is what would change the answer or its prompt: tools that Anthropic runs or defines, content that is no text,
editing of the context, containers, fallbacks to other models. What says only how a request is billed, cached, placed or
recorded is accepted without effect: `metadata`, `service_tier`, `cache_control`, `betas`, `speed`, `inference_geo` and
the like.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Final

Path = tuple[str | int, ...]
"""Where a value is in a request."""

CLEAR_THINKING: Final = "clear_thinking_20251015"
"""The edit of the context that says which turns' thinking the prompt keeps."""

FIELDS = {
    "mcp_servers": "no MCP servers are called from here; call them yourself, and give their tools as `tools`",
    "container": "there are no containers here; leave it out",
    "compaction": "conversations are not compacted here; leave it out",
    "thread": "nothing is stored here; send the whole conversation as `messages`",
    "fallbacks": "there is no fallback to other models here; leave it out",
    "output_format": "give it as `output_config.format`",
}
"""Top-level fields that are refused, and why."""

BLOCKS = ("text", "thinking", "redacted_thinking", "tool_use", "tool_result", "tool_reference")
"""Types of content blocks in a message."""

RESULT_BLOCKS = ("text", "tool_reference")
"""Types of content blocks in a tool's result."""

TOOL_FIELDS = {
    "input_examples": "examples are not shown to the model; put them into the description",
    "allowed_callers": 'tools are called by the model itself only; leave it out, or give ["direct"]',
}
"""Fields of a tool that are refused, and why."""


def unsupported(data: Mapping[str, object]) -> Iterator[tuple[Path, str]]:
    """The parts of a request that this server has no counterpart for: where they are, and what to do.

    Values of a wrong type are left to the validation that follows.
    """
    for name, why in FIELDS.items():
        if data.get(name):
            yield (name,), f"is not supported: {why}"
    yield from _edits(data.get("context_management"))
    yield from _output(data.get("output_config"))
    for index, tool in _objects(data.get("tools")):
        yield from _tool(tool, ("tools", index))
    yield from _content(data.get("system"), ("system",), ("text",))
    for index, message in _objects(data.get("messages")):
        where = ("messages", index, "content")
        yield from _content(message.get("content"), where, BLOCKS)
        for inner, block in _objects(message.get("content")):
            if block.get("type") == "tool_result":
                yield from _content(block.get("content"), (*where, inner, "content"), RESULT_BLOCKS)


def keeps_thinking(context_management: object) -> bool:
    """Whether a request's context management asks to keep the thinking of earlier turns."""
    edits = context_management.get("edits") if isinstance(context_management, Mapping) else None
    return any(edit.get("type") == CLEAR_THINKING for _, edit in _objects(edits))


def _edits(management: object) -> Iterator[tuple[Path, str]]:
    if not isinstance(management, Mapping):
        return
    for index, edit in _objects(management.get("edits")):
        where = ("context_management", "edits", index)
        if edit.get("type") != CLEAR_THINKING:
            message = f"{_name(edit.get('type'))} is not supported: the context is not edited here; leave it out"
            yield (*where, "type"), message
        elif edit.get("keep") != "all":
            message = 'only "all" is supported; without this edit the chat template drops earlier thinking'
            yield (*where, "keep"), message


def _output(config: object) -> Iterator[tuple[Path, str]]:
    if isinstance(config, Mapping):
        for name, value in config.items():
            if name not in ("effort", "format") and value is not None:
                yield ("output_config", str(name)), "is not supported; the fields are effort and format"


def _tool(tool: Mapping[str, object], where: Path) -> Iterator[tuple[Path, str]]:
    if tool.get("type") not in (None, "custom"):
        message = f"{_name(tool['type'])} is not supported: only tools of the client's own, with an input_schema, are"
        yield (*where, "type"), message
    for name, why in TOOL_FIELDS.items():
        if tool.get(name) and tool[name] != ["direct"]:
            yield (*where, name), f"is not supported: {why}"


def _content(content: object, where: Path, types: Collection[str]) -> Iterator[tuple[Path, str]]:
    for index, block in _objects(content):
        if "type" in block and block["type"] not in types:
            message = f"{_name(block['type'])} is not supported: blocks here are {', '.join(types)}"
            yield (*where, index, "type"), message


def _objects(values: object) -> Iterator[tuple[int, Mapping[str, object]]]:
    for index, value in enumerate(values if isinstance(values, list) else ()):
        if isinstance(value, Mapping):
            yield index, value


def _name(kind: object) -> str:
    text = repr(kind)
    return text if len(text) <= 100 else f"{text[:100]}..."
