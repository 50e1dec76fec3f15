// The page: a question, settings that the panes share, and one or two panes.

import { Pane } from "./pane.js";
import { loadModels } from "./stream.js";

const FALLBACK_MAXIMUM = 32768;
const FIRST_BUDGET = 256;

const by = (id) => document.getElementById(id);
const base = new URL("v1", document.baseURI).href;
const number = (input) => (input.value === "" ? null : Number(input.value));

const panes = [new Pane("First budget", settings, refresh), new Pane("Second budget", settings, refresh)];
const models = new Map();

function settings() {
  return {
    base,
    key: by("key").value,
    model: by("model").value,
    question: by("question").value,
    waitText: by("wait-text").value,
    minimum: number(by("minimum")) ?? 0,
    temperature: number(by("temperature")),
    limit: number(by("limit")),
  };
}

function shownPanes() {
  return by("compare").checked ? panes : panes.slice(0, 1);
}

function refresh() {
  const running = panes.some((pane) => pane.running);
  by("submit").disabled = running || !models.size;
  by("submit").textContent = running ? "Thinking…" : "Ask";
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
    if (error.status === 401 || error.status === 403) askForKey();
  }
  refresh();
}

function chooseModel() {
  const { maximum_thinking_tokens: cap, max_request_context_length: context, default_thinking_tokens: usual } =
    models.get(by("model").value);
  const maximum = cap ?? context ?? FALLBACK_MAXIMUM;
  panes.forEach((pane, index) => {
    const isNew = pane.maximum === undefined;
    pane.setMaximum(maximum, cap !== null && cap !== undefined);
    const first = Math.min(usual ?? FIRST_BUDGET, maximum);
    if (isNew) pane.setBudget(index === 0 ? first : Math.floor(first / 8));
  });
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
  if (!by("question").value.trim()) {
    showProblem("Ask something first.");
    by("question").focus();
    return;
  }
  showProblem("");
  by("announce").textContent = "";
  const results = await Promise.all(shownPanes().map((pane) => pane.run()));
  by("announce").textContent = results.map((result) => result.summary ?? "").join(" ");
  if (results.some((result) => result.status === 401 || result.status === 403)) askForKey();
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
by("ask").addEventListener("input", () => panes.forEach((pane) => pane.describe()));
by("question").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    by("ask").requestSubmit();
  }
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") panes.forEach((pane) => pane.stop());
});
by("compare").addEventListener("change", showPanes);
by("model").addEventListener("change", () => {
  chooseModel();
  panes.forEach((pane) => pane.describe());
});
by("key").addEventListener("change", readModels);
by("shortcut").textContent = /Mac|iP(hone|ad)/.test(navigator.userAgent) ? "⌘ ↵" : "Ctrl ↵";

showPanes();
readModels();
