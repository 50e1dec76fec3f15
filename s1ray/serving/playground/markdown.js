// Markdown as elements. The text is untrusted: it is read into tokens, and each token becomes an element of a kind named
// here, with text inside. HTML in it stays text, pictures are never loaded, links are only followed by a click.

import { Marked } from "./assets/marked-18.2.1/marked.esm.js";
import { blockFormulaAt, formula, formulaAt, nextBlockFormula, nextFormula, withoutFormulas } from "./math.js";

const INTERVAL_MS = 100;
const COST_SHARE = 4;
const SURE_CHARACTERS = 12;
const SCHEMES = ["http:", "https:", "mailto:"];
const ENTITIES = { amp: "&", lt: "<", gt: ">", quot: "\"", apos: "'", nbsp: "\u00a0" };

const reader = new Marked({ gfm: true, breaks: true });
reader.use({
  extensions: [
    { name: "blockFormula", level: "block", start: nextBlockFormula, tokenizer: token("blockFormula", blockFormulaAt) },
    { name: "formula", level: "inline", start: nextFormula, tokenizer: token("formula", formulaAt) },
  ],
  hooks: { emStrongMask: withoutFormulas },
});

function token(type, read) {
  return (text) => {
    const found = read(text);
    return found ? { ...found, type } : undefined;
  };
}

/** Shows a growing text in an element: at most every 100 ms, and only the blocks that can still change. */
export class MarkdownView {
  /**
   * @param {Element} element its children are replaced
   * @param {(change: () => void) => void} around called with each change of the element
   */
  constructor(element, around = (change) => change()) {
    this.element = element;
    this.around = around;
    this.text = "";
    this.settled = [];
    this.growing = [];
    this.cost = 0;
    this.shownAt = 0;
    this.timer = null;
  }

  /** The text so far; it only grows. */
  update(text) {
    this.text = text;
    const due = this.shownAt + Math.max(INTERVAL_MS, COST_SHARE * this.cost);
    this.timer ??= setTimeout(() => this.#grow(), Math.max(0, due - performance.now()));
  }

  /** The text is complete: it is read as a whole, and blocks that read otherwise than before are replaced. */
  finish(text) {
    clearTimeout(this.timer);
    this.timer = null;
    this.text = text;
    const parts = read(text);
    // A definition of a link changes what the blocks before it say.
    const same = parts.some(({ type }) => type === "def") ? 0 : this.#sameAs(parts);
    const old = this.settled.splice(same).flatMap(({ nodes }) => nodes);
    const fresh = this.#settle(parts.slice(same));
    this.#replace([...old, ...this.growing], fresh);
    this.growing = [];
  }

  #grow() {
    const begun = performance.now();
    this.timer = null;
    const parts = read(this.text.slice(this.settledLength));
    const sure = surelyComplete(parts);
    const complete = this.#settle(parts.slice(0, sure));
    const growing = blocks(parts.slice(sure));
    this.#replace(this.growing, [...complete, ...growing]);
    this.growing = growing;
    this.shownAt = performance.now();
    this.cost = this.shownAt - begun;
  }

  get settledLength() {
    return this.settled.reduce((sum, { raw }) => sum + raw.length, 0);
  }

  #sameAs(parts) {
    const changed = this.settled.findIndex(({ raw }, index) => raw !== parts[index]?.raw);
    return changed < 0 ? this.settled.length : changed;
  }

  #settle(parts) {
    const made = parts.map((part) => ({ raw: part.raw, nodes: [block(part)].flat() }));
    this.settled.push(...made);
    return made.flatMap(({ nodes }) => nodes);
  }

  #replace(old, fresh) {
    this.around(() => {
      old.forEach((node) => node.remove());
      this.element.append(...fresh);
    });
  }
}

/** How many of the blocks cannot change any more, whatever follows. */
function surelyComplete(tokens) {
  const open = tokens.findIndex((block) => block.open);
  const within = open < 0 ? tokens : tokens.slice(0, open + 1);
  const isText = ({ type }) => type !== "space";
  const last = within.findLastIndex(isText);
  // A few characters may still become the next item of the list before them.
  if (last > 0 && within[last].raw.trimStart().length < SURE_CHARACTERS) {
    return Math.max(0, within.slice(0, last).findLastIndex(isText));
  }
  return Math.max(0, last);
}

/** The elements of a text. */
export const rendered = (text) => blocks(read(text));

/** The text's blocks. One that is nested too deeply to be read is shown as it was written. */
function read(text) {
  try {
    return reader.lexer(text);
  } catch (error) {
    if (error instanceof RangeError) return [{ type: "unread", raw: text }];
    throw error;
  }
}

function element(name, ...children) {
  const made = document.createElement(name);
  made.append(...children);
  return made;
}

const blocks = (tokens) => tokens.flatMap(block);

function block(part) {
  switch (part.type) {
    case "space":
    case "def":
      return [];
    case "heading":
      // The page's own headings are above those of an answer.
      return element(`h${Math.min(part.depth + 2, 6)}`, ...inlines(part.tokens));
    case "paragraph":
      return element("p", ...inlines(part.tokens));
    case "text":
      return part.tokens ? inlines(part.tokens) : plain(part.text);
    case "blockquote":
      return element("blockquote", ...blocks(part.tokens));
    case "list":
      return list(part);
    case "table":
      return table(part);
    case "code":
      return code(part);
    case "hr":
      return element("hr");
    case "blockFormula":
      return formula(part);
    case "checkbox":
      return checkbox(part);
    default: {
      const source = element("p", part.raw.trim());
      source.className = "as-written";
      return source;
    }
  }
}

function list({ ordered, start, items }) {
  const made = element(ordered ? "ol" : "ul", ...items.map((item) => element("li", ...blocks(item.tokens))));
  if (ordered && start !== 1) made.start = start;
  return made;
}

function table({ header, rows }) {
  const cell = (name, { tokens, align }) => {
    const made = element(name, ...inlines(tokens));
    if (align) made.className = align;
    return made;
  };
  const head = element("tr", ...header.map((one) => cell("th", one)));
  const body = rows.map((row) => element("tr", ...row.map((one) => cell("td", one))));
  return scrollable(element("div", element("table", element("thead", head), element("tbody", ...body))), "table", "Table");
}

function code({ text, lang }) {
  const box = element("div", element("pre", element("code", text)));
  if (lang) {
    const name = element("span", lang.split(/\s/)[0]);
    name.className = "language";
    box.prepend(name);
  }
  box.className = "code";
  scrollable(box.lastElementChild, "", "Code");
  return box;
}

function scrollable(box, name, label) {
  if (name) box.className = name;
  box.tabIndex = 0;
  box.role = "group";
  box.ariaLabel = label;
  return box;
}

const inlines = (tokens) => tokens.flatMap(inline);

function inline(part) {
  switch (part.type) {
    case "text":
      return part.tokens ? inlines(part.tokens) : plain(part.text);
    case "escape":
      return part.text;
    case "strong":
    case "em":
    case "del":
      return element(part.type, ...inlines(part.tokens));
    case "codespan":
      return element("code", part.text);
    case "br":
      return element("br");
    case "link":
      return link(part);
    case "image":
      return address("Picture, not loaded", [part.text], part.href);
    case "formula":
      return formula(part);
    case "checkbox":
      return checkbox(part);
    default:
      return /^<br\s*\/?>$/i.test(part.raw) ? element("br") : part.raw;
  }
}

/** A link that says where it leads. */
function link({ href, tokens, text, raw }) {
  const target = URL.canParse(href) ? new URL(href) : null;
  if (!target || !SCHEMES.includes(target.protocol)) return raw;
  const made = element("a", ...inlines(tokens));
  made.href = target.href;
  made.target = "_blank";
  made.rel = "noopener noreferrer nofollow";
  const place = target.host || target.pathname;
  return text.includes(place) ? made : [made, small(` (${place})`)];
}

function address(kind, texts, href) {
  const made = element("span", `${kind}: `, ...texts, small(` (${href})`));
  made.className = "not-loaded";
  return made;
}

const checkbox = ({ checked }) => (checked ? "☑ " : "☐ ");

const small = (text) => element("small", text);

/** Text with its entities read, as HTML would. */
function plain(text) {
  return text.replace(/&(?:#(\d{1,7})|#x([\da-f]{1,6})|(\w+));/gi, (all, decimal, hexadecimal, name) => {
    if (name) return Object.hasOwn(ENTITIES, name) ? ENTITIES[name] : all;
    const point = decimal ? Number(decimal) : Number.parseInt(hexadecimal, 16);
    return point > 0 && point <= 0x10ffff ? String.fromCodePoint(point) : all;
  });
}
