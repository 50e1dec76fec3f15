// The page's requests: as JSON, as a shell command and as a Python program. Nothing here touches the page.

/** The slider's stops: 0 (answer at once), then two per doubling, then the largest budget. */
export function stopsUpTo(maximum) {
  const stops = [0];
  for (let power = 16; power < maximum; power *= 2) {
    stops.push(power);
    if (power * 1.5 < maximum) stops.push(power * 1.5);
  }
  if (maximum > 0) stops.push(maximum);
  return stops;
}

/** The position of a number of tokens among the stops, from 0 to 1. */
export function positionOf(tokens, stops) {
  const last = stops.length - 1;
  if (last < 1 || tokens <= 0) return 0;
  if (tokens >= stops[last]) return 1;
  const above = stops.findIndex((stop) => stop > tokens);
  const [low, high] = [stops[above - 1], stops[above]];
  const between = low === 0 ? tokens / high : Math.log(tokens / low) / Math.log(high / low);
  return (above - 1 + between) / last;
}

/** The messages of a request: the system prompt, the earlier turns, and the question. */
export function messagesOf({ system, question, withThinking }, turns) {
  const messages = system.trim() ? [{ role: "system", content: system }] : [];
  for (const turn of turns) {
    // Chat templates expect question and answer to alternate.
    if (!turn.text.answer.trim()) continue;
    const reply = { role: "assistant", content: turn.text.answer };
    if (withThinking && turn.text.thinking) reply.reasoning = turn.text.thinking;
    messages.push({ role: "user", content: turn.question }, reply);
  }
  return [...messages, { role: "user", content: question }];
}

/** The body of a chat completion, with only the settings that were made. */
export function chatBody(messages, { model, temperature, limit, ...asked }) {
  const body = { model, messages };
  if (temperature !== null) body.temperature = temperature;
  if (limit !== null) body.max_tokens = limit;
  return { ...body, thinking: thinkingOf(asked) };
}

function thinkingOf({ budget, effort, waits, waitText, minimum, answerMaximum, reserve, loops }) {
  const thinking = effort ? { effort } : { max_tokens: budget };
  if (budget > 0 && waits > 0) thinking.waits = waits;
  if (minimum > 0) thinking.min_tokens = minimum;
  if ((thinking.waits || thinking.min_tokens) && waitText !== "Wait") thinking.wait_text = waitText || null;
  if (answerMaximum !== null) thinking.answer_max_tokens = answerMaximum;
  if (reserve !== null) thinking.answer_reserve = reserve;
  if (loops > 0) thinking.loops = loops;
  return thinking;
}

/** The request as a command for a POSIX shell. */
export function asCurl(base, body, hasKey) {
  const fields = Object.entries(body).map(([name, value]) => `    ${JSON.stringify(name)}: ${literal(value, "null")}`);
  const json = `{\n${fields.join(",\n")}\n  }`;
  return [
    `curl ${shellQuoted(`${base}/chat/completions`)}`,
    "-H 'Content-Type: application/json'",
    ...(hasKey ? ['-H "Authorization: Bearer $S1RAY_API_KEY"'] : []),
    `-d ${shellQuoted(json)}`,
  ].join(" \\\n  ");
}

/** The request as a Python program for OpenAI's client. */
export function asPython(base, body, hasKey) {
  const { thinking, ...fields } = body;
  const given = Object.entries(fields).map(([name, value]) => `    ${name}=${literal(value, "None")},`);
  const key = hasKey ? 'os.environ["S1RAY_API_KEY"]' : '"unused"';
  return [
    ...(hasKey ? ["import os", ""] : []),
    "from openai import OpenAI",
    "",
    `client = OpenAI(base_url=${literal(base, "None")}, api_key=${key})`,
    "reply = client.chat.completions.create(",
    ...given,
    `    extra_body={"thinking": ${literal(thinking, "None")}},`,
    ")",
    "choice = reply.choices[0]",
    "print(choice.message.reasoning_content)  # the thinking",
    "print(choice.message.content)  # the answer",
    "print(choice.thinking)  # tokens, waits and forced ends",
    "",
  ].join("\n");
}

function shellQuoted(text) {
  return /^[\w.:/-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

/** A value on one line, in JSON or Python: both write strings and numbers in the same way. */
function literal(value, nothing) {
  if (value === null) return nothing;
  if (Array.isArray(value)) return `[${value.map((item) => literal(item, nothing)).join(", ")}]`;
  if (typeof value !== "object") return JSON.stringify(value);
  const items = Object.entries(value).map(([name, item]) => `${JSON.stringify(name)}: ${literal(item, nothing)}`);
  return `{${items.join(", ")}}`;
}
