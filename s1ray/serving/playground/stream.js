// The server's API: its models, and a chat completion as a stream.

/** A request that got no complete response; `message` is shown on the page. */
export class RequestError extends Error {
  constructor(message, status = 0) {
    super(message);
    this.status = status;
  }
}

/** The model cards of `/v1/models`. */
export async function loadModels(key) {
  const response = await send("v1/models", { headers: headers(key) });
  const cards = (await response.json()).data;
  if (!Array.isArray(cards) || !cards.length) throw new RequestError("The server lists no models.");
  return cards;
}

/**
 * Send a request and yield its stream: {thinking, answer} are pieces of text, {promptTokens, thinkingTokens, completionTokens} the
 * server's counts so far, {accounting, finish} come at the end.
 */
export async function* ask(body, { key, signal }) {
  const request = { ...body, stream: true, stream_options: { include_usage: true, continuous_usage_stats: true } };
  const options = { method: "POST", headers: headers(key), body: JSON.stringify(request), signal };
  const response = await send("v1/chat/completions", options);
  let finished = false;
  for await (const data of events(response.body)) {
    if (data.error) throw new RequestError(data.error.message ?? "The server failed during the response.");
    const choice = data.choices?.[0];
    finished ||= Boolean(choice?.finish_reason);
    yield {
      thinking: choice?.delta?.reasoning ?? choice?.delta?.reasoning_content ?? "",
      answer: choice?.delta?.content ?? "",
      promptTokens: data.usage?.prompt_tokens,
      thinkingTokens: data.usage?.completion_tokens_details?.reasoning_tokens,
      completionTokens: data.usage?.completion_tokens,
      accounting: choice?.thinking,
      finish: choice?.finish_reason,
    };
  }
  if (!finished) throw new RequestError("The connection ended before the response did.");
}

function headers(key) {
  const all = { "Content-Type": "application/json" };
  if (/[^\x21-\x7e]/.test(key)) throw new RequestError("The API key contains invalid characters.");
  if (key) all.Authorization = `Bearer ${key}`;
  return all;
}

async function send(path, options) {
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new RequestError("The server cannot be reached. Is it running?");
  }
  if (response.ok) return response;
  throw new RequestError(await explanation(response), response.status);
}

async function explanation(response) {
  const { status } = response;
  let said = "";
  try {
    said = (await response.json()).error?.message ?? "";
  } catch {
    // The response comes from something in front of the server, so only its status is known.
  }
  const after = response.headers.get("Retry-After");
  const when = status === 429 && /^\d+$/.test(after ?? "") ? ` (in ${after} s)` : "";
  return said ? `${sentence(said)}${when}` : `The server answered with status ${status}${when}.`;
}

/** Capitalized, unless the text begins with a field's name. */
function sentence(text) {
  return /^[a-z]+ /.test(text) ? text.charAt(0).toUpperCase() + text.slice(1) : text;
}

/** The JSON objects of a stream of server-sent events. */
async function* events(stream) {
  const reader = stream.getReader();
  const decoder = new TextDecoder();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read().catch(lost);
      if (done) return;
      const lines = (rest + decoder.decode(value, { stream: true })).split("\n");
      rest = lines.pop();
      for (const line of lines) {
        if (line.startsWith("data: {")) yield JSON.parse(line.slice("data: ".length));
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

function lost(error) {
  if (error.name === "AbortError") throw error;
  throw new RequestError("The connection was lost during the response.");
}
