// One question and its response: the stream, the text, the counts, and how it ended.

import { MarkdownView } from "./markdown.js";
import { RequestError, ask } from "./stream.js";

const ENDS = { budget: "cut at the budget", context: "cut to leave room for the answer", loop: "cut in a loop" };
const NEAR_END_PX = 24;
const INTERVAL_MS = 100;

export class Turn {
  /**
   * @param {string} question
   * @param {object} page what the turn tells the pane: follow(change), progress(), phase(text), edit(), again()
   */
  constructor(question, page) {
    this.question = question;
    this.page = page;
    this.root = document.getElementById("turn").content.firstElementChild.cloneNode(true);
    this.find = (selector) => this.root.querySelector(selector);
    this.find(".question").textContent = question;
    this.views = { thinking: null, answer: new MarkdownView(this.find(".answer"), page.follow) };
    this.controller = null;
    this.timer = null;
    this.waitsNote = [];
    this.#reset();
    this.#listen();
  }

  get running() {
    return this.controller !== null;
  }

  /** A finished copy for another pane. */
  copy(page) {
    const made = new Turn(this.question, page);
    for (const name of ["text", "counted", "completion", "prompt", "accounting", "finishReason", "outcome"]) made[name] = this[name];
    made.#showEnd();
    made.fold();
    return made;
  }

  /** Send a request and show its stream until it ends or is stopped. */
  async run(body, key) {
    this.controller = new AbortController();
    this.#begin();
    try {
      for await (const piece of ask(body, { key, signal: this.controller.signal })) this.#take(piece);
      this.outcome = { note: this.#note() };
      return { summary: this.#summary() };
    } catch (error) {
      if (error.name === "AbortError") {
        this.outcome = { ended: "stopped by you", note: "live counts of what had arrived" };
        return { summary: "Stopped." };
      }
      const message = error instanceof RequestError ? error.message : `The page failed: ${error.message}`;
      this.outcome = { ended: "failed", error: message, note: "" };
      return { error: message, status: error.status };
    } finally {
      this.controller = null;
      this.#flush();
      this.page.follow(() => this.#showEnd());
    }
  }

  stop() {
    this.controller?.abort();
  }

  /** Hide the thinking's text; its summary stays. */
  fold() {
    this.find(".thinking-box").open = false;
  }

  #listen() {
    this.find(".edit").addEventListener("click", () => this.page.edit(this));
    this.find(".again").addEventListener("click", () => this.page.again(this));
    this.find(".stop").addEventListener("click", () => this.stop());
    this.find(".copy").addEventListener("click", (event) => copyText(event.target, this.text.answer));
    this.find(".format").addEventListener("click", () => this.#format(!this.views.thinking));
  }

  #reset() {
    this.text = { thinking: "", answer: "" };
    this.shown = 0;
    this.counted = { thinking: 0, answer: 0 };
    this.beforeAnswer = 0;
    this.completion = 0;
    this.prompt = null;
    this.accounting = null;
    this.finishReason = null;
    this.outcome = null;
  }

  #begin() {
    this.#reset();
    this.startedAt = performance.now();
    this.firstAt = null;
    this.find(".thinking").replaceChildren(document.createTextNode(""));
    this.views.answer.finish("");
    this.find(".thinking-box").hidden = true;
    this.find(".thinking-box").open = true;
    this.find(".hint").hidden = false;
    this.find(".outcome").hidden = true;
    this.#say(".error", "");
    this.#say(".note", "live counts");
    this.root.setAttribute("aria-busy", "true");
    this.root.classList.add("streaming");
    this.page.phase("Waiting for the first token.");
  }

  #take(piece) {
    this.prompt = piece.promptTokens ?? this.prompt;
    this.completion = piece.completionTokens ?? this.completion;
    for (const name of ["thinking", "answer"]) {
      if (!piece[name]) continue;
      this.firstAt ??= performance.now();
      if (!this.text[name]) this.page.phase(name === "thinking" ? "Thinking." : "Answering.");
      this.text[name] += this.text[name] ? piece[name] : piece[name].trimStart();
    }
    // If the server sends no counts, each piece counts as a token.
    if (piece.thinkingTokens !== undefined) this.counted.thinking = piece.thinkingTokens;
    else if (piece.thinking) this.counted.thinking += 1;
    if (piece.completionTokens === undefined) this.counted.answer += piece.answer ? 1 : 0;
    else if (piece.answer) this.counted.answer = this.completion - this.beforeAnswer;
    else if (!this.text.answer) this.beforeAnswer = this.completion;
    this.accounting = piece.accounting ?? this.accounting;
    this.finishReason = piece.finish ?? this.finishReason;
    this.timer ??= setTimeout(() => this.#flush(), INTERVAL_MS);
  }

  /** Show what has arrived since the last time. */
  #flush() {
    clearTimeout(this.timer);
    this.timer = null;
    this.page.follow(() => {
      if (this.text.thinking) this.#showThinking();
      if (this.text.answer) {
        this.find(".hint").hidden = true;
        this.views.answer.update(this.text.answer);
      }
      this.#say(".thinking-count", `${this.counted.thinking} tokens`);
      this.#say(".note", `live counts · ${this.counted.answer} answer tokens`);
    });
    this.page.progress(this);
  }

  #showThinking() {
    this.find(".hint").hidden = true;
    this.find(".thinking-box").hidden = false;
    if (this.views.thinking) {
      this.views.thinking.update(this.text.thinking);
      return;
    }
    const box = this.find(".thinking");
    const arrived = this.text.thinking.slice(this.shown);
    if (!arrived) return;
    const follows = box.scrollHeight - box.scrollTop - box.clientHeight < NEAR_END_PX;
    box.firstChild.appendData(arrived);
    this.shown = this.text.thinking.length;
    if (follows) box.scrollTop = box.scrollHeight;
  }

  /** Show the thinking as Markdown, or as the model wrote it. */
  #format(wanted) {
    this.find(".format").setAttribute("aria-pressed", String(wanted));
    this.find(".thinking").classList.toggle("rendered", wanted);
    this.views.thinking = wanted ? new MarkdownView(this.find(".thinking"), this.page.follow) : null;
    if (wanted) this.views.thinking.finish(this.text.thinking);
    else this.#showPlainThinking();
  }

  #showPlainThinking() {
    this.find(".thinking").replaceChildren(document.createTextNode(this.text.thinking));
    this.shown = this.text.thinking.length;
    if (!this.running) this.#markWaits();
  }

  #showEnd() {
    this.root.setAttribute("aria-busy", "false");
    this.root.classList.remove("streaming");
    this.find(".hint").hidden = true;
    this.find(".thinking-box").hidden = !this.text.thinking;
    this.find(".copy").hidden = !this.text.answer;
    if (this.views.thinking) this.views.thinking.finish(this.text.thinking);
    else this.#showPlainThinking();
    this.views.answer.finish(this.text.answer);
    this.#showOutcome();
    this.#say(".error", this.outcome.error ?? "");
    this.page.progress(this);
  }

  #showOutcome() {
    const said = this.accounting;
    const thinking = said?.thinking_tokens ?? this.counted.thinking;
    this.find(".outcome").hidden = Boolean(this.outcome.error) && !this.completion;
    this.#count(".count-thinking", thinking, said && said.limit !== null ? `of ${said.limit}` : "");
    this.#count(".count-answer", said?.answer_tokens ?? this.counted.answer);
    this.#count(".count-waits", said?.waits ?? "–", said?.budget.waits ? `of ${said.budget.waits}` : "");
    this.#say(".waits-name", said && !said.budget.wait_text ? "Stops swallowed" : "Waits");
    this.#say(".ended", this.#ended());
    this.find(".ended").classList.toggle("forced", Boolean(said?.end_forced));
    this.#say(".thinking-count", `${thinking} tokens`);
    const cut = this.#answerCut();
    this.#say(".answer-cut", cut ?? "");
    this.#say(".note", [this.outcome.note, ...this.waitsNote].filter(Boolean).join(" · "));
  }

  #ended() {
    if (this.outcome.ended) return this.outcome.ended;
    if (!this.accounting) return "not said";
    if (this.accounting.limit === 0) return "no thinking";
    return ENDS[this.accounting.end_forced] ?? "by itself";
  }

  /** Words for an answer that is not complete, or null. */
  #answerCut() {
    const said = this.accounting;
    if (!(said?.answer_cut ?? this.finishReason === "length")) return null;
    const most = said?.budget.answer_max_tokens;
    if (most && said.answer_tokens >= most) return `Answer cut at its maximum of ${most} tokens`;
    return "Answer cut: no tokens left";
  }

  #note() {
    const parts = [duration(performance.now() - this.startedAt)];
    if (this.firstAt !== null) parts.push(`first token after ${duration(this.firstAt - this.startedAt)}`);
    parts.push(this.accounting ? "counted from token ids" : "live counts: the server sent no accounting");
    return parts.join(" · ");
  }

  /** Mark the inserted waits if the text identifies them without doubt; `waitsNote` says so, or why not. */
  #markWaits() {
    this.waitsNote = [];
    const { waits, budget } = this.accounting ?? {};
    const wait = budget?.wait_text;
    if (!waits || typeof wait !== "string" || !wait) return;
    const pieces = this.text.thinking.split(wait);
    if (pieces.length - 1 !== waits) {
      const found = `“${wait}” occurs ${pieces.length - 1} times, ${waits} of them inserted`;
      this.waitsNote = [`${found}; the text does not show which`];
      return;
    }
    const nodes = pieces.flatMap((piece, index) => {
      if (index === 0) return [piece];
      const mark = document.createElement("mark");
      mark.textContent = wait;
      mark.title = "The model wanted to stop here";
      return [mark, piece];
    });
    this.find(".thinking").replaceChildren(...nodes);
    this.waitsNote = ["inserted waits are marked"];
  }

  #summary() {
    const said = this.accounting;
    if (!said) return "The response is complete.";
    const cut = this.#answerCut();
    const counts = `${said.thinking_tokens} thinking tokens, ${said.answer_tokens} answer tokens`;
    return `${counts}. Thinking ended: ${ENDS[said.end_forced] ?? "by itself"}.${cut ? ` ${cut}.` : ""}`;
  }

  #say(selector, text) {
    const element = this.find(selector);
    element.textContent = text;
    element.hidden = !text;
  }

  #count(selector, value, detail = "") {
    const small = document.createElement("small");
    small.textContent = detail;
    this.find(selector).replaceChildren(String(value), ...(detail ? [" ", small] : []));
  }
}

/** Copy a text, and say so on the button; `shown`: the element to select where the clipboard is out of reach. */
export async function copyText(button, text, shown = null) {
  const label = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    // Browsers give pages that come from another machine over plain HTTP no access to the clipboard.
    if (shown) getSelection().selectAllChildren(shown);
    button.textContent = shown ? "Selected: copy it" : "Not allowed here";
  }
  setTimeout(() => { button.textContent = label; }, 2000);
}

function duration(milliseconds) {
  return milliseconds < 1000 ? `${Math.round(milliseconds)} ms` : `${(milliseconds / 1000).toFixed(1)} s`;
}
