// The page: a question, settings that the panes share, and one or two panes.

import { Pane } from "./pane.js";
import { loadModels } from "./stream.js";

const FALLBACK_MAXIMUM = 32768;
const FIRST_BUDGET = 256;

const by = (id) => document.getElementById(id);
const base = new URL("v1", document.baseURI).href;
const number = (input) => (input.value === "" ? null : Number(input.value));

const models = new Map();
let editing = null;
const page = { settings, changed: refresh, announce, edit, again };
const panes = [new Pane("First budget", page), new Pane("Second budget", page)];

function settings() {
  return {
    base,
    key: by("key").value,
    model: by("model").value,
    question: by("question").value,
    index: editing ?? Infinity,
    system: by("system").value,
    withThinking: by("with-thinking").checked,
    waitText: by("wait-text").value,
    minimum: number(by("minimum")) ?? 0,
    answerMaximum: number(by("answer-maximum")),
    reserve: number(by("reserve")),
    loops: number(by("loops")) ?? 0,
    temperature: number(by("temperature")),
    limit: number(by("limit")),
  };
}

function shownPanes() {
  return by("compare").checked ? panes : panes.slice(0, 1);
}

function describe() {
  panes.forEach((pane) => pane.describe());
}

function refresh() {
  const running = panes.some((pane) => pane.running);
  const focused = document.activeElement;
  by("submit").hidden = running;
  by("submit").disabled = running || !models.size;
  by("stop").hidden = !running;
  by("shortcut").hidden = running;
  if (focused === by("submit") && running) by("stop").focus();
  if (focused === by("stop") && !running) by("submit").focus();
  by("clear").disabled = !panes[0].turns.length;
}

function announce(text) {
  by("announce").textContent = text;
}

async function readModels() {
  try {
    const cards = await loadModels(by("key").value);
    const chosen = by("model").value;
    models.clear();
    for (const card of cards) models.set(card.id, card.metadata ?? {});
    by("model").replaceChildren(...[...models.keys()].map((name) => new Option(name, name, false, name === chosen)));
    by("model").disabled = false;
    showProblem("");
    chooseModel();
  } catch (error) {
    by("model").replaceChildren(new Option("no models"));
    showProblem(error.message);
    if (isAboutKey(error)) askForKey();
  }
  refresh();
}

const isAboutKey = ({ status }) => status === 401 || status === 403;

function chooseModel() {
  const card = models.get(by("model").value);
  const cap = card.maximum_thinking_tokens ?? null;
  const context = card.max_model_len ?? card.max_request_context_length ?? null;
  const maximum = cap ?? context ?? FALLBACK_MAXIMUM;
  const first = Math.min(card.default_thinking_tokens ?? FIRST_BUDGET, maximum);
  panes.forEach((pane, index) => {
    const isNew = pane.maximum === undefined;
    pane.setLimits({ maximum, isServers: cap !== null, efforts: card.effort ?? {}, context });
    if (isNew) pane.setBudget(index === 0 ? first : Math.floor(first / 8));
  });
  describe();
}

function showProblem(message) {
  by("problem").textContent = message;
  by("problem").hidden = !message;
}

function askForKey() {
  by("settings").open = true;
  by("key").focus();
}

async function askAll() {
  if (by("submit").disabled) return;
  const question = by("question").value;
  if (!question.trim()) {
    showProblem("Ask something first.");
    by("question").focus();
    return;
  }
  const { index } = settings();
  stopEditing();
  by("question").value = "";
  await finished(shownPanes().map((pane) => pane.ask(question, index)));
}

function again(pane) {
  if (!pane.running && models.size) finished([pane.again()]);
}

async function finished(responses) {
  showProblem("");
  describe();
  const results = await Promise.all(responses);
  announce(results.map((result) => result.summary ?? "").join(" "));
  if (results.some(isAboutKey)) askForKey();
}

/** Put an earlier question back into the box; asking it replaces that turn and those after it. */
function edit(index, question) {
  editing = index;
  by("question").value = question;
  by("editing-text").textContent = `Editing question ${index + 1}; asking it replaces what follows.`;
  by("editing").hidden = false;
  by("question").focus();
  describe();
}

function stopEditing() {
  editing = null;
  by("editing").hidden = true;
}

function clear() {
  stopEditing();
  panes.forEach((pane) => pane.clear());
  showProblem("");
  refresh();
  announce("The conversation is empty.");
  by("question").focus();
}

function showPanes() {
  const shown = shownPanes();
  for (const pane of panes) {
    pane.root.hidden = !shown.includes(pane);
    if (pane.root.hidden) pane.stop();
  }
  document.body.classList.toggle("comparing", shown.length > 1);
}

by("panes").append(...panes.map((pane) => pane.root));
by("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  askAll();
});
by("ask").addEventListener("input", describe);
by("question").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    askAll();
  }
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") panes.forEach((pane) => pane.stop());
});
by("stop").addEventListener("click", () => panes.forEach((pane) => pane.stop()));
by("clear").addEventListener("click", clear);
by("cancel").addEventListener("click", () => {
  stopEditing();
  by("question").value = "";
  by("question").focus();
  describe();
});
by("compare").addEventListener("change", () => {
  if (by("compare").checked) panes[1].copyFrom(panes[0]);
  showPanes();
});
by("model").addEventListener("change", chooseModel);
by("key").addEventListener("change", readModels);
by("shortcut").textContent = /Mac|iP(hone|ad)/.test(navigator.userAgent) ? "⌘ ↵" : "Ctrl ↵";

showPanes();
refresh();
readModels();
