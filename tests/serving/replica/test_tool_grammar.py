"""White space in forced tool calls has an end."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("vllm", reason="needs vLLM")

from s1ray.serving.replica import tool_grammar

PARAMETERS = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
CALL = '<tool_call>\n{"name": "add", "arguments": {%s"n": 1}}\n</tool_call>'
CHOOSE = {"type": "function", "function": {"name": "add"}}


def accepts(tag: Any, text: str) -> bool:
    """Whether a model may write this text under a tag's grammar."""
    import xgrammar

    vocabulary = xgrammar.TokenizerInfo([chr(code) for code in range(128)])
    matcher = xgrammar.GrammarMatcher(xgrammar.GrammarCompiler(vocabulary).compile_structural_tag(tag))
    return bool(matcher.accept_string(text))


@pytest.fixture
def tags(monkeypatch: pytest.MonkeyPatch) -> Any:
    """vLLM's registry of tool grammars, as it was, put back afterwards."""
    from vllm.tool_parsers import structural_tag_registry as registry

    original = getattr(registry.get_model_structural_tag, "original", registry.get_model_structural_tag)
    monkeypatch.setattr(registry, "get_model_structural_tag", original)
    return registry


@pytest.mark.parametrize("model", ["hermes", "llama", "deepseek_v3_1"])
@pytest.mark.parametrize("choice", ["required", "named"])
def test_every_place_of_arguments_is_limited(tags: Any, model: str, choice: str) -> None:
    tool_grammar.install()
    tag = tags.get_model_structural_tag(model, [tool()], named() if choice == "named" else choice, reasoning=False)
    found = tag.model_dump_json()
    assert f'"max_whitespace_cnt":{tool_grammar.MAX_WHITE_SPACE}' in found
    assert '"max_whitespace_cnt":null' not in found


def test_a_call_may_be_indented_but_not_filled(tags: Any) -> None:
    few, many = (" " * (tool_grammar.MAX_WHITE_SPACE + extra) for extra in (0, 1))
    free = tags.get_model_structural_tag("hermes", [tool()], named(), reasoning=False)
    assert accepts(free, CALL % many), "vLLM limits it by itself now: delete our limit"
    tool_grammar.install()
    limited = tags.get_model_structural_tag("hermes", [tool()], named(), reasoning=False)
    assert accepts(limited, CALL % "")
    assert accepts(limited, CALL % few)
    assert not accepts(limited, CALL % many)


def test_installed_twice_it_is_installed_once(tags: Any) -> None:
    tool_grammar.install()
    once = tags.get_model_structural_tag
    tool_grammar.install()
    assert tags.get_model_structural_tag is once


def test_a_request_without_a_forced_tool_has_no_grammar(tags: Any) -> None:
    tool_grammar.install()
    assert tags.get_model_structural_tag("hermes", [tool()], "auto", reasoning=False) is None


def tool() -> Any:
    from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionToolsParam

    return ChatCompletionToolsParam(type="function", function={"name": "add", "parameters": PARAMETERS})


def named() -> Any:
    from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionNamedToolChoiceParam

    return ChatCompletionNamedToolChoiceParam.model_validate(CHOOSE)
