// The `@anthropic-ai/sdk` client: messages, streams, and a tool whose result goes back with the blocks of thinking.
import Anthropic from "@anthropic-ai/sdk";
import { BUDGET, QUESTION, SCHEMA, URL, check } from "./check.mjs";

const NAME = "@anthropic-ai/sdk";
const client = new Anthropic({ baseURL: URL, apiKey: "unused", maxRetries: 0 });
const messages = [{ role: "user", content: QUESTION }];
const fields = { model: "s1", messages, max_tokens: 400, thinking: { type: "enabled", budget_tokens: BUDGET } };

function shown(message) {
  const text = (type, key) => message.content.filter((b) => b.type === type).map((b) => b[key]).join("");
  return {
    answer: text("text", "text"),
    thinking: text("thinking", "thinking"),
    output_tokens: message.usage.output_tokens,
    thinking_tokens: message.usage.output_tokens_details?.thinking_tokens,
  };
}

await check(NAME, "messages", async () => shown(await client.messages.create(fields)));

await check(NAME, "messages, stream", async () => {
  const stream = client.messages.stream(fields);
  let text = "";
  stream.on("text", (delta) => (text += delta));
  const last = shown(await stream.finalMessage());
  if (last.answer !== text) throw new Error("the final message has another text than the stream");
  return last;
});

await check(NAME, "messages, tool and its result", async () => {
  const tools = [{ name: "add", input_schema: SCHEMA }];
  const first = await client.messages.create({ ...fields, tools, tool_choice: { type: "tool", name: "add" } });
  const use = first.content.at(-1);
  const result = { type: "tool_result", tool_use_id: use.id, content: "42" };
  const turns = [
    ...messages,
    { role: "assistant", content: first.content },
    { role: "user", content: [result] },
  ];
  const second = await client.messages.create({ ...fields, messages: turns, tools, tool_choice: { type: "none" } });
  const [before, after] = [shown(first), shown(second)];
  return {
    answer: JSON.stringify([use.name, use.input, after.answer]),
    thinking: after.thinking,
    output_tokens: before.output_tokens + after.output_tokens,
    thinking_tokens: before.thinking_tokens + after.thinking_tokens,
  };
});
