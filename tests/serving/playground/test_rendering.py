"""How the page shows Markdown and formulas, and what untrusted text can do: its modules in headless Chromium."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from s1ray.serving.playground import PATH
from tests.support.browser import opened
from tests.support.playground_server import standing_in

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

SAMPLE = r"""The roots of $ax^2 + bx + c = 0$ are

\[
x_{1,2} = \frac{-b \pm \sqrt{b^2 - 4ac}}{2a}
\]

### Two steps

1. Compute \(D = b^2 - 4ac\).

2. If **$D < 0$**, there are *no* roots:
   - none in $\mathbb{R}$,
   - two in $\mathbb{C}$.

| D | roots |
|---|--:|
| $D > 0$ | 2 |

```python
price = "$5"
```

$$
\begin{aligned} a &= b \\ c &= d \end{aligned}
$$

Therefore $\boxed{2}$.
"""

ATTACKS = [
    "<script>window.hacked = 1</script>",
    "<img src=x onerror='window.hacked = 1'>",
    "<svg onload='window.hacked = 1'></svg>",
    "<svg><script>window.hacked = 1</script></svg>",
    "<iframe srcdoc='<script>parent.hacked = 1</script>'></iframe>",
    "<a href='javascript:window.hacked = 1'>x</a>",
    "<style>body { display: none }</style>",
    "<link rel=stylesheet href=https://evil.example/x.css>",
    "<base href=https://evil.example/><form action=https://evil.example/><input name=q></form>",
    "<meta http-equiv=refresh content='0; url=https://evil.example/'>",
    "<math><mtext><table><mglyph><style><img src=x onerror='window.hacked = 1'>",
    "<details open ontoggle='window.hacked = 1'>",
    "<div\n>\n<script>window.hacked = 1</script>\n</div>",
    "[x](javascript:window.hacked=1)",
    "[x](JaVaScRiPt:window.hacked=1)",
    "[x](java\tscript:window.hacked=1)",
    "[x](&#106;avascript:window.hacked=1)",
    "[x](data:text/html,<script>window.hacked=1</script>)",
    "[x](vbscript:x) [y](file:///etc/passwd) [z](//evil.example) [w](/v1/models)",
    "<javascript:window.hacked=1>",
    "[x]: javascript:window.hacked=1\n\n[x]",
    "![x](https://evil.example/pixel.png)",
    "![x](https://evil.example/pixel.png \"' onerror='window.hacked = 1\")",
    "[![x](https://evil.example/pixel.png)](https://evil.example/)",
    "`<img src=x onerror=window.hacked=1>`",
    '```"><img src=x onerror=window.hacked=1>\n<img src=x onerror=window.hacked=1>\n```',
    "| <img src=x onerror=window.hacked=1> |\n|---|\n| <script>window.hacked=1</script> |",
    "&lt;img src=x onerror=window.hacked=1&gt; &#60;script&#62;window.hacked=1&#60;/script&#62;",
    r"$\href{javascript:window.hacked=1}{x}$",
    r"$\url{javascript:window.hacked=1}$",
    r"$\includegraphics{https://evil.example/x.png}$",
    r"$\htmlStyle{position: fixed; inset: 0}{x} \htmlId{submit}{x} \htmlData{a=b}{x}$",
    r"$\text{<img src=x onerror=window.hacked=1>}$",
    r"$\unicode{x} <script>window.hacked=1</script>$",
    r"$\def\a{\a\a}\a$",
    r"$\color{url(https://evil.example/x.png)}x$",
    r"$\rule{99999em}{99999em}$ $\kern-9999em x$",
]

FORBIDDEN = "script, img, iframe, object, embed, link, meta, base, form, input, style, video, audio, foreignObject, use"

RENDER = """async (text) => {
  const { rendered } = await import("./playground/markdown.js");
  const box = document.createElement("div");
  box.id = "box";
  box.className = "rendered";
  document.getElementById("box")?.remove();
  box.append(...rendered(text));
  document.body.append(box);
  return box.innerHTML;
}"""


@pytest.fixture(scope="module")
def page(browser: Browser) -> Iterator[Page]:
    with standing_in() as server, opened(browser, f"{server.url}{PATH}") as page:
        page.wait_for_selector("#submit:enabled")
        yield page


def render(page: Page, text: str) -> str:
    html: str = page.evaluate(RENDER, text)
    return html


def formulas(page: Page, text: str) -> list[tuple[str, bool]]:
    """TeX of each formula that a text shows, and whether it is displayed on its own."""
    render(page, text)
    found = page.locator("#box .formula").evaluate_all(
        "all => all.map((one) => [one.querySelector('annotation')?.textContent, one.matches('.display')])"
    )
    return [(tex, display) for tex, display in found]


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("a **b** *c* ~~d~~ `e`", "<p>a <strong>b</strong> <em>c</em> <del>d</del> <code>e</code></p>"),
        ("one\ntwo", "<p>one<br>two</p>"),
        ("# A\n\n###### B", "<h3>A</h3><h6>B</h6>"),
        ("- a\n- [x] b", "<ul><li>a</li><li>☑ b</li></ul>"),
        ("3. a\n4. b", '<ol start="3"><li>a</li><li>b</li></ol>'),
        ("> a", "<blockquote><p>a</p></blockquote>"),
        ("a &amp; b &lt; c &#8211; &what;", "<p>a &amp; b &lt; c – &amp;what;</p>"),
        ("a<br>b", "<p>a<br>b</p>"),
        ("a <b>c</b>", "<p>a &lt;b&gt;c&lt;/b&gt;</p>"),
        ("<div>c</div>", '<p class="as-written">&lt;div&gt;c&lt;/div&gt;</p>'),
        (r"1 \* 2 \< 3", "<p>1 * 2 &lt; 3</p>"),
        ("---", "<hr>"),
    ],
)
def test_markdown_becomes_elements(page: Page, text: str, html: str) -> None:
    assert render(page, text) == html


def test_code_and_tables_can_be_scrolled_from_the_keyboard(page: Page) -> None:
    render(page, "```python\nx = '<b>'\n```\n\n| a | b |\n|---|--:|\n| 1 | *2* |")
    assert page.inner_text("#box pre code") == "x = '<b>'"
    assert page.inner_text("#box .language") == "python"
    assert page.locator("#box td.right em").inner_text() == "2"
    assert page.locator("#box [tabindex='0'][role=group][aria-label]").count() == 2


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("so $x_1*y_1$ and $x_2*y_2$.", [("x_1*y_1", False), ("x_2*y_2", False)]),
        (r"so \(a_1 < b_1\)", [("a_1 < b_1", False)]),
        (r"so \[a_1\] here", [("a_1", True)]),
        ("so $$a_1$$ here", [("a_1", True)]),
        ("$$\na \\\\ b\n$$", [("\na \\\\ b\n", True)]),
        ("text\n\\[\n\na_1 \\\\[2pt] b\n\\]\ntext", [("\n\na_1 \\\\[2pt] b\n", True)]),
        (r"*emphasised $a*b$ text*", [("a*b", False)]),
        (r"**$x$**", [("x", False)]),
        ("- item $x$\n\n  $$\n  y\n  $$", [("x", False), ("\ny\n", True)]),
        ("| $a$ |\n|---|\n| $b$ |", [("a", False), ("b", False)]),
        (r"$\$5 + x$", [(r"\$5 + x", False)]),
        (r"$\vec{v}\,\overrightarrow{AB}$", [(r"\vec{v}\,\overrightarrow{AB}", False)]),
        ("it costs $5, not $6", []),
        ("$5 and 6$7", []),
        (r"\$x\$", []),
        ("`$x$` and `\\(y\\)`", []),
        ("```\n$x$\n$$y$$\n```", []),
        ("$ x $", []),
        ("$$ $$", []),
        ("an open $$x", []),
    ],
)
def test_formulas_are_found_and_kept_from_markdown(page: Page, text: str, expected: list[tuple[str, bool]]) -> None:
    assert formulas(page, text) == expected
    assert page.locator("#box .source").count() == 0


def test_a_formula_is_drawn_with_the_bundled_fonts_and_says_itself_to_screen_readers(page: Page) -> None:
    render(page, r"$$\vec{v} = \frac{1}{2}$$")
    page.evaluate("document.fonts.ready")
    assert page.evaluate("document.fonts.check('16px KaTeX_Main') && document.fonts.size > 10")
    assert page.locator("#box math mfrac").count() == 1
    assert page.locator("#box .katex-html").get_attribute("aria-hidden") == "true"
    # The arrow's width is a style that the policy would block as an attribute.
    assert 0 < page.locator("#box svg").first.evaluate("svg => svg.getBoundingClientRect().width") < 20


@pytest.mark.parametrize("text", [r"$\frac{1$", r"\(\nonsense\)", "$$\n\\begin{x}\n$$", "$$\nnot finished"])
def test_a_formula_that_cannot_be_read_is_shown_as_written(page: Page, text: str) -> None:
    render(page, text)
    assert page.inner_text("#box").strip() == text


def test_untrusted_text_runs_and_loads_nothing(page: Page) -> None:
    for attack in [*ATTACKS, "\n\n".join(ATTACKS), SAMPLE + "".join(ATTACKS)]:
        render(page, attack)
        assert page.locator(f"#box :is({FORBIDDEN})").count() == 0, attack
        handlers = "all => all.flatMap((one) => one.getAttributeNames()).filter((name) => name.startsWith('on'))"
        assert page.locator("#box *").evaluate_all(handlers) == [], attack
        schemes = page.locator("#box [href]").evaluate_all("all => all.map((one) => new URL(one.href).protocol)")
        assert set(schemes) <= {"http:", "https:", "mailto:"}, attack
        assert page.locator("#box :is([src], [srcset], [id])").count() == 0, attack
    page.wait_for_timeout(100)
    assert page.evaluate("window.hacked") is None
    # `opened` fails if the page has requested another host or violated its policy.


def test_untrusted_text_is_drawn_in_its_own_box_only(page: Page) -> None:
    render(page, ATTACKS[-1])
    assert page.locator("#box").evaluate("box => getComputedStyle(box).contain") == "paint"


def test_the_attacks_would_work_without_protection(browser: Browser) -> None:
    """That the check can fail: the same text as HTML, on a page without the policy."""
    page = browser.new_page()
    page.evaluate("text => { document.body.innerHTML = text; }", ATTACKS[1])
    page.wait_for_function("window.hacked === 1")
    page.close()


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("[the docs](https://docs.example/a)", "the docs (docs.example)"),
        ("[docs.example](https://evil.example/)", "docs.example (evil.example)"),
        ("https://docs.example/a", "https://docs.example/a"),
        ("![a cat](https://docs.example/a.png)", "Picture, not loaded: a cat (https://docs.example/a.png)"),
    ],
)
def test_a_link_says_where_it_leads(page: Page, text: str, seen: str) -> None:
    render(page, text)
    assert page.inner_text("#box") == seen
    for link in page.locator("#box a").all():
        assert (link.get_attribute("target"), link.get_attribute("rel")) == ("_blank", "noopener noreferrer nofollow")


@pytest.mark.parametrize("piece", ["> ", "$", "\\(", "*", "[", "- ", "$$\n", "<a "])
def test_hostile_lengths_are_shown_in_time(page: Page, piece: str) -> None:
    took = page.evaluate(
        "async (text) => { const { rendered } = await import('./playground/markdown.js');"
        " const begun = performance.now(); rendered(text); return performance.now() - begun; }",
        piece * 3000 + "end",
    )
    assert took < 2000


GROW = """async ([text, size]) => {
  const { MarkdownView, rendered } = await import("./playground/markdown.js");
  const box = document.createElement("div");
  const whole = document.createElement("div");
  let [added, changes] = [0, 0];
  const view = new MarkdownView(box, (change) => {
    changes += 1;
    change();
  });
  const observer = new MutationObserver((all) => { for (const one of all) added += one.addedNodes.length; });
  observer.observe(box, { childList: true });
  const begun = performance.now();
  for (let at = size; at < text.length + size; at += size) {
    const before = changes;
    view.update(text.slice(0, at));
    view.update(text.slice(0, at));
    while (changes === before) await new Promise((done) => setTimeout(done, 5));
  }
  const took = performance.now() - begun;
  await null;
  const grown = box.innerHTML;
  whole.append(...rendered(text));
  view.finish(text);
  const [finished, blocks] = [box.innerHTML, whole.children.length];
  return { grown, finished, whole: whole.innerHTML, added, changes, took, blocks };
}"""


def grown(page: Page, text: str, size: int) -> dict[str, Any]:
    result: dict[str, Any] = page.evaluate(GROW, [text, size])
    return result


@pytest.mark.parametrize("size", [23, 41])
def test_a_growing_text_ends_as_the_whole(page: Page, size: int) -> None:
    result = grown(page, SAMPLE, size)
    assert result["grown"] == result["whole"]
    assert result["finished"] == result["whole"]
    assert result["took"] >= (result["changes"] - 2) * 100


def test_only_the_block_that_grows_is_shown_again(page: Page) -> None:
    text = "".join(f"Paragraph {number} has $x_{number}$ and *words*.\n\n" for number in range(200))
    result = grown(page, text, len(text) // 10)
    assert result["grown"] == result["whole"]
    assert result["blocks"] == 200
    # Each block once, and at most two of them again at each of the eleven changes.
    assert result["added"] <= 200 + 2 * result["changes"]
