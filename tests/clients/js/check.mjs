// What the JavaScript checks share: run a call and print one line of JSON; tests/clients/check.py says what is judged.
import { createRequire } from "node:module";

export const URL = process.env.S1RAY_URL;
export const QUESTION = "What is 12 + 30?";
export const BUDGET = 12;
export const SCHEMA = {
  type: "object",
  properties: { n: { enum: [1, 2] } },
  required: ["n"],
  additionalProperties: false,
};
// What a completion shows.
export const WHOLE = "`text` holds thinking and answer, delimiters included; `thinking` holds both apart";

const MARKERS = ["<|im_start|>", "<|im_end|>"];
const { dependencies } = createRequire(import.meta.url)("./package.json");

async function recorded() {
  return (await fetch(`${URL}/-/recorded`)).json();
}

function sum(records, name) {
  return records.reduce((total, record) => total + (record[name] ?? 0), 0);
}

function judge(shown, records) {
  const problems = records.filter((r) => r.error).map((r) => `${r.path}: ${JSON.stringify(r.error)}`);
  if (!records.length) problems.push("the server got no request");
  if (!shown.answer?.trim()) problems.push("no answer");
  for (const marker of MARKERS) {
    if ((shown.answer + (shown.thinking ?? "")).includes(marker)) problems.push(`${marker} in the text`);
  }
  for (const name of ["output", "thinking"]) {
    const value = shown[`${name}_tokens`];
    const right = sum(records, name);
    if (value != null && value !== right) problems.push(`${value} ${name} tokens, but the server counted ${right}`);
  }
  if (!sum(records, "thinking")) problems.push("the server's account has no thinking");
  if (shown.thinking != null && !shown.thinking.trim()) problems.push("the thinking is empty");
  return problems;
}

// `run` gives {answer, thinking, output_tokens, thinking_tokens, note}; null where the client has no place for it.
export async function check(client, call, run) {
  await recorded();
  const empty = { answer: "", thinking: null, output_tokens: null, thinking_tokens: null, note: "" };
  const result = { client, version: dependencies[client], call, ...empty };
  try {
    const shown = { ...empty, ...(await run()) };
    Object.assign(result, shown, { problems: judge(shown, await recorded()) });
  } catch (error) {
    console.error(error);
    const said = (await recorded()).filter((record) => record.status !== 200 || record.error);
    const problems = [String(error).slice(0, 300), ...said.map((record) => JSON.stringify(record).slice(0, 300))];
    Object.assign(result, { problems });
  }
  console.log(JSON.stringify(result));
}
