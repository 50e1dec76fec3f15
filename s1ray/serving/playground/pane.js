// One budget and its response: the dial, the stream, the counts, the request to copy.

import { asCurl, asPython, chatBody, positionOf, stopsUpTo } from "./requests.js";
import { RequestError, ask } from "./stream.js";

const ENDS = { budget: "budget", context: "context", loop: "loop" };
const TICKS = [0, 16, 64, 256, 1024, 4096, 16384, 65536];
const TICK_ROOM = 0.07;
const LAST_TICK_ROOM = 0.1;
const NEAR_END_PX = 24;

export class Pane {
  /**
   * @param {string} label for screen readers
   * @param {() => object} settings settings that both panes share: model, question, base, key, ...
   * @param {() => void} onChange called when streaming begins or ends
   */
  constructor(label, settings, onChange) {
    const root = document.getElementById("pane").content.firstElementChild.cloneNode(true);
    root.setAttribute("aria-label", label);
    this.root = root;
    this.find = (selector) => root.querySelector(selector);
    this.settings = settings;
    this.onChange = onChange;
    this.budget = 0;
    this.stops = [0];
    this.running = null;
    this.language = asCurl;
    this.#listen();
  }

  get waits() {
    return Number(this.find(".waits-range").value);
  }

  /** Set the end of the dial; `isServers`: it is the server's own limit. */
  setMaximum(maximum, isServers) {
    this.stops = stopsUpTo(maximum);
    this.maximum = maximum;
    this.isServers = isServers;
    const number = this.find(".budget-number");
    number.max = maximum;
    this.find(".budget-range").max = this.stops.length - 1;
    this.#drawTicks();
    this.setBudget(Math.min(this.budget, maximum));
  }

  setBudget(tokens) {
    this.budget = Math.round(Math.min(Math.max(tokens || 0, 0), this.maximum));
    this.find(".budget-number").value = this.budget;
    this.#showBudget();
  }

  /** Send the question with this budget, and show the stream until it ends or is stopped. */
  async run() {
    const controller = new AbortController();
    this.running = controller;
    this.#begin();
    this.onChange();
    try {
      const { key } = this.settings();
      for await (const piece of ask(this.#body(), { key, signal: controller.signal })) this.#take(piece);
      this.#flush();
      this.#finish();
      return { summary: this.#summary() };
    } catch (error) {
      this.#flush();
      if (error.name === "AbortError") {
        this.#count(".ended", "you");
        this.#close("stopped · live counts of what had arrived");
        return { summary: "Stopped." };
      }
      const message = error instanceof RequestError ? error.message : `The page failed: ${error.message}`;
      this.#close("");
      this.#say(".error", message);
      return { error: message, status: error.status };
    } finally {
      this.running = null;
      this.find(".stop").hidden = true;
      this.find(".response").setAttribute("aria-busy", "false");
      this.root.classList.remove("streaming");
      this.onChange();
    }
  }

  stop() {
    this.running?.abort();
  }

  /** Show the current request. */
  describe() {
    const { base, key } = this.settings();
    this.find("code").textContent = this.language(base, this.#body(), Boolean(key));
  }

  #listen() {
    this.find(".budget-range").addEventListener("input", (event) => {
      this.setBudget(this.stops[Number(event.target.value)]);
    });
    const number = this.find(".budget-number");
    number.addEventListener("input", () => {
      if (!number.validity.valid || number.value === "") return;
      this.budget = Number(number.value);
      this.#showBudget();
    });
    number.addEventListener("change", () => this.setBudget(Number(number.value)));
    this.find(".waits-range").addEventListener("input", () => this.#showBudget());
    this.find(".stop button").addEventListener("click", () => this.stop());
    for (const [selector, language] of [[".as-curl", asCurl], [".as-python", asPython]]) {
      this.find(selector).addEventListener("click", () => {
        this.language = language;
        this.find(".as-curl").setAttribute("aria-pressed", String(language === asCurl));
        this.find(".as-python").setAttribute("aria-pressed", String(language === asPython));
        this.describe();
      });
    }
    this.find(".copy").addEventListener("click", (event) => this.#copy(event.target));
  }

  #body() {
    return chatBody({ ...this.settings(), budget: this.budget, waits: this.waits });
  }

  #showBudget() {
    const range = this.find(".budget-range");
    const position = positionOf(this.budget, this.stops);
    range.value = Math.round(position * (this.stops.length - 1));
    range.setAttribute("aria-label", "Thinking budget");
    range.setAttribute("aria-valuetext", `${this.budget} thinking tokens at most`);
    this.root.style.setProperty("--budget", position);
    this.root.style.setProperty("--digits", Math.max(String(this.budget).length, 1));
    this.find(".budget .caption").textContent = this.#caption();
    const waits = this.find(".waits-range");
    waits.disabled = this.budget === 0;
    this.find(".waits-number").textContent = this.budget === 0 ? 0 : this.waits;
    this.root.style.setProperty("--waits", this.waits / Number(waits.max));
    this.describe();
  }

  #caption() {
    if (this.budget === 0) return "answers at once, without thinking";
    if (this.budget < this.maximum) return "thinking tokens at most";
    return this.isServers ? "thinking tokens, this server’s maximum" : "thinking tokens, all that fits";
  }

  #drawTicks() {
    const ticks = this.find(".ticks");
    ticks.replaceChildren();
    let last = -1;
    for (const tokens of [...TICKS.filter((n) => n < this.maximum), this.maximum]) {
      const position = positionOf(tokens, this.stops);
      const isLast = tokens === this.maximum;
      if (!isLast && (position - last < TICK_ROOM || 1 - position < LAST_TICK_ROOM)) continue;
      last = position;
      const tick = document.createElement("span");
      tick.textContent = tokens % 1024 === 0 && tokens ? `${tokens / 1024}k` : tokens;
      tick.style.setProperty("--at", position);
      ticks.append(tick);
    }
  }

  #begin() {
    this.text = { thinking: "", answer: "" };
    this.shown = { thinking: 0, answer: 0 };
    this.counted = { thinking: 0, answer: 0 };
    this.beforeAnswer = 0;
    this.completionTokens = 0;
    this.accounting = null;
    this.finishReason = null;
    this.startedAt = performance.now();
    this.firstAt = null;
    for (const name of ["thinking", "answer"]) {
      this.find(`.${name}`).replaceChildren(document.createTextNode(""));
      this.find(`.${name}`).hidden = true;
      this.find(`.${name}-title`).hidden = true;
    }
    this.find(".error").hidden = true;
    this.#say(".hint", "Waiting for the first token…");
    this.#say(".note", "live counts");
    this.find(".waits-name").textContent = "Waits";
    this.find(".stop").hidden = false;
    this.find(".response").setAttribute("aria-busy", "true");
    this.root.classList.add("streaming");
    this.root.style.setProperty("--spent", 0);
    this.#count(".count-waits", "–");
    this.#count(".ended", "–");
    this.#showCounts();
  }

  #take(piece) {
    if (piece.completionTokens !== undefined) this.completionTokens = piece.completionTokens;
    for (const name of ["thinking", "answer"]) {
      if (!piece[name]) continue;
      this.firstAt ??= performance.now();
      this.text[name] += this.text[name] ? piece[name] : piece[name].trimStart();
    }
    // If the server sends no counts, each piece counts as a token.
    if (piece.thinkingTokens !== undefined) this.counted.thinking = piece.thinkingTokens;
    else if (piece.thinking) this.counted.thinking += 1;
    if (piece.completionTokens === undefined) this.counted.answer += piece.answer ? 1 : 0;
    else if (piece.answer) this.counted.answer = this.completionTokens - this.beforeAnswer;
    else if (!this.text.answer) this.beforeAnswer = this.completionTokens;
    if (piece.accounting) this.accounting = piece.accounting;
    if (piece.finish) this.finishReason = piece.finish;
    this.frame ??= requestAnimationFrame(() => this.#flush());
  }

  /** Show what has arrived since the last frame. */
  #flush() {
    cancelAnimationFrame(this.frame);
    this.frame = null;
    for (const name of ["thinking", "answer"]) {
      const arrived = this.text[name].slice(this.shown[name]);
      if (!arrived) continue;
      const box = this.find(`.${name}`);
      this.find(".hint").hidden = true;
      box.hidden = false;
      this.find(`.${name}-title`).hidden = false;
      const follows = box.scrollHeight - box.scrollTop - box.clientHeight < NEAR_END_PX;
      box.firstChild.appendData(arrived);
      if (follows) box.scrollTop = box.scrollHeight;
      this.shown[name] = this.text[name].length;
    }
    this.#showCounts();
  }

  #showCounts() {
    this.#count(".count-thinking", this.counted.thinking, "live");
    this.#count(".count-answer", this.counted.answer, "live");
    this.root.style.setProperty("--spent", positionOf(this.counted.thinking, this.stops));
  }

  #finish() {
    const parts = [duration(performance.now() - this.startedAt)];
    if (this.firstAt !== null) parts.push(`first token after ${duration(this.firstAt - this.startedAt)}`);
    if (this.finishReason === "length") parts.push("the answer was cut at the response limit");
    const said = this.accounting;
    if (!said) {
      this.#close(`${parts.join(" · ")} · live counts: the server sent no accounting`);
      return;
    }
    this.#count(".count-thinking", said.thinking_tokens, said.limit === null ? "" : `of ${said.limit}`);
    this.#count(".count-answer", said.answer_tokens);
    this.#count(".ended", ENDS[said.end_forced] ?? "itself");
    this.find(".waits-name").textContent = said.budget.wait_text ? "Waits" : "Stops swallowed";
    const maximum = said.budget.waits;
    this.#count(".count-waits", said.waits, maximum ? `of ${maximum}` : "");
    this.root.style.setProperty("--spent", positionOf(said.thinking_tokens, this.stops));
    parts.push("counted from token ids", ...this.#markWaits());
    this.#close(parts.join(" · "));
  }

  /** Mark the inserted waits if the text identifies them without doubt; returns a note that says so, or why not. */
  #markWaits() {
    const { waits, budget } = this.accounting;
    const wait = budget.wait_text;
    const text = this.text.thinking;
    if (!waits || typeof wait !== "string" || !wait) return [];
    const pieces = text.split(wait);
    if (pieces.length - 1 !== waits) {
      return [`“${wait}” occurs ${pieces.length - 1} times, ${waits} of them inserted; the text does not show which`];
    }
    const nodes = pieces.flatMap((piece, index) => {
      if (index === 0) return [piece];
      const mark = document.createElement("mark");
      mark.textContent = wait;
      mark.title = "The model wanted to stop here";
      return [mark, piece];
    });
    this.find(".thinking").replaceChildren(...nodes);
    return ["inserted waits are marked"];
  }

  #summary() {
    const said = this.accounting;
    if (!said) return "The response is complete.";
    return `${said.thinking_tokens} thinking tokens, ${said.answer_tokens} answer tokens, ended by ${ENDS[said.end_forced] ?? "itself"}.`;
  }

  #close(note) {
    this.find(".hint").hidden = Boolean(this.text.thinking || this.text.answer);
    this.#say(".hint", "Nothing has arrived.", this.find(".hint").hidden);
    this.#say(".note", note);
  }

  #say(selector, text, hidden = false) {
    const element = this.find(selector);
    element.textContent = text;
    element.hidden = hidden;
  }

  #count(selector, value, detail = "") {
    const small = document.createElement("small");
    small.textContent = detail;
    this.find(selector).replaceChildren(String(value), ...(detail ? [" ", small] : []));
  }

  async #copy(button) {
    const code = this.find("code");
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "Copied";
    } catch {
      // Browsers give pages that come from another machine over plain HTTP no access to the clipboard.
      getSelection().selectAllChildren(code);
      button.textContent = "Selected: copy it";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  }
}

function duration(milliseconds) {
  return milliseconds < 1000 ? `${Math.round(milliseconds)} ms` : `${(milliseconds / 1000).toFixed(1)} s`;
}
