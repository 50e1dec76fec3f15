"use strict";
// The browser of single responses. Everything a model wrote reaches the page as text (textContent), never as HTML.

const PAGE = 100;  // entries added to the list at a time
const VERDICTS = {right: "right", wrong: "wrong", unparsable: "no answer read", undecided: "undecided", failed: "failed"};

// --- pure functions -------------------------------------------------------------------------------------------------

/** Control characters, which nobody would see, as signs. */
function visible(text) {
  return text.replace(/\r\n/g, "\n").replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/g,
    (c) => c < " " ? String.fromCharCode(0x2400 + c.charCodeAt(0)) : c === "\u007f" ? "\u2421" : "\ufffd");
}

/**
 * A thinking text in pieces: {text, kind}, kind being "" (the model's), "inserted" or "own" (the model wrote a wait
 * text itself). Spans are [begin, end, begin, end, ...] in code points.
 */
function pieces(text, spans, words) {
  const points = Array.from(text), found = [];
  let at = 0;
  const free = (part) => {
    if (!words.length) { if (part) found.push({text: part, kind: ""}); return; }
    const escaped = words.map((word) => word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
    const pattern = new RegExp(`(?<![\\p{L}\\p{N}])(${escaped.join("|")})(?![\\p{L}\\p{N}])`, "u");
    part.split(pattern).forEach((each, i) => { if (each) found.push({text: each, kind: i % 2 ? "own" : ""}); });
  };
  for (let i = 0; i + 1 < (spans || []).length; i += 2) {
    free(points.slice(at, spans[i]).join(""));
    found.push({text: points.slice(spans[i], spans[i + 1]).join(""), kind: "inserted"});
    at = spans[i + 1];
  }
  free(points.slice(at).join(""));
  return found;
}

/** Whether a trace is wanted. `wanted`: benchmark, model, arm, domain, verdict, cut (all "" for any), and text. */
function matches(trace, question, data, wanted) {
  if (wanted.benchmark && data.benchmarks[question.b] !== wanted.benchmark) return false;
  if (wanted.model && data.models[trace.m] !== wanted.model) return false;
  if (wanted.arm && data.arms[trace.a].name !== wanted.arm) return false;
  if (wanted.domain && (question.d || "(none)") !== wanted.domain) return false;
  if (wanted.verdict && trace.v !== wanted.verdict) return false;
  if (wanted.cut === "answer" && !trace.c) return false;
  if (wanted.cut === "thinking" && !trace.e) return false;
  if (wanted.cut === "neither" && (trace.c || trace.e)) return false;
  if (!wanted.text) return true;
  const text = wanted.text.toLowerCase();
  return [question.t, question.i, question.g, trace.h, trace.r, trace.x || ""].some(
    (each) => each.toLowerCase().includes(text));
}

/** The address of a trace: benchmark/model/arm/id-sample, each encoded. */
function address(trace, data) {
  const question = data.questions[trace.q];
  return [data.benchmarks[question.b], data.models[trace.m], data.arms[trace.a].name, `${question.i}-${trace.s}`]
    .map(encodeURIComponent).join("/");
}

/** {trace, with} of a location's hash, decoded; null where it names no trace. */
function parseHash(hash) {
  const found = {};
  for (const part of hash.replace(/^#/, "").split("&")) {
    const at = part.indexOf("=");
    if (at > 0) found[part.slice(0, at)] = part.slice(at + 1);
  }
  return found.trace ? {trace: found.trace, with: found.with || ""} : null;
}

/** Addresses are compared decoded, since encoders differ in what they leave alone. */
function sameAddress(first, second) {
  try { return decodeURIComponent(first) === decodeURIComponent(second); } catch { return false; }
}

// --- the page -------------------------------------------------------------------------------------------------------

function element(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key === "class") made.className = value; else made.setAttribute(key, value);
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

const chip = (text, kind = "") => element("span", {class: `chip ${kind}`}, visible(text));

async function unpacked(node) {
  const bytes = Uint8Array.from(atob(node.textContent.trim()), (c) => c.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).json();
}

function thinkingNode(trace, data) {
  const shown = element("pre", {tabindex: "0"});
  if (!trace.h && !trace.p) shown.append("(none)");
  for (const piece of pieces(trace.h, trace.p, data.arms[trace.a].words)) {
    const text = visible(piece.text);
    if (piece.kind === "inserted") shown.append(element("mark", {title: "inserted"}, text || "[stop suppressed]"));
    else if (piece.kind === "own") shown.append(element("span", {class: "own", title: "the model's own"}, text));
    else shown.append(text);
  }
  if (trace.e) shown.append("\n", element("mark", {class: "end"}, `[thinking ended by force: ${visible(trace.e)}]`));
  return shown;
}

function answerNode(trace) {
  const shown = element("pre", {tabindex: "0"}), points = Array.from(trace.r);
  if (trace.z) shown.append(element("mark", {title: "forced"}, visible(points.slice(0, trace.z).join(""))));
  shown.append(visible(points.slice(trace.z).join("")) || (trace.z ? "" : "(none)"));
  if (trace.c) shown.append("\n", element("mark", {class: "end"}, "[answer cut at its limit]"));
  return shown;
}

function traceNode(trace, data) {
  const question = data.questions[trace.q], plural = (n, what) => `${n.toLocaleString("en")} ${what}${n === 1 ? "" : "s"}`;
  const untold = trace.w && !trace.p;
  return element("article", {class: "trace"},
    element("div", {class: "chips"}, chip(VERDICTS[trace.v], trace.v), chip(data.models[trace.m]), chip(data.arms[trace.a].name),
      chip(`sample ${trace.s}`), chip(trace.t === null ? "thinking tokens unknown" : plural(trace.t, "thinking token")), chip(plural(trace.n, "answer token")),
      trace.w ? chip(`${plural(trace.w, "wait")} inserted`) : null, trace.k > 1 ? chip(plural(trace.k, "request")) : null,
      chip(`finish: ${trace.f}`)),
    element("div", {class: "label"}, `Read as ${visible(trace.x === null ? "nothing" : trace.x)}; expected ${visible(question.g)}; graded by ${visible(trace.g)}`),
    trace.y ? element("p", {class: "warning"}, `The request failed: ${visible(trace.y)}`) : null,
    element("div", {class: "label"}, "Thinking"),
    untold ? element("p", {class: "quiet"}, "Where the waits were inserted is not recorded in this run, so none is marked.") : null,
    thinkingNode(trace, data),
    element("div", {class: "label"}, "Answer"), answerNode(trace));
}

class Browser {
  constructor(root, data) {
    this.root = root; this.data = data; this.found = []; this.shown = 0;
    this.list = root.querySelector(".trace-list"); this.detail = root.querySelector(".trace-detail");
    this.count = root.querySelector(".trace-count"); this.form = root.querySelector("form");
    this.fill();
    let waiting;
    this.form.addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(() => this.filter(), 120); });
    this.form.addEventListener("submit", (event) => { event.preventDefault(); this.filter(); });
    this.form.addEventListener("reset", () => setTimeout(() => this.filter()));
    this.list.addEventListener("keydown", (event) => this.keyed(event));
    window.addEventListener("hashchange", () => this.follow(true));
    this.filter();
    this.follow(false);
  }

  fill() {
    const data = this.data, domains = [...new Set(data.questions.map((question) => question.d || "(none)"))].sort();
    const options = {benchmark: data.benchmarks, model: data.models, arm: data.arms.map((arm) => arm.name), domain: domains};
    for (const [name, values] of Object.entries(options)) {
      const select = this.form.elements[name];
      for (const value of values) select.append(element("option", {value}, visible(value)));
      if (values.length < 2) select.closest("label").hidden = true;
    }
  }

  filter() {
    const wanted = Object.fromEntries(new FormData(this.form)), data = this.data;
    this.found = data.traces.filter((trace) => matches(trace, data.questions[trace.q], data, wanted));
    this.count.textContent = `${this.found.length.toLocaleString("en")} of ${data.traces.length.toLocaleString("en")} responses`;
    this.list.replaceChildren(); this.shown = 0;
    this.more();
  }

  more() {
    this.list.querySelector(".more")?.remove();
    for (const trace of this.found.slice(this.shown, this.shown + PAGE)) this.list.append(this.entry(trace));
    this.shown = Math.min(this.shown + PAGE, this.found.length);
    if (this.shown < this.found.length) {
      const button = element("button", {type: "button"}, `${PAGE} more`);
      button.addEventListener("click", () => { const at = this.shown; this.more(); this.list.children[at]?.firstChild.focus(); });
      this.list.append(element("li", {class: "more"}, button));
    }
  }

  entry(trace) {
    const question = this.data.questions[trace.q];
    const button = element("button", {type: "button"},
      element("span", {class: `dot ${trace.v}`, title: VERDICTS[trace.v]}),
      element("span", {class: "what"}, visible((question.t || question.i).slice(0, 120))),
      element("small", {}, visible(`${VERDICTS[trace.v]} · ${this.data.models[trace.m]} · ${this.data.arms[trace.a].name} · ${trace.t === null ? "unknown" : trace.t} tokens`)));
    button.addEventListener("click", () => { location.hash = `trace=${address(trace, this.data)}`; });
    button.trace = trace;
    return element("li", {}, button);
  }

  keyed(event) {
    const step = {ArrowDown: 1, ArrowUp: -1}[event.key];
    if (!step) return;
    const buttons = [...this.list.querySelectorAll("button")], next = buttons[buttons.indexOf(document.activeElement) + step];
    if (next) { event.preventDefault(); next.focus(); }
  }

  named(wanted) { return wanted ? this.data.traces.find((trace) => sameAddress(address(trace, this.data), wanted)) : undefined; }

  follow(moved) {
    const wanted = parseHash(location.hash);
    if (!wanted) { if (!moved && this.found.length) this.open(this.found[0]); return; }
    const trace = this.named(wanted.trace);
    if (!trace) {
      this.detail.replaceChildren(element("p", {class: "warning"}, "This response is not among those that the page holds."));
      this.root.scrollIntoView();
      return;
    }
    this.open(trace, this.named(wanted.with));
    (moved && matchMedia("(min-width: 60rem)").matches && this.root.contains(document.activeElement) ? this.root : this.detail).scrollIntoView({block: "start"});
  }

  open(trace, other) {
    const data = this.data, question = data.questions[trace.q];
    for (const button of this.list.querySelectorAll("button")) button.toggleAttribute("aria-current", button.trace === trace);
    const rivals = data.traces.filter((each) => each.q === trace.q && each !== trace);
    const select = element("select", {}, element("option", {value: ""}, "nothing"));
    for (const rival of rivals) {
      const label = `${data.models[rival.m]} · ${data.arms[rival.a].name} · sample ${rival.s} · ${VERDICTS[rival.v]}`;
      const option = element("option", {value: address(rival, data)}, visible(label));
      if (rival === other) option.selected = true;
      select.append(option);
    }
    select.addEventListener("change", () => {
      location.hash = `trace=${address(trace, data)}${select.value ? `&with=${select.value}` : ""}`;
    });
    const where = this.found.indexOf(trace);
    const step = (label, to) => {
      const button = element("button", {type: "button"}, label);
      button.disabled = !to;
      if (to) button.addEventListener("click", () => { location.hash = `trace=${address(to, data)}`; });
      return button;
    };
    const link = element("a", {href: `#trace=${address(trace, data)}${other ? `&with=${address(other, data)}` : ""}`}, "link to this view");
    const nodes = [traceNode(trace, data)];
    if (other) nodes.push(traceNode(other, data));
    this.detail.replaceChildren(
      element("div", {class: "bar-of-trace"}, step("previous", this.found[where - 1]), step("next", this.found[where + 1]),
        rivals.length ? element("label", {}, "beside it ", select) : null, link),
      element("div", {class: "label"}, `Question ${visible(question.i)}${question.d ? `, ${visible(question.d)}` : ""}`),
      element("pre", {class: "question", tabindex: "0"}, visible(question.t || "(the question's text is not in the run folder)")),
      element("div", {class: other ? "two traces" : "traces"}, ...nodes));
  }
}

async function start() {
  const root = document.getElementById("traces"), packed = document.getElementById("trace-data");
  if (!root || !packed) return;
  try {
    root.browser = new Browser(root, await unpacked(packed));
    root.classList.add("ready");
  } catch (error) {
    root.querySelector(".trace-count").textContent = `This browser cannot unpack the responses (${error.message}); it needs DecompressionStream.`;
  }
}

if (typeof document !== "undefined") start();
