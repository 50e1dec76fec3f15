// The context of a response: what prompt, thinking and answer take of it, what is kept for the answer, what is left.

const PARTS = ["prompt", "thinking", "answer", "kept", "left"];
const MOST_KEPT = 1024;
const KEPT_SHARE = 8;

/**
 * The parts of the context, in tokens; null: not known.
 *
 * @param {number|null} context tokens that prompt and response may have together
 * @param {number|null} limit tokens of the response at most
 * @param {number|null} reserve tokens that the request keeps for the answer; null: the server's rule
 * @param {number|null} answerMaximum tokens of the answer at most
 * @param {number} completion tokens of the response so far, delimiters included
 */
export function partsOf({ context, prompt, limit, reserve, answerMaximum, thinking, answer, completion }) {
  if (!context || prompt === null) return { prompt, thinking, answer, kept: null, left: null };
  const free = Math.max(0, context - prompt);
  const room = limit === null ? free : Math.min(free, limit);
  const asked = Math.max(1, reserve ?? Math.min(MOST_KEPT, Math.floor(room / KEPT_SHARE), answerMaximum ?? Infinity));
  const rest = Math.max(0, room - Math.max(completion, thinking + answer));
  const kept = Math.min(rest, Math.max(0, asked - answer));
  return { prompt, thinking, answer, kept, left: rest - kept };
}

/** Show the parts in a pane's meter. */
export function showParts(root, state) {
  const parts = partsOf(state);
  const whole = state.context ?? PARTS.reduce((sum, name) => sum + (parts[name] ?? 0), 0);
  for (const name of PARTS) {
    const tokens = parts[name];
    root.querySelector(`.bar .${name}`)?.style.setProperty("--share", whole ? (tokens ?? 0) / whole : 0);
    root.querySelector(`.legend .${name} dd`).textContent = tokens === null ? "–" : tokens.toLocaleString("en");
  }
  root.querySelector(".context-size").textContent = state.context ? `of ${state.context.toLocaleString("en")}` : "";
}
