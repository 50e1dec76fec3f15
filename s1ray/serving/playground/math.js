// Formulas: where they are in a text, and how they look. KaTeX builds elements; no text is ever parsed as HTML.

import "./assets/katex-0.19.1/katex.min.js";

const LONGEST = 8000;
const TREES = 400;

// `$..$` as in pandoc: no space inside its ends, no digit after it, so that prices stay text.
const DOLLARS = /^\$(?![\s$])((?:\\[^]|[^\\$`\n]|\n(?!\s*\n))+?)(?<!\s)\$(?![\d$])/;
const DISPLAY = [["$$", "$$"], ["\\[", "\\]"]];
const ALL = [...DISPLAY, ["\\(", "\\)"]];

/** The formula that a text begins with, as {raw, tex, display}; null if it begins with none, or with none yet. */
export function formulaAt(text) {
  for (const [open, close] of ALL) {
    if (!text.startsWith(open)) continue;
    const end = closing(text, open, close);
    if (end < 0) return null;
    const tex = text.slice(open.length, end);
    return tex.trim() ? { raw: text.slice(0, end + close.length), tex, display: open !== "\\(" } : null;
  }
  const [raw, tex] = DOLLARS.exec(text.slice(0, LONGEST)) ?? [];
  return raw ? { raw, tex, display: false } : null;
}

function closing(text, open, close) {
  const within = text.slice(0, LONGEST);
  for (let at = within.indexOf(close, open.length); at >= 0; at = within.indexOf(close, at + 1)) {
    let slashes = 0;
    while (within[at - 1 - slashes] === "\\") slashes += 1;
    // "\\]" is a line break of the formula and a bracket.
    if (slashes % 2 === 0) return at;
  }
  return -1;
}

/** A display formula that begins a block and stands alone on its lines; `open`: its end has not come yet. */
export function blockFormulaAt(text) {
  const indent = /^ {0,3}(?=\$\$|\\\[)/.exec(text);
  if (!indent) return null;
  const body = text.slice(indent[0].length);
  const found = formulaAt(body);
  if (found) {
    const after = /^[ \t]*(?:\n|$)/.exec(body.slice(found.raw.length));
    return after && { ...found, raw: indent[0] + found.raw + after[0], open: false };
  }
  const [open, close] = DISPLAY.find(([delimiter]) => body.startsWith(delimiter));
  if (closing(body, open, close) >= 0) return null;
  const [raw] = /^[^]+?(?=\n[ \t]*\n|$)/.exec(text);
  return { raw, tex: raw, display: true, open: true };
}

/** Where the next formula may begin, or -1. */
export const nextFormula = (text) => text.search(/\$|\\[([]/);

/** Where the next block formula may begin, or -1: the line break before it. */
export const nextBlockFormula = (text) => text.search(/\n {0,3}(?:\$\$|\\\[)/);

/** The text with letters in place of its formulas, of the same length. */
export function withoutFormulas(text) {
  let masked = "";
  for (let at = 0; at < text.length;) {
    const step = nextFormula(text.slice(at));
    if (step < 0) return masked + text.slice(at);
    masked += text.slice(at, at + step);
    at += step;
    const found = formulaAt(text.slice(at));
    masked += found ? "a".repeat(found.raw.length) : text[at];
    at += found ? found.raw.length : 1;
  }
  return masked;
}

const trees = new Map();

/** An element with the formula; with its source if KaTeX cannot read it. */
export function formula({ raw, tex, display }) {
  const box = document.createElement("span");
  box.className = display ? "formula display" : "formula";
  try {
    box.append(tree(tex, display).toNode());
    for (const svg of box.querySelectorAll("svg[data-width]")) svg.style.width = svg.dataset.width;
  } catch {
    box.className += " source";
    box.textContent = raw.trim();
  }
  if (display) {
    // So that a long formula can be scrolled from the keyboard.
    box.tabIndex = 0;
    box.role = "group";
    box.ariaLabel = "Formula";
  }
  return box;
}

function tree(tex, display) {
  const key = `${display}${tex}`;
  if (!trees.has(key)) {
    if (trees.size >= TREES) trees.clear();
    const options = { displayMode: display, trust: false, strict: "ignore", maxSize: 20, maxExpand: 300 };
    const built = globalThis.katex.__renderToDomTree(tex, options);
    moveStyles(built);
    trees.set(key, built);
  }
  return trees.get(key);
}

/** The page's policy forbids style attributes; KaTeX has one where it matters, the width of a drawing. */
function moveStyles(node) {
  if (node.attributes?.style !== undefined) {
    const width = /^width:([\d.]+em)$/.exec(node.attributes.style)?.[1];
    delete node.attributes.style;
    if (width) node.attributes["data-width"] = width;
  }
  for (const child of node.children ?? []) moveStyles(child);
}
