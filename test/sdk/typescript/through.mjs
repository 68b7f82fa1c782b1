// Calls through a gateway with one of the official TypeScript SDKs, without
// repeating, until stdin ends. The only argument is the package to load; the
// first line of stdin is {url, key, bearer}. Each call that ends well prints a
// line with its name; any failed assertion ends the program with an error.
import assert from "node:assert/strict";
import { createInterface } from "node:readline";

const { default: Anthropic, toFile } = await import(process.argv[2]);
const lines = createInterface({ input: process.stdin });
const input = JSON.parse((await lines[Symbol.asyncIterator]().next()).value);
let more = true;
lines.on("close", () => (more = false));

const options = { baseURL: input.url, maxRetries: 0 };
const byKey = new Anthropic({ ...options, apiKey: input.key, authToken: null });
const byBearer = input.bearer ? new Anthropic({ ...options, apiKey: null, authToken: input.key }) : byKey;
const request = { model: "claude-haiku-5-5", max_tokens: 64, messages: [{ role: "user", content: "hello" }] };
const tools = [{ name: "weather", description: "tells the weather", input_schema: { type: "object", properties: { city: { type: "string" } } } }];

const whole = (message) => {
  assert.equal(message.stop_reason, "end_turn");
  assert.ok(message.content[0].text.length > 0);
};

// afterTool goes on from the use of a tool to the end of the turn.
const afterTool = async (client, message, next) => {
  assert.equal(message.stop_reason, "tool_use");
  const use = message.content.find((b) => b.type === "tool_use");
  assert.deepEqual([use.name, use.input], ["weather", { city: "Oslo" }]);
  const result = { type: "tool_result", tool_use_id: use.id, content: "rain" };
  whole(await next({
    ...request,
    tools,
    messages: [...request.messages, { role: "assistant", content: message.content }, { role: "user", content: [result] }],
  }));
};

const calls = {
  message: async (client) => whole(await client.messages.create(request)),
  stream: async (client) => whole(await client.messages.stream(request).finalMessage()),
  events: async (client) => {
    let last;
    for await (const event of await client.messages.create({ ...request, stream: true })) last = event.type;
    assert.equal(last, "message_stop");
  },
  tools: async (client) => {
    const next = (r) => client.messages.create(r);
    await afterTool(client, await next({ ...request, tools }), next);
  },
  streamedTools: async (client) => {
    const next = (r) => client.messages.stream(r).finalMessage();
    await afterTool(client, await next({ ...request, tools }), next);
  },
  countTokens: async (client) => assert.ok((await client.messages.countTokens({ model: request.model, messages: request.messages })).input_tokens > 0),
  models: async (client) => {
    let n = 0;
    for await (const m of client.models.list({ limit: 4 })) n += m.id ? 1 : 0;
    assert.ok(n > 10);
    assert.equal((await client.models.retrieve("claude-haiku-5-5")).id, "claude-haiku-5-5");
  },
  batches: async (client) => {
    const batch = await client.messages.batches.create({ requests: [{ custom_id: "a", params: request }] });
    const ended = await client.messages.batches.retrieve(batch.id);
    assert.equal(ended.results_url, `${input.url}/v1/messages/batches/${batch.id}/results`);
    for await (const line of await client.messages.batches.results(batch.id)) whole(line.result.message);
    const listed = [];
    for await (const b of client.messages.batches.list({ limit: 1 })) listed.push(b.id);
    assert.deepEqual(listed, [batch.id]);
    await client.messages.batches.delete(batch.id);
  },
  files: async (client) => {
    const file = await client.files.upload({ file: await toFile(Buffer.from("content"), "a.txt", { type: "text/plain" }) });
    const source = { type: "file", file_id: file.id };
    const content = [{ type: "document", source }, { type: "text", text: "hello" }];
    whole(await client.messages.create({ ...request, messages: [{ role: "user", content }] }));
    const listed = [];
    for await (const f of client.files.list({ limit: 1 })) listed.push(f.id);
    assert.deepEqual(listed, [file.id]);
    await client.files.delete(file.id);
  },
};

await Promise.all(
  Object.entries(calls).map(async ([name, call], i) => {
    while (more) {
      await call(i % 2 ? byBearer : byKey);
      console.log(name);
    }
  }),
);

// What a caller does wrong is told in the provider's form.
await assert.rejects(byKey.messages.create({ ...request, model: "claude-none" }), (err) => {
  assert.ok(err instanceof Anthropic.NotFoundError);
  assert.ok(err.requestID?.startsWith("req_"));
  return true;
});
if (input.bearer) {
  await assert.rejects(new Anthropic({ ...options, apiKey: "wrong", authToken: null }).messages.create(request), (err) => {
    assert.ok(err instanceof Anthropic.AuthenticationError);
    assert.equal(err.error.error.type, "authentication_error");
    return true;
  });
}
console.log("end");
