// openai.js - one use of OpenAI's own client against exo: node openai.js BASE_URL CHECK.
//
// Ends with 0 when all was as an application expects it of OpenAI's servers.
import assert from "node:assert/strict";
import OpenAI from "openai";

const [baseURL, check] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey: "none yet", maxRetries: 0, timeout: 60_000 });
const model = "tiny";
const messages = [{ role: "user", content: "Tell me a story." }];
const settled = { model, messages, temperature: 1, seed: 7, max_tokens: 24 };

async function rejection(promise) {
  try {
    await promise;
  } catch (error) {
    return error;
  }
  assert.fail("no error came");
}

const checks = {
  async models() {
    const listed = await client.models.list();
    assert.deepEqual(listed.data.map((m) => m.id), [model]);
    const one = await client.models.retrieve(model);
    assert.equal(one.object, "model");
    assert.equal(typeof one.created, "number");
  },

  async chat() {
    const reply = await client.chat.completions.create(settled);
    assert.equal(reply.object, "chat.completion");
    assert.equal(reply.model, model);
    const [choice] = reply.choices;
    assert.equal(choice.message.role, "assistant");
    assert.ok(choice.message.content.length > 0);
    assert.ok(["stop", "length"].includes(choice.finish_reason));
    assert.equal(reply.usage.total_tokens, reply.usage.prompt_tokens + reply.usage.completion_tokens);
  },

  async chat_logprobs() {
    const reply = await client.chat.completions.create({ ...settled, logprobs: true, top_logprobs: 2 });
    const tokens = reply.choices[0].logprobs.content;
    assert.equal(tokens.length, reply.usage.completion_tokens);
    for (const token of tokens) {
      assert.ok(token.logprob <= 0 && token.top_logprobs.length === 2);
      assert.equal(Buffer.from(token.bytes).toString(), token.token);
    }
  },

  async stream() {
    const whole = await client.chat.completions.create(settled);
    const stream = await client.chat.completions.create({
      ...settled, stream: true, stream_options: { include_usage: true },
    });
    let text = "", usage, finish;
    for await (const chunk of stream) {
      assert.equal(chunk.object, "chat.completion.chunk");
      text += chunk.choices[0]?.delta?.content ?? "";
      finish = chunk.choices[0]?.finish_reason ?? finish;
      usage = chunk.usage ?? usage;
    }
    assert.equal(text, whole.choices[0].message.content);
    assert.equal(finish, whole.choices[0].finish_reason);
    assert.deepEqual(usage.completion_tokens, whole.usage.completion_tokens);
  },

  async stream_helper() {
    const whole = await client.chat.completions.create(settled);
    const runner = client.chat.completions.stream({ ...settled, max_tokens: 24 });
    assert.equal(await runner.finalContent(), whole.choices[0].message.content);
  },

  async completions() {
    const asked = { model, prompt: "Once upon a time", temperature: 0, max_tokens: 8 };
    const reply = await client.completions.create(asked);
    assert.equal(reply.object, "text_completion");
    assert.ok(reply.choices[0].text.length > 0);
    let text = "";
    for await (const chunk of await client.completions.create({ ...asked, stream: true })) {
      text += chunk.choices[0].text;
    }
    assert.equal(text, reply.choices[0].text);
  },

  async errors() {
    const bad = await rejection(client.chat.completions.create({ ...settled, temperature: -1 }));
    assert.ok(bad instanceof OpenAI.BadRequestError, String(bad));
    assert.equal(bad.param, "temperature");
    assert.equal(bad.type, "invalid_request_error");
    const long = await rejection(client.chat.completions.create({
      ...settled, messages: [{ role: "user", content: "word ".repeat(4000) }],
    }));
    assert.ok(long instanceof OpenAI.BadRequestError, String(long));
    assert.equal(long.code, "context_length_exceeded");
    const unknown = await rejection(client.chat.completions.create({ ...settled, model: "gpt-4" }));
    assert.ok(unknown instanceof OpenAI.NotFoundError, String(unknown));
    assert.equal(unknown.code, "model_not_found");
    assert.ok(unknown.message.includes("gpt-4"));
    const missing = await rejection(client.models.retrieve("gpt-4"));
    assert.ok(missing instanceof OpenAI.NotFoundError, String(missing));
    const unbuilt = await rejection(client.embeddings.create({ model, input: "x" }));
    assert.ok(unbuilt instanceof OpenAI.NotFoundError, String(unbuilt));
  },

  // Leaves in mid-answer; whoever started this looks whether the server noticed.
  async abort() {
    const stream = await client.chat.completions.create({
      ...settled, max_tokens: 1900, ignore_eos: true, stream: true,
    });
    let chunks = 0;
    for await (const _ of stream) {
      if (++chunks === 10) stream.controller.abort();
    }
    assert.ok(chunks >= 10 && chunks < 1000, `${chunks} chunks`);
    const later = await client.chat.completions.create(settled);
    assert.ok(later.choices[0].message.content.length > 0);
  },
};

await checks[check]();
