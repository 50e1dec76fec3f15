r"""Conversations as text: the prompts that a chat template renders, and what the model is to write after them.

The text is s1's (from its `data/tokenization.py` and `train/sft.py`): the tokenizer's own chat template renders the
question as the user's turn and opens the assistant's; thinking and answer follow in the thinking format's delimiters,
and then the template's end of a turn. For Qwen2.5 and s1:

    ...<|im_start|>assistant\n | <|im_start|>think\n{thinking}\n<|im_start|>answer\n{attempt}<|im_end|>\n

In a conversation of several turns each turn of the assistant that thinks is rendered as it would be written when the
model is served: after the prompt that the template makes of the messages before it, where most templates leave out
earlier thinking. An earlier answer stands there as the model would have written it.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from s1ray.errors import InputError
from s1ray.thinking.format import ThinkingFormat
from s1ray.training.data.chat import ASSISTANT, ChatTemplate, Messages
from s1ray.training.data.conditional_control import Control, ask, count_down, split_steps, step_marker, upper_bound
from s1ray.training.data.conversations import Conversation, Message
from s1ray.training.data.rendered import end_of, end_of_call

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TrainOn = Literal["all", "last"]


class UnusableError(Exception):
    """A conversation that cannot be trained on.

    Attributes:
        reason: a short code.
        detail: what is wrong with it.
    """

    def __init__(self, reason: str, detail: str):
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True)
class ChatText:
    """A prompt, and what the model writes after it."""

    prompt: str
    """Everything before the assistant's message; not trained."""
    response: str
    """Thinking, answer and the end of the turn; trained."""


class ChatRenderer:
    """Renders conversations with a tokenizer's chat template and a thinking format.

    Attributes:
        template: the chat template.
        turn_end: what it puts after an assistant's message.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        thinking_format: ThinkingFormat,
        control: Control = "none",
        *,
        train_on: TrainOn = "all",
        system_prompt: str | None = None,
        date: datetime.date | None = None,
    ):
        """Judge the chat template.

        Args:
            control: whether and how to condition the examples on the length of their thinking
                (`conditional_control`).
            train_on: which of the assistant's turns.
            system_prompt: of conversations that have none. None: whatever the template writes then.
            date: that the template is told. None: today.

        Raises:
            InputError: the tokenizer has no usable chat template, or one that does not fit the format, or the format
                has no way to count steps.
            ValueError: the tokenizer cannot express the format.
        """
        self.tokenizer = tokenizer
        self.format = thinking_format
        self.template = ChatTemplate(tokenizer, date or datetime.date.today())
        thinking_format.resolve(tokenizer)
        self._markup = self._reserved_texts()
        if (found := _first(self._markup, system_prompt or "")) is not None:
            raise InputError(f"system_prompt contains {found!r}, which the model reads as structure, not as text")
        call = thinking_format.tool_call
        self._tool_call = call if call in tokenizer.get_added_vocab() else ""
        # Reserved tokens, such as Llama's, are only among the added ones.
        controls = [*tokenizer.all_special_tokens, *tokenizer.get_added_vocab()]
        self._frame = self.template.judge(thinking_format, controls, system_prompt)
        self.turn_end = self._frame.turn_end
        self._control = control
        self._train_on = train_on
        self._usual = [] if system_prompt is None else [Message("system", system_prompt)]
        self._step_marker = step_marker(thinking_format, controls) if control == "step" else ""
        _, message = self._controlled("question", Message("assistant", "answer", "thinking"))
        if not message.startswith(self._frame.opening):
            # The template itself opens the thinking (DeepSeek R1's does), so the model never writes that part.
            raise InputError(
                f"the chat template of {self.template.name!r} opens the thinking with {self._frame.opening!r}, but "
                f"thinking format {thinking_format.name!r} opens it with {message[: len(self._frame.opening)]!r}; "
                "choose the format that fits the model"
            )

    def render(self, question: str, thinking: str, attempt: str) -> ChatText:
        """Prompt and response of a question of one turn."""
        messages = (Message("user", question), Message("assistant", attempt, thinking))
        (text,) = self.turns(Conversation("", "", messages))
        return text

    def turns(self, conversation: Conversation) -> list[ChatText]:
        """The turns of the assistant that are trained, in order.

        Raises:
            UnusableError: it cannot be trained on.
        """
        self._check(conversation)
        usual = [] if conversation.messages[0].role == "system" else self._usual
        messages = [*usual, *conversation.messages]
        assistants = [index for index, message in enumerate(messages) if message.role == "assistant"]
        if self._control != "none" and (len(assistants) != 1 or messages[assistants[0] - 1].role != "user"):
            raise UnusableError("several_turns", "conditional_control takes rows of one question and one answer")
        wanted = assistants if self._train_on == "all" else assistants[-1:]
        wanted = [index for index in wanted if messages[index].trained]
        if not wanted:
            raise UnusableError("not_trained", "its weight is 0 or its label is false")
        trained = [index for index in wanted if messages[index].thinking.strip()]
        if not trained:
            raise UnusableError("no_thinking", "the thinking is empty")
        return [self._turn(conversation, messages, index) for index in trained]

    def token_ids(self, texts: list[str]) -> list[list[int]]:
        """Token ids of some texts, without anything added."""
        ids: list[list[int]] = self.tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else []
        return ids

    def _turn(self, conversation: Conversation, messages: list[Message], index: int) -> ChatText:
        answer = messages[index]
        if not answer.content.strip() and not answer.tool_calls:
            raise UnusableError("no_answer", "the attempt is empty")
        before = messages[:index]
        question, response = self._controlled(before[-1].content, answer)
        if self._control != "none":
            before[-1] = replace(before[-1], content=question)
        history = [self._as_data(message) for message in before]
        prompt = self._prompt(before, history, conversation.tools)
        end = self.turn_end
        if answer.tool_calls:
            calls = self._calls(history, answer, conversation.tools)
            # The line break before a call separates it from a text.
            end = (calls if answer.content.strip() else calls.lstrip("\n")) + end
        return ChatText(prompt, response.removeprefix(self._frame.opening) + end)

    def _prompt(self, before: list[Message], history: Messages, tools: Sequence[Any]) -> str:
        """The prompt, in which everything but earlier thinking is found whole."""
        prompt = self._rendered(history, opened=True, tools=tools)
        frame = self._frame
        if not prompt.endswith(frame.header + frame.opening):
            raise UnusableError("altered_by_template", f"the prompt ends with {prompt[-40:]!r}")
        if before[:-1] == self._usual and before[-1].role == "user" and not tools:
            texts = (before[-1].content, before[-1].content.strip())
            if prompt not in (frame.before + text + frame.between for text in texts):
                raise UnusableError("altered_by_template", "the user's text is not in the prompt as it is")
            return prompt
        self._check_tools(prompt, history, tools)
        position = 0
        for message, data in zip(before, history, strict=True):
            content = str(data["content"]).strip()
            place = prompt.find(content, position)
            end = place + len(content) if place >= 0 else None
            if message.role == "tool":
                # Some templates write results as JSON.
                end = end_of(content, prompt, position)
            if end is None:
                raise UnusableError(
                    "altered_by_template", f"the prompt lacks a text of the {message.role}, or alters it"
                )
            position = max(end, self._end_of_calls(message, prompt, position))
        return prompt

    def _check_tools(self, prompt: str, history: Messages, tools: Sequence[Any]) -> None:
        """A tool's name is found more often than without the tools."""
        if not tools:
            return
        try:
            without = self._rendered(history, opened=True, tools=())
        except UnusableError:
            without = ""  # It takes a tool's messages only together with tools.
        for tool in tools:
            name = str(tool.get("function", tool).get("name", ""))
            if prompt.count(name) <= without.count(name):
                raise UnusableError("altered_by_template", f"the prompt lacks the definition of the tool {name!r}")

    def _end_of_calls(self, message: Message, rendered: str, position: int) -> int:
        """Where the tool calls of a message end, which are found whole from the position on."""
        for call in message.tool_calls:
            end = end_of_call(call, rendered, position)
            if end is None:
                raise UnusableError(
                    "altered_by_template",
                    f"a call of the tool {call.get('function', call)['name']!r}, or one of its arguments, is lost",
                )
            position = end
        return position

    def _calls(self, history: Messages, answer: Message, tools: Sequence[Any]) -> str:
        """What the template writes of a message's tool calls, after its text."""
        called = {"role": "assistant", "content": ASSISTANT, "tool_calls": list(answer.tool_calls)}
        _, found, text = self._rendered([*history, called], opened=False, tools=tools).rpartition(ASSISTANT)
        if not found or not text.endswith(self._frame.raw_end):
            raise UnusableError("altered_by_template", "a message with a tool call loses its text, or does not end")
        calls = text.removesuffix(self._frame.raw_end)
        self._end_of_calls(answer, calls, 0)
        return calls

    def _rendered(self, messages: Messages, *, opened: bool, tools: Sequence[Any]) -> str:
        try:
            return self.template.render(messages, opened=opened, tools=tools)
        except InputError as error:
            raise UnusableError("refused_by_template", str(error)) from error

    def _as_data(self, message: Message) -> dict[str, Any]:
        data: dict[str, Any] = {"role": message.role, "content": message.content, **message.others}
        if message.role == "assistant":
            data["content"] = self.format.render_answer(message.content) if message.content.strip() else ""
            if message.thinking.strip():
                data["reasoning_content"] = message.thinking.strip()
            if message.tool_calls:
                data["tool_calls"] = list(message.tool_calls)
        return data

    def _controlled(self, question: str, answer: Message) -> tuple[str, str]:
        """The user's message and the assistant's."""
        thinking, fmt = answer.thinking, self.format
        message = fmt.render_assistant(thinking, answer.content)
        if not answer.content.strip():
            message = f"{fmt.start}\n{thinking.strip()}\n{fmt.end}{fmt.answer_separator}"
        if self._control == "token":
            (ids,) = self.token_ids([thinking.strip()])
            question = ask(question, upper_bound(len(ids)), "tokens")
        elif self._control == "step":
            steps = split_steps(thinking)
            limit = upper_bound(len(steps))
            question = ask(question, limit, "steps")
            # Everything after the thinking stays as it is, including the answer's prefix.
            closing = message.removeprefix(f"{fmt.start}\n{thinking.strip()}\n")
            message = count_down(steps, limit, self._step_marker) + closing
        return question, message

    def _check(self, conversation: Conversation) -> None:
        if conversation.cut:
            raise UnusableError("cut_by_teacher", "finish_reason is 'length'")
        roles = [message.role for message in conversation.messages]
        if "assistant" not in roles or "user" not in roles[: roles.index("assistant")]:
            raise UnusableError(
                "no_answer", f"no answer of the assistant to a user, only {', '.join(roles) or 'nothing'}"
            )
        for role, text in _texts(conversation):
            if (markup := _first(self._markup, text)) is not None:
                raise UnusableError("delimiter_in_text", f"{role} contains {markup!r}")
        for message in conversation.messages:
            if self._tool_call and self._tool_call in message.thinking:
                raise UnusableError("delimiter_in_text", f"the thinking contains {self._tool_call!r}, which ends it")

    def _reserved_texts(self) -> tuple[str, ...]:
        """Delimiters and control tokens, which the model would read as structure rather than as text."""
        # Llama's <|python_tag|> and the like are special in the added vocabulary alone, which not every class has.
        decoder = getattr(self.tokenizer, "added_tokens_decoder", {})
        added = {str(token) for token in decoder.values() if token.special}
        headers = set(self.format.headers) & set(self.tokenizer.get_added_vocab())
        delimiters = {self.format.start, self.format.end, *self.format.end_triggers}
        reserved = added | headers | delimiters | set(self.tokenizer.all_special_tokens)
        return tuple(sorted(reserved, key=lambda text: (-len(text), text)))


def _first(markup: Sequence[str], text: str) -> str | None:
    return next((found for found in markup if found in text), None)


def _texts(conversation: Conversation) -> Iterator[tuple[str, str]]:
    """Whose text -> text, of everything in a conversation."""
    for message in conversation.messages:
        yield f"a message of the {message.role}", message.content
        yield f"the thinking of the {message.role}", message.thinking
        for text in message.others.values():
            yield f"a name or id in a message of the {message.role}", str(text)
        if message.tool_calls:
            yield "a tool call", json.dumps(message.tool_calls, ensure_ascii=False)
    if conversation.tools:
        yield "a tool's definition", json.dumps(conversation.tools, ensure_ascii=False)
