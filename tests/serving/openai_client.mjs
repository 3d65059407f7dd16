// Speaks to a server with the official client of JavaScript, and prints what it was told as JSON.
// Arguments: the folder node_modules that has `openai`, the URL of the server, the model.

import { createRequire } from "node:module";
import { join } from "node:path";

const [folder, url, model] = process.argv.slice(2);
const OpenAI = createRequire(join(folder, "any.js"))("openai");
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: "none", maxRetries: 0 });
const messages = [{ role: "user", content: "Hello?" }];
const asked = { model, max_tokens: 4 };
const told = {};

told.models = (await client.models.list()).data.map((one) => one.id);
told.completion = await client.completions.create({ ...asked, prompt: "Once", logprobs: 1 });
told.echo = await client.completions.create({ model, prompt: "The court", max_tokens: 0, echo: true, logprobs: 0 });

const options = { stream: true, stream_options: { include_usage: true } };
told.chunks = [];
for await (const chunk of await client.completions.create({ ...asked, ...options, prompt: "Once" })) told.chunks.push(chunk);

told.chat = await client.chat.completions.create({ ...asked, messages });
told.deltas = [];
for await (const chunk of await client.chat.completions.create({ ...asked, ...options, messages })) told.deltas.push(chunk);
told.final = await client.chat.completions.stream({ ...asked, messages }).finalContent();

try {
  await client.completions.create({ ...asked, prompt: "Once", logit_bias: { 1: 5 } });
} catch (error) {
  told.refusal = { name: error.constructor.name, status: error.status, param: error.param, message: error.message };
}

const stopped = await client.completions.create({ ...asked, prompt: "Once", max_tokens: 100000, stream: true });
for await (const chunk of stopped) {
  told.first = chunk.choices[0].text;
  break; // hangs up
}

console.log(JSON.stringify(told));
