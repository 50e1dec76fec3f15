"""The page at `/playground` in headless Chromium, in front of a scripted server."""

from __future__ import annotations

import ast
import json
import shlex
from typing import TYPE_CHECKING, Any

import pytest

from s1ray.serving.playground import PATH
from tests.support.browser import PHONE, WIDE, opened, until
from tests.support.playground_server import ANSWER, KEY, StandIn

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

QUESTION = 'It\'s "17" + 5 \\ 8?\nPrint $HOME, `ls` & <b>ü🙂</b>'
THINKING_PANES = ".pane.streaming .thinking-box:not([hidden])"
ANSWERS = ".turn > .answer"


def ask(page: Page, question: str | None = None) -> None:
    if question is not None:
        page.fill("#question", question)
    page.click("#submit")
    page.wait_for_selector("#submit:enabled")


def drag(page: Page, selector: str, value: int, pane: int = 0) -> None:
    page.locator(selector).nth(pane).fill(str(value))


def texts(page: Page, selector: str) -> list[str]:
    return page.locator(f"{selector}:visible").all_inner_texts()


ANNOUNCED = """() => {
  window.announced = [];
  const written = (change) => [...change.addedNodes].map((node) => node.textContent);
  new MutationObserver((changes) => window.announced.push(...changes.flatMap(written)))
    .observe(document.getElementById("announce"), { childList: true });
}"""
"""Collects what is said to screen readers."""


def test_thinking_and_answer_stream_separately_and_end_with_the_accounting(page: Page, server: StandIn) -> None:
    drag(page, ".waits-range", 2)
    server.delay_s = 0.01
    page.evaluate(ANNOUNCED)
    page.click("#submit")
    page.wait_for_selector(".note:has-text('live')")
    assert texts(page, "mark") == []
    page.wait_for_selector("#submit:enabled")
    assert server.requests[0]["thinking"] == {"max_tokens": 256, "waits": 2}
    assert "messages" in server.requests[0]
    thinking = page.inner_text(".turn .thinking")
    assert thinking.startswith("Start at 17.")
    assert thinking.endswith("where we began.")
    # The model's markup stays text.
    assert page.inner_text(ANSWERS) == ANSWER
    assert "<b>" in ANSWER
    assert texts(page, "mark") == ["Wait", "Wait"]
    assert texts(page, ".count-thinking")[0].endswith(" of 256")
    assert texts(page, ".count-waits") == ["2 of 2"]
    assert texts(page, ".ended") == ["by itself"]
    assert "counted from token ids" in page.inner_text(".note")
    *phases, end = page.evaluate("window.announced")
    assert phases == ["Waiting for the first token.", "Thinking.", "Answering."]
    assert "Thinking ended: by itself." in end


def test_a_budget_that_cuts_the_thinking_is_shown(page: Page, server: StandIn) -> None:
    page.locator(".budget-number").first.fill("7")
    ask(page)
    assert server.requests[0]["thinking"] == {"max_tokens": 7}
    assert texts(page, ".count-thinking") == ["7 of 7"]
    assert texts(page, ".ended") == ["cut at the budget"]


def test_budget_zero_answers_at_once_and_sends_no_waits(page: Page, server: StandIn) -> None:
    drag(page, ".waits-range", 3)
    drag(page, ".budget-range", 0)
    assert page.locator(".waits-range").first.is_disabled()
    ask(page)
    assert server.requests[0]["thinking"] == {"max_tokens": 0}
    assert texts(page, ".turn .thinking") == []
    assert texts(page, ANSWERS) == [ANSWER]


def test_waits_that_are_ambiguous_in_the_text_are_not_marked(page: Page) -> None:
    page.locator("#settings summary").click()
    page.fill("#wait-text", "So")
    drag(page, ".waits-range", 1)
    ask(page)
    assert texts(page, "mark") == []
    assert "“So” occurs 2 times, 1 of them inserted" in page.inner_text(".note")


def test_only_changed_settings_are_sent(page: Page, server: StandIn) -> None:
    page.locator("#settings summary").click()
    page.fill("#temperature", "0.7")
    page.fill("#limit", "300")
    page.fill("#minimum", "20")
    page.fill("#wait-text", "")
    page.fill("#answer-maximum", "40")
    page.fill("#reserve", "64")
    page.fill("#loops", "3")
    page.select_option("#model", "ponder")
    ask(page)
    sent = server.requests[0]
    assert (sent["model"], sent["temperature"], sent["max_tokens"]) == ("ponder", 0.7, 300)
    assert sent["thinking"] == {
        "max_tokens": 256,
        "min_tokens": 20,
        "wait_text": None,
        "answer_max_tokens": 40,
        "answer_reserve": 64,
        "loops": 3,
    }


def test_an_effort_stands_for_its_number(page: Page, server: StandIn) -> None:
    effort, number = page.locator(".effort").first, page.locator(".budget-number").first
    effort.select_option("low")
    assert number.input_value() == "128"
    ask(page)
    assert server.requests[-1]["thinking"] == {"effort": "low"}
    effort.select_option("high")
    assert number.input_value() == "1536"
    number.fill("64")
    assert effort.input_value() == ""
    ask(page, "Again?")
    assert server.requests[-1]["thinking"] == {"max_tokens": 64}
    page.select_option("#model", "ponder")
    assert not effort.is_visible()


def test_the_dial_ends_at_the_models_maximum(page: Page) -> None:
    number = page.locator(".budget-number").first
    for model, maximum, caption in (("s1-miniature", 1536, "maximum"), ("ponder", 512, "all that fits")):
        page.select_option("#model", model)
        number.fill("99999")
        number.blur()
        assert number.input_value() == str(maximum)
        assert caption in page.locator(".budget .caption").first.inner_text()


def test_two_budgets_stream_at_the_same_time(page: Page, server: StandIn) -> None:
    server.delay_s = 0.02
    page.locator(".top .switch").click()
    drag(page, ".waits-range", 1, pane=1)
    page.click("#submit")
    until(lambda: page.locator(THINKING_PANES).count() == 2, page)
    page.wait_for_selector("#submit:enabled")
    asked = sorted((request["thinking"] for request in server.requests), key=lambda asked: asked["max_tokens"])
    assert asked == [{"max_tokens": 32, "waits": 1}, {"max_tokens": 256}]
    assert texts(page, ".ended") == ["by itself", "cut at the budget"]
    assert len(texts(page, ANSWERS)) == 2


def test_stop_ends_one_stream_and_not_the_other(page: Page, server: StandIn) -> None:
    server.delay_s = 0.03
    page.locator(".top .switch").click()
    page.click("#submit")
    until(lambda: page.locator(THINKING_PANES).count() == 2, page)
    page.locator(".turn .stop").first.click()
    until(lambda: server.disconnected == 1, page)
    assert page.locator(".pane.streaming").count() == 1
    page.wait_for_selector("#submit:enabled")
    assert texts(page, ".ended") == ["stopped by you", "by itself"]
    assert server.disconnected == 1


def test_everything_works_from_the_keyboard(page: Page, server: StandIn) -> None:
    server.delay_s = 0.03
    page.focus("#question")
    page.keyboard.press("End")
    page.keyboard.type(" Why?")
    page.locator(".budget-range").first.focus()
    page.keyboard.press("ArrowLeft")
    assert page.locator(".budget-number").first.input_value() == "192"
    page.focus("#compare")
    page.keyboard.press("Space")
    assert page.locator(".pane:visible").count() == 2
    page.focus("#question")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector(".turn.streaming .thinking")
    page.keyboard.press("Escape")
    page.wait_for_selector("#submit:enabled")
    assert server.requests[0]["messages"][0]["content"].endswith(" Why?")
    assert texts(page, ".ended") == ["stopped by you", "stopped by you"]


def test_a_key_is_asked_for_and_stored_nowhere(browser: Browser, server: StandIn) -> None:
    server.needs_key = True
    with opened(browser, f"{server.url}{PATH}") as page:
        page.wait_for_selector("#problem:visible")
        assert page.inner_text("#problem") == "The API key is missing or unknown"
        assert page.evaluate("document.activeElement.id") == "key"
        page.fill("#key", "kéy")
        page.locator("#key").blur()
        page.wait_for_selector("#problem:has-text('contains invalid characters')")
        page.fill("#key", KEY)
        page.locator("#key").blur()
        page.wait_for_selector("#submit:enabled")
        assert not page.locator("#problem").is_visible()
        ask(page)
        assert texts(page, ANSWERS) == [ANSWER]
        assert page.evaluate("[localStorage.length, sessionStorage.length, document.cookie]") == [0, 0, ""]
        server.needs_key = False
        page.reload()
        page.wait_for_selector("#submit:enabled")
        assert page.input_value("#key") == ""


@pytest.mark.parametrize(
    ("behaviour", "message"),
    [
        ({"busy": True}, "All replicas are busy and the queue is full; try again (in 2 s)"),
        ({"fails_after": 5}, "the engine died"),
    ],
)
def test_errors_are_shown(page: Page, server: StandIn, behaviour: dict[str, object], message: str) -> None:
    for name, value in behaviour.items():
        setattr(server, name, value)
    ask(page)
    assert texts(page, ".turn > .error") == [message]
    for name in behaviour:
        setattr(server, name, StandIn.__dataclass_fields__[name].default)
    page.click(".again")
    page.wait_for_selector("#submit:enabled")
    assert texts(page, ".turn > .error") == []
    assert texts(page, ANSWERS) == [ANSWER]


def test_a_refusal_by_the_server_names_the_field(page: Page) -> None:
    page.locator("#settings summary").click()
    page.fill("#minimum", "9")
    page.locator(".budget-number").first.fill("8")
    ask(page)
    assert texts(page, ".turn > .error") == ["thinking.min_tokens: 9 is more than max_tokens (8)"]


def test_an_unreachable_server_is_reported(page: Page) -> None:
    page.route("**/v1/chat/completions", lambda route: route.abort())
    ask(page)
    assert texts(page, ".turn > .error") == ["The server cannot be reached. Is it running?"]


def request_from_curl(command: str) -> tuple[str, dict[str, Any], list[str]]:
    words = shlex.split(command.replace("\\\n", " "))
    assert words[0] == "curl"
    headers = [words[i + 1] for i, word in enumerate(words) if word == "-H"]
    return words[1], json.loads(words[words.index("-d") + 1]), headers


def request_from_python(program: str) -> dict[str, Any]:
    for node in ast.walk(ast.parse(program)):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "client.chat.completions.create":
            fields: dict[str, Any] = {k.arg: ast.literal_eval(k.value) for k in node.keywords if k.arg}
            extra: dict[str, Any] = fields.pop("extra_body")
            return fields | extra
    raise AssertionError("the program creates no chat completion")


def test_the_copied_request_equals_the_sent_one(page: Page, server: StandIn) -> None:
    page.fill("#question", QUESTION)
    drag(page, ".waits-range", 2)
    page.locator("#settings summary").click()
    page.fill("#wait-text", "Hmm, it's")
    page.fill("#temperature", "0")
    page.locator(".request > summary").first.click()
    url, curl, headers = request_from_curl(page.inner_text(".request code"))
    page.locator(".as-python").first.click()
    python = page.inner_text(".request code")
    ask(page)
    sent = {name: value for name, value in server.requests[0].items() if not name.startswith("stream")}
    assert curl == sent
    assert request_from_python(python) == sent
    assert (url, headers) == (f"{server.url}/v1/chat/completions", ["Content-Type: application/json"])
    assert 'api_key="unused"' in python
    assert sent["messages"][0]["content"] == QUESTION


def test_a_copied_request_does_not_contain_the_key(page: Page) -> None:
    page.locator("#settings summary").click()
    page.fill("#key", "hunter2")
    page.locator(".request > summary").first.click()
    curl = page.inner_text(".request code")
    page.locator(".as-python").first.click()
    python = page.inner_text(".request code")
    assert "hunter2" not in curl + python
    assert "S1RAY_API_KEY" in curl
    assert 'os.environ["S1RAY_API_KEY"]' in python
    ast.parse(python)


def test_the_copy_button_copies(page: Page) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.locator(".request > summary").first.click()
    page.locator(".request .copy").first.click()
    page.wait_for_selector(".request .copy:has-text('Copied')")
    assert page.evaluate("navigator.clipboard.readText()") == page.inner_text(".request code")


@pytest.mark.parametrize(
    ("size", "scheme"),
    [(PHONE, "dark"), ({"width": 320, "height": 640}, "light"), (WIDE, "light"), (WIDE, "dark")],
    ids=["phone", "small phone", "wide", "wide and dark"],
)
def test_the_page_fits_the_screen_and_is_accessible(
    browser: Browser, server: StandIn, size: dict[str, int], scheme: str
) -> None:
    options = {"viewport": size, "color_scheme": scheme, "has_touch": True, "is_mobile": size is not WIDE}
    with opened(browser, f"{server.url}{PATH}", **options) as page:
        page.wait_for_selector("#submit:enabled")
        page.locator(".top .switch").tap()
        page.locator("#settings summary").tap()
        page.locator(".request > summary").first.tap()
        ask(page)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        controls = "button, select, summary, input:not([role=switch]), .switch, textarea"
        heights = page.locator(controls).evaluate_all(HEIGHTS)
        assert len(heights) > 20
        assert [(what, height) for what, height in heights if 0 < height < 44] == []
        columns = page.locator(".pane").evaluate_all("panes => panes.map((pane) => pane.getBoundingClientRect().x)")
        assert len(set(columns)) == (2 if size is WIDE else 1)
        for selector in CONTRASTED:
            assert page.locator(selector).first.evaluate(CONTRAST) >= 4.5, selector


CONTRASTED = (
    *(".question", ".thinking-box .thinking", ".turn > .answer", ".note", ".legend dt", ".outcome dt", ".outcome dd"),
    *(".budget .caption", ".budget-number", "summary", ".primary", ".edit", ".again", ".context-size"),
)

HEIGHTS = "elements => elements.map((element) => [element.outerHTML, element.getBoundingClientRect().height])"

CONTRAST = """element => {
  const luminance = (color) => {
    const [r, g, b] = color.match(/[\\d.]+/g).slice(0, 3).map((part) => {
      const share = part / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  let behind = element;
  while (getComputedStyle(behind).backgroundColor === "rgba(0, 0, 0, 0)") behind = behind.parentElement;
  const [low, high] = [element, behind]
    .map((node, index) => luminance(getComputedStyle(node)[index ? "backgroundColor" : "color"]))
    .sort((a, b) => a - b);
  return (high + 0.05) / (low + 0.05);
}"""
"""WCAG's contrast of an element's text with what is behind it."""
