// One budget and its conversation: the dial, the meter, the turns, the request to copy.

import { showParts } from "./meter.js";
import { asCurl, asPython, chatBody, messagesOf, positionOf, stopsUpTo } from "./requests.js";
import { Turn, copyText } from "./turn.js";

const TICKS = [0, 16, 64, 256, 1024, 4096, 16384, 65536];
const TICK_ROOM = 0.07;
const LAST_TICK_ROOM = 0.1;
const NEAR_END_PX = 48;

export class Pane {
  /**
   * @param {string} label for screen readers
   * @param {object} page what the panes share: settings(), changed(), announce(text), edit(index, question)
   */
  constructor(label, page) {
    this.root = document.getElementById("pane").content.firstElementChild.cloneNode(true);
    this.root.setAttribute("aria-label", label);
    this.find = (selector) => this.root.querySelector(selector);
    this.label = label;
    this.page = page;
    this.turns = [];
    this.budget = 0;
    this.effort = "";
    this.efforts = {};
    this.stops = [0];
    this.context = null;
    this.language = asCurl;
    this.#listen();
  }

  get waits() {
    return Number(this.find(".waits-range").value);
  }

  get running() {
    return this.turns.some((turn) => turn.running);
  }

  /** Take a model's limits: the dial's end (`isServers`: it is the server's own), effort names, context in tokens. */
  setLimits({ maximum, isServers, efforts, context }) {
    Object.assign(this, { maximum, isServers, efforts, context, stops: stopsUpTo(maximum) });
    this.find(".budget-number").max = maximum;
    this.find(".budget-range").max = this.stops.length - 1;
    this.#drawTicks();
    const select = this.find(".effort");
    select.replaceChildren(new Option("own number", ""), ...Object.keys(efforts).map((name) => new Option(name)));
    this.find(".effort-label").hidden = !Object.keys(efforts).length;
    this.setBudget(Math.min(this.budget, maximum));
    this.#showMeter();
  }

  setBudget(tokens, effort = "") {
    this.budget = Math.round(Math.min(Math.max(tokens || 0, 0), this.maximum));
    this.effort = effort;
    this.find(".budget-number").value = this.budget;
    this.#showBudget();
  }

  /** Ask a question as turn number `index`; later turns are removed. */
  async ask(question, index) {
    this.#cut(index);
    this.turns.at(-1)?.fold();
    const turn = new Turn(question, this.#hooks());
    const body = this.#body(question);
    this.#add(turn);
    return this.#run(turn, body);
  }

  /** Ask the last question again, with the present settings. */
  async again() {
    const turn = this.turns.at(-1);
    return this.#run(turn, this.#body(turn.question, this.turns.slice(0, -1)));
  }

  stop() {
    this.turns.forEach((turn) => turn.stop());
  }

  clear() {
    this.#cut(0);
    this.#showMeter();
    this.describe();
  }

  /** Begin with another pane's finished turns. */
  copyFrom(other) {
    this.#cut(0);
    other.turns.filter((turn) => !turn.running).forEach((turn) => this.#add(turn.copy(this.#hooks())));
    this.#showMeter(this.turns.at(-1));
    this.describe();
  }

  /** Show the request that a click on "Ask" would send. */
  describe() {
    const { base, key, question, index } = this.page.settings();
    const body = this.#body(question, this.turns.slice(0, index));
    this.find(".request code").textContent = this.language(base, body, Boolean(key));
  }

  async #run(turn, body) {
    this.root.classList.add("streaming");
    const running = turn.run(body, this.page.settings().key);
    this.page.changed();
    this.#scroller().scrollTop = this.#scroller().scrollHeight;
    const result = await running;
    this.root.classList.remove("streaming");
    this.page.changed();
    this.describe();
    return result;
  }

  #hooks() {
    return {
      follow: (change) => this.#follow(change),
      progress: (turn) => this.#showMeter(turn),
      phase: (text) => this.page.announce(text),
      edit: (turn) => this.page.edit(this.turns.indexOf(turn), turn.question),
      again: () => this.page.again(this),
    };
  }

  #add(turn) {
    this.turns.push(turn);
    this.find(".empty").hidden = true;
    this.find(".turns").append(turn.root);
  }

  #cut(index) {
    for (const turn of this.turns.splice(index)) {
      turn.stop();
      turn.root.remove();
    }
    this.find(".empty").hidden = this.turns.length > 0;
  }

  #scroller() {
    const own = this.find(".scroll");
    return getComputedStyle(own).overflowY === "auto" ? own : document.scrollingElement;
  }

  /** Change something, and stay at the end if that is where the reader was. */
  #follow(change) {
    const box = this.#scroller();
    const follows = box.scrollHeight - box.scrollTop - box.clientHeight < NEAR_END_PX;
    change();
    if (follows) box.scrollTop = box.scrollHeight;
  }

  #listen() {
    this.find(".budget-range").addEventListener("input", (event) => {
      this.setBudget(this.stops[Number(event.target.value)]);
    });
    const number = this.find(".budget-number");
    number.addEventListener("input", () => {
      if (!number.validity.valid || number.value === "") return;
      this.budget = Number(number.value);
      this.effort = "";
      this.#showBudget();
    });
    number.addEventListener("change", () => this.setBudget(Number(number.value)));
    this.find(".effort").addEventListener("change", (event) => {
      const name = event.target.value;
      const tokens = this.efforts[name];
      this.setBudget(name ? (tokens === "auto" ? this.maximum : tokens) : this.budget, name);
    });
    this.find(".waits-range").addEventListener("input", () => this.#showBudget());
    for (const [selector, language] of [[".as-curl", asCurl], [".as-python", asPython]]) {
      this.find(selector).addEventListener("click", () => {
        this.language = language;
        this.find(".as-curl").setAttribute("aria-pressed", String(language === asCurl));
        this.find(".as-python").setAttribute("aria-pressed", String(language === asPython));
        this.describe();
      });
    }
    const code = this.find(".request code");
    this.find(".request .copy").addEventListener("click", (event) => copyText(event.target, code.textContent, code));
  }

  #body(question, turns = this.turns) {
    const settings = this.page.settings();
    const asked = { ...settings, budget: this.budget, effort: this.effort, waits: this.waits };
    return chatBody(messagesOf({ ...settings, question }, turns), asked);
  }

  #showBudget() {
    const range = this.find(".budget-range");
    const position = positionOf(this.budget, this.stops);
    range.value = Math.round(position * (this.stops.length - 1));
    range.setAttribute("aria-valuetext", `${this.budget} thinking tokens at most`);
    this.root.style.setProperty("--budget", position);
    this.root.style.setProperty("--digits", Math.max(String(this.budget).length, 1));
    this.find(".effort").value = this.effort;
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

  /** What a turn takes of the context, and of the budget. */
  #showMeter(turn = null) {
    const { limit, reserve, answerMaximum } = this.page.settings();
    const said = turn?.accounting;
    const thinking = said?.thinking_tokens ?? turn?.counted.thinking ?? 0;
    const answer = said?.answer_tokens ?? turn?.counted.answer ?? 0;
    const completion = turn?.completion ?? 0;
    showParts(this.root, {
      context: this.context, prompt: turn?.prompt ?? null, limit, reserve, answerMaximum, thinking, answer, completion,
    });
    this.root.style.setProperty("--spent", positionOf(thinking, this.stops));
  }
}
