// Runs one of the official TypeScript SDKs against the simulator. The only
// argument is the package to load; stdin holds {url, key, admin, workspace,
// keyId, sampling}. Any failed assertion ends the program with an error.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";

const { default: Anthropic } = await import(process.argv[2]);
const input = JSON.parse(readFileSync(0, "utf8"));

// options names every credential, so that none is read from the environment.
const options = (apiKey) => ({ baseURL: input.url, apiKey, authToken: null });
const user = new Anthropic(options(input.key));
const admin = new Anthropic(options(input.admin));
const request = { model: "claude-haiku-5-5", max_tokens: 64, messages: [{ role: "user", content: "hello" }] };
if (input.sampling) request.temperature = 0.5;

// The first call meets a 429 and the second a 529, which the SDK must survive.
const message = await user.messages.create(request);
assert.equal(message.stop_reason, "end_turn");
assert.ok(message.content[0].text.length > 0);
const again = await user.messages.create(request);
assert.equal(again.content[0].text, message.content[0].text);

const final = await user.messages.stream(request).finalMessage();
assert.equal(final.content[0].text, message.content[0].text);
assert.equal(final.usage.output_tokens, message.usage.output_tokens);

const counted = await user.messages.countTokens({ model: request.model, messages: request.messages });
assert.equal(counted.input_tokens, message.usage.input_tokens);

const models = [];
for await (const m of user.models.list({ limit: 4 })) models.push(m);
assert.ok(models.length > 10);
assert.ok(models.some((m) => m.id === "claude-haiku-5-5" && m.lifecycle === "active"));

let batch = await user.messages.batches.create({ requests: [{ custom_id: "a", params: request }] });
batch = await user.messages.batches.retrieve(batch.id);
assert.equal(batch.processing_status, "ended");
for await (const line of await user.messages.batches.results(batch.id)) {
  assert.equal(line.custom_id, "a");
  assert.equal(line.result.type, "succeeded");
}

const got = await admin.organization.apiKeys.retrieve(input.keyId);
assert.equal(got.scope.workspace_id, input.workspace);
const listed = [];
for await (const k of admin.organization.apiKeys.list({ status: "active", workspace_id: input.workspace })) listed.push(k.id);
assert.deepEqual(listed, [input.keyId]);
const changed = await admin.organization.apiKeys.update(input.keyId, { status: "inactive" });
assert.equal(changed.status, "inactive");

await assert.rejects(user.messages.create(request), (err) => {
  assert.ok(err instanceof Anthropic.AuthenticationError);
  assert.equal(err.status, 401);
  assert.ok(err.requestID?.startsWith("req_"));
  return true;
});
