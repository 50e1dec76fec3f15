"""Several turns on the page at `/playground`: history, editing, the context's meter, how responses ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.browser import until
from tests.support.playground_server import ANSWER, THOUGHTS, StandIn

if TYPE_CHECKING:
    from playwright.sync_api import Page

ANSWERS = ".turn > .answer"
CONTEXT = 2048
"""Of the scripted server's first model, in tokens."""


def ask(page: Page, question: str) -> None:
    page.fill("#question", question)
    page.click("#submit")
    page.wait_for_selector("#submit:enabled")


def setting(page: Page, name: str, value: str) -> None:
    page.evaluate("document.getElementById('settings').open = true")
    page.fill(name, value)


def texts(page: Page, selector: str) -> list[str]:
    return page.locator(f"{selector}:visible").all_inner_texts()


def meter(page: Page) -> dict[str, int | None]:
    """Tokens of each part of the context, as the first pane shows them."""
    shown = page.locator(".pane").first.locator(".legend div").evaluate_all(CELLS)
    return {name: None if tokens == "–" else int(tokens.replace(",", "")) for name, tokens in shown}


CELLS = "rows => rows.map((row) => ['dt', 'dd'].map((cell) => row.querySelector(cell).textContent))"


def said(text: str, answer: str = ANSWER) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}, {"role": "assistant", "content": answer}]


def test_earlier_answers_are_sent_and_earlier_thinking_only_on_demand(page: Page, server: StandIn) -> None:
    ask(page, "One?")
    assert page.input_value("#question") == ""
    ask(page, "Two?")
    assert server.requests[1]["messages"] == [*said("One?"), {"role": "user", "content": "Two?"}]
    setting(page, "#system", "Be short.")
    page.locator(".switch:has(#with-thinking)").click()
    ask(page, "Three?")
    messages = server.requests[2]["messages"]
    assert messages[0] == {"role": "system", "content": "Be short."}
    assert [message.get("reasoning") for message in messages] == [None, None, THOUGHTS[0], None, THOUGHTS[0], None]
    assert texts(page, ".question") == ["One?", "Two?", "Three?"]
    assert texts(page, ANSWERS) == [ANSWER] * 3
    # Only the last turn's thinking is unfolded.
    assert len(texts(page, ".turn .thinking")) == 1


def test_an_edited_question_replaces_what_follows(page: Page, server: StandIn) -> None:
    for question in ("One?", "Two?", "Three?"):
        ask(page, question)
    page.locator(".edit").nth(1).click()
    assert page.input_value("#question") == "Two?"
    assert "Editing question 2" in page.inner_text("#editing")
    page.click("#cancel")
    assert page.input_value("#question") == ""
    assert len(texts(page, ".question")) == 3
    page.locator(".edit").nth(1).click()
    ask(page, "Deux?")
    assert texts(page, ".question") == ["One?", "Deux?"]
    assert server.requests[-1]["messages"] == [*said("One?"), {"role": "user", "content": "Deux?"}]
    assert not page.locator("#editing").is_visible()


def test_the_last_answer_can_be_made_again_with_other_settings(page: Page, server: StandIn) -> None:
    ask(page, "One?")
    ask(page, "Two?")
    assert page.locator(".again:visible").count() == 1
    page.locator(".budget-number").first.fill("7")
    page.locator(".again:visible").click()
    page.wait_for_selector("#submit:enabled")
    assert server.requests[2] == server.requests[1] | {"thinking": {"max_tokens": 7}}
    assert texts(page, ".question") == ["One?", "Two?"]
    assert texts(page, ".ended") == ["by itself", "cut at the budget"]


def test_a_new_conversation_begins_empty(page: Page, server: StandIn) -> None:
    ask(page, "One?")
    page.click("#clear")
    assert page.locator(".turn").count() == 0
    assert page.locator("#clear").is_disabled()
    assert page.evaluate("document.activeElement.id") == "question"
    ask(page, "Two?")
    assert server.requests[1]["messages"] == [{"role": "user", "content": "Two?"}]


def test_a_turn_without_an_answer_is_not_part_of_the_history(page: Page, server: StandIn) -> None:
    server.busy = True
    ask(page, "One?")
    server.busy = False
    ask(page, "Two?")
    assert server.requests[1]["messages"] == [{"role": "user", "content": "Two?"}]


def test_a_stopped_answer_is_kept_as_far_as_it_came(page: Page, server: StandIn) -> None:
    page.locator(".budget-number").first.fill("0")
    server.delay_s = 0.05
    page.fill("#question", "One?")
    page.click("#submit")
    page.wait_for_selector(f"{ANSWERS}:has-text('Answer')")
    page.click("#stop")
    page.wait_for_selector("#submit:enabled")
    assert page.evaluate("document.activeElement.id") == "submit"
    assert texts(page, ".ended") == ["stopped by you"]
    server.delay_s = 0
    ask(page, "Two?")
    kept = server.requests[1]["messages"][1]["content"]
    assert kept
    assert ANSWER.startswith(kept)
    assert kept != ANSWER


def test_a_second_pane_continues_the_first_ones_conversation(page: Page, server: StandIn) -> None:
    ask(page, "One?")
    page.locator(".top .switch").click()
    assert texts(page, ".question") == ["One?", "One?"]
    assert texts(page, ANSWERS) == [ANSWER, ANSWER]
    server.answer = "Another."
    ask(page, "Two?")
    first, second = server.requests[1:]
    assert first["messages"] == second["messages"] == [*said("One?"), {"role": "user", "content": "Two?"}]
    assert {first["thinking"]["max_tokens"], second["thinking"]["max_tokens"]} == {256, 32}


def test_the_meter_adds_up_to_the_context(page: Page, server: StandIn) -> None:
    assert meter(page) == {"Prompt": None, "Thinking": 0, "Answer": 0, "Kept for the answer": None, "Left": None}
    ask(page, "How many are one and one?")
    shown = meter(page)
    assert shown["Prompt"] == 6
    assert shown["Thinking"] == len(THOUGHTS[0].split(" "))
    assert shown["Answer"] == len(ANSWER.split(" "))
    assert shown["Kept for the answer"] == (CONTEXT - 6) // 8 - len(ANSWER.split(" "))
    assert sum(tokens or 0 for tokens in shown.values()) == CONTEXT
    shares = (
        page.locator(".pane")
        .first.locator(".bar i")
        .evaluate_all("all => all.map((one) => Number(one.style.getPropertyValue('--share')))")
    )
    assert shares == pytest.approx([(tokens or 0) / CONTEXT for name, tokens in shown.items() if name != "Left"])


def test_the_meter_follows_limit_and_reserve(page: Page, server: StandIn) -> None:
    setting(page, "#limit", "100")
    page.fill("#reserve", "30")
    ask(page, "How many are one and one?")
    shown = meter(page)
    assert shown["Kept for the answer"] == 30 - len(ANSWER.split(" "))
    assert sum(tokens or 0 for tokens in shown.values()) == 100 + 6
    page.fill("#reserve", "")
    page.fill("#answer-maximum", "11")
    server.answer = "Two, probably."
    ask(page, "How many are one and one?")
    assert meter(page)["Kept for the answer"] == 11 - 2


def test_the_meter_is_live(page: Page, server: StandIn) -> None:
    server.delay_s = 0.03
    page.click("#submit")
    page.wait_for_selector(".turn.streaming .thinking-count:has-text('tokens')")
    until(lambda: (meter(page)["Thinking"] or 0) > 0, page)
    early = meter(page)["Thinking"] or 0
    until(lambda: (meter(page)["Thinking"] or 0) > early, page)
    page.wait_for_selector("#submit:enabled")


@pytest.mark.parametrize(
    ("reason", "words"),
    [("context", "cut to leave room for the answer"), ("loop", "cut in a loop"), (None, "by itself")],
)
def test_how_the_thinking_ended_is_said_in_words(page: Page, server: StandIn, reason: str | None, words: str) -> None:
    server.end_forced = reason
    ask(page, "One?")
    assert texts(page, ".ended") == [words]
    assert words in page.inner_text("#announce")
    assert page.locator(".ended.forced").count() == (reason is not None)


def test_a_cut_answer_is_said(page: Page, server: StandIn) -> None:
    ask(page, "One?")
    assert texts(page, ".answer-cut") == []
    setting(page, "#answer-maximum", "4")
    ask(page, "Two?")
    assert texts(page, ".answer-cut") == ["Answer cut at its maximum of 4 tokens"]
    assert "Answer cut" in page.inner_text("#announce")
    assert texts(page, ".count-answer")[-1] == "4"


def test_answer_and_thinking_are_formatted(page: Page, server: StandIn) -> None:
    server.answer = "**So** $x = 23$.\n\n<b>not bold</b>"
    ask(page, "One?")
    assert page.locator(f"{ANSWERS} strong").inner_text() == "So"
    assert page.locator(f"{ANSWERS} annotation").text_content() == "x = 23"
    assert page.locator(f"{ANSWERS} b").count() == 0
    assert page.locator(".turn .thinking p").count() == 0
    page.click(".format")
    assert page.locator(".turn .thinking p").inner_text() == THOUGHTS[0]
    page.click(".format")
    assert page.locator(".turn .thinking p").count() == 0
    assert page.inner_text(".turn .thinking") == THOUGHTS[0]


def test_the_reader_stays_where_they_scrolled_to(page: Page, server: StandIn) -> None:
    server.answer = "\n\n".join(f"Line {number}." for number in range(60))
    ask(page, "One?")
    at_end = "box => box.scrollHeight - box.scrollTop - box.clientHeight < 2"
    scroll = page.locator(".scroll").first
    assert scroll.evaluate(at_end)
    server.delay_s = 0.01
    page.click(".again")
    page.wait_for_selector(".turn.streaming .answer li, .turn.streaming .answer p")
    scroll.evaluate("box => { box.scrollTop = 0; }")
    page.wait_for_selector("#submit:enabled")
    assert scroll.evaluate("box => box.scrollTop") == 0


def test_every_control_has_a_name(page: Page) -> None:
    ask(page, "One?")
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    for control in page.locator(
        "button:visible, input:visible, select:visible, textarea:visible, [role]:visible"
    ).all():
        name = control.evaluate("one => one.ariaLabel || one.textContent.trim() || one.labels?.[0]?.innerText.trim()")
        assert name or control.get_attribute("role") in ("alert", "status"), control.evaluate("one => one.outerHTML")
    assert page.locator("[role=status]").count() == 1
    assert page.locator("[aria-busy]").first.get_attribute("aria-busy") == "false"
