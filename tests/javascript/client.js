// Asks a service with OpenAI's own client in every way, and prints what it got as JSON.

import OpenAI from "openai";

const client = new OpenAI({ baseURL: `${process.argv[2]}/v1`, apiKey: "unused", maxRetries: 0 });
const bank = {
  model: "bank_support",
  messages: [{ role: "user", content: "What is my balance?" }],
};
const deps = { axon: { deps: { customer_id: 123 } } };

const models = [];
for await (const model of client.models.list()) models.push(model.id);

const said = await client.chat.completions.create({ ...bank, metadata: { customer_id: "123" } });
const stream = await client.chat.completions.create({
  ...bank,
  ...deps,
  stream: true,
  stream_options: { include_usage: true },
});
const chunks = [];
for await (const chunk of stream) chunks.push(chunk);
const choices = chunks.flatMap((chunk) => chunk.choices);

const talk = {
  model: "talker",
  messages: [
    { role: "system", content: "Be kind." },
    { role: "user", content: "I am Ada." },
    { role: "assistant", content: "Hello Ada." },
    { role: "user", content: [{ type: "text", text: "Who am I?" }] },
  ],
};
const talked = await client.chat.completions.create({ ...talk, temperature: 0.5 });
const pieces = await client.chat.completions.stream(talk).finalContent();

async function refused(asked) {
  try {
    await client.chat.completions.create({ messages: [{ role: "user", content: "hi" }], ...asked });
  } catch (error) {
    return [error.constructor.name, error.status, error.code];
  }
  return "answered";
}

const tools = [{ type: "function", function: { name: "f" } }];
console.log(
  JSON.stringify({
    models,
    model: (await client.models.retrieve("talker")).id,
    said: JSON.parse(said.choices[0].message.content),
    finish: said.choices[0].finish_reason,
    calls: said.choices[0].message.tool_calls ?? null,
    usage: said.usage,
    streamed: JSON.parse(choices.map((choice) => choice.delta.content ?? "").join("")),
    streamed_calls: choices.flatMap((choice) => choice.delta.tool_calls ?? []),
    streamed_finish: choices.at(-1).finish_reason,
    streamed_usage: chunks.at(-1).usage,
    talked: talked.choices[0].message.content,
    pieces,
    unknown: await refused({ model: "nobody" }),
    without_deps: await refused({ model: "bank_support" }),
    tools: await refused({ model: "talker", tools }),
  }),
);
