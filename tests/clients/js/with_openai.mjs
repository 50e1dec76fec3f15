// The `openai` client for JavaScript: chat completions, completions and responses.
import OpenAI from "openai";
import { BUDGET, QUESTION, SCHEMA, URL, WHOLE, check } from "./check.mjs";

const client = new OpenAI({ baseURL: `${URL}/v1`, apiKey: "unused", maxRetries: 0 });
const thinking = { max_tokens: BUDGET };
const chat = { model: "s1", messages: [{ role: "user", content: QUESTION }], max_tokens: 400, thinking };
const asked = { model: "s1", input: QUESTION, max_output_tokens: 400, thinking };

function ofChat(answer, reasoning, usage) {
  return {
    answer,
    thinking: reasoning,
    output_tokens: usage.completion_tokens,
    thinking_tokens: usage.completion_tokens_details.reasoning_tokens,
  };
}

function ofResponse(response) {
  const reasoning = response.output.filter((item) => item.type === "reasoning");
  return {
    answer: response.output_text,
    thinking: reasoning.flatMap((item) => item.content.map((part) => part.text)).join(""),
    output_tokens: response.usage.output_tokens,
    thinking_tokens: response.usage.output_tokens_details.reasoning_tokens,
  };
}

await check("openai", "chat.completions", async () => {
  const { choices, usage } = await client.chat.completions.create(chat);
  return ofChat(choices[0].message.content, choices[0].message.reasoning_content, usage);
});

await check("openai", "chat.completions, stream", async () => {
  let [answer, reasoning, usage] = ["", "", null];
  const fields = { ...chat, stream: true, stream_options: { include_usage: true } };
  for await (const chunk of await client.chat.completions.create(fields)) {
    usage = chunk.usage ?? usage;
    answer += chunk.choices[0]?.delta.content ?? "";
    reasoning += chunk.choices[0]?.delta.reasoning_content ?? "";
  }
  return ofChat(answer, reasoning, usage);
});

await check("openai", "chat.completions, tool", async () => {
  const tools = [{ type: "function", function: { name: "add", parameters: SCHEMA } }];
  const tool_choice = { type: "function", function: { name: "add" } };
  const { choices, usage } = await client.chat.completions.create({ ...chat, tools, tool_choice });
  const { message } = choices[0];
  return ofChat(message.tool_calls[0].function.arguments, message.reasoning_content, usage);
});

await check("openai", "completions", async () => {
  const fields = { model: "s1", prompt: `${QUESTION}\n`, max_tokens: 400, thinking };
  const { choices, usage } = await client.completions.create(fields);
  const { text, answer } = choices[0].thinking;
  // The text is what the model wrote, delimiters included; `thinking` has its two parts.
  if (!choices[0].text.includes(text) || !choices[0].text.includes(answer)) throw new Error("the text lacks a part");
  return { ...ofChat(answer, text, usage), note: WHOLE };
});

await check("openai", "responses", async () => ofResponse(await client.responses.create(asked)));

await check("openai", "responses, stream", async () => {
  const stream = client.responses.stream({ ...asked, thinking: undefined, reasoning: { effort: "low" } });
  let text = "";
  for await (const event of stream) if (event.type === "response.output_text.delta") text += event.delta;
  const last = await stream.finalResponse();
  if (last.output_text !== text) throw new Error("the last event has another text than the stream");
  return ofResponse(last);
});

await check("openai", "responses, tool and its output", async () => {
  const tools = [{ type: "function", name: "add", parameters: SCHEMA, strict: true }];
  const tool_choice = { type: "function", name: "add" };
  const first = await client.responses.create({ ...asked, tools, tool_choice });
  const call = first.output.at(-1);
  const result = { type: "function_call_output", call_id: call.call_id, output: "42" };
  const input = [{ role: "user", content: QUESTION }, ...first.output, result];
  const second = await client.responses.create({ ...asked, input, tools, tool_choice: "none" });
  const [before, after] = [ofResponse(first), ofResponse(second)];
  return {
    answer: JSON.stringify([call.arguments, after.answer]),
    thinking: after.thinking,
    output_tokens: before.output_tokens + after.output_tokens,
    thinking_tokens: before.thinking_tokens + after.thinking_tokens,
  };
});
