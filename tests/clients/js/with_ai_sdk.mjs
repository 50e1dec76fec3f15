// The AI SDK (`ai`) with its providers: OpenAI (responses), OpenAI-compatible (chat completions) and Anthropic.
import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, jsonSchema, streamText, tool } from "ai";
import { BUDGET, QUESTION, SCHEMA, URL, check } from "./check.mjs";

globalThis.AI_SDK_LOG_WARNINGS = false;

const baseURL = `${URL}/v1`;
const apiKey = "unused";
const providers = {
  "@ai-sdk/openai": {
    model: createOpenAI({ baseURL, apiKey })("gpt-5"),
    providerOptions: { openai: { reasoningEffort: "low", reasoningSummary: "auto" } },
  },
  "@ai-sdk/openai-compatible": {
    model: createOpenAICompatible({ name: "s1ray", baseURL, apiKey, includeUsage: true })("s1"),
    providerOptions: { s1ray: { reasoningEffort: "low" } },
  },
  "@ai-sdk/anthropic": {
    model: createAnthropic({ baseURL, apiKey })("claude-s1"),
    providerOptions: { anthropic: { thinking: { type: "enabled", budgetTokens: BUDGET } } },
  },
};

function shown(answer, thinking, usage) {
  const thinking_tokens = usage.outputTokenDetails?.reasoningTokens ?? null;
  const note = thinking_tokens === null ? "has no count of thinking tokens for this API" : "";
  return { answer, thinking, output_tokens: usage.outputTokens, thinking_tokens, note };
}

for (const [name, { model, providerOptions }] of Object.entries(providers)) {
  const fields = { model, providerOptions, prompt: QUESTION, maxOutputTokens: 400, maxRetries: 0 };

  await check(name, "generateText", async () => {
    const { text, reasoningText, usage } = await generateText(fields);
    return shown(text, reasoningText ?? "", usage);
  });

  await check(name, "streamText", async () => {
    const onError = ({ error }) => console.error(error);
    const result = streamText({ ...fields, onError });
    let [text, reasoning] = ["", ""];
    for await (const part of result.fullStream) {
      if (part.type === "text-delta") text += part.text;
      if (part.type === "reasoning-delta") reasoning += part.text;
    }
    return shown(text, reasoning, await result.usage);
  });

  await check(name, "generateText, tool", async () => {
    const tools = { add: tool({ inputSchema: jsonSchema(SCHEMA) }) };
    const asked = { ...fields, tools, toolChoice: { type: "tool", toolName: "add" } };
    // With thinking enabled this client leaves the choice of a tool to Anthropic's models.
    const unasked = name === "@ai-sdk/anthropic";
    if (unasked) delete asked.providerOptions;
    const { toolCalls, reasoningText, usage } = await generateText(asked);
    const result = shown(JSON.stringify(toolCalls[0].input ?? {}), unasked ? null : (reasoningText ?? ""), usage);
    return unasked ? { ...result, note: "forces no tool where thinking is enabled" } : result;
  });
}
