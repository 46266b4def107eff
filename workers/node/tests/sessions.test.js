import assert from "node:assert/strict";
import { test } from "node:test";

import { Decoder } from "../mlports/decoder.js";
import { Encoder } from "../mlports/encoder.js";
import { Violation } from "../mlports/faults.js";
import { readMessage } from "../mlports/messages.js";
import { Session } from "../mlports/session.js";
import { elements, load, value } from "./vectors.js";

const FEATURES = ["batch", "cancel", "input", "ping", "stream"];

/** A message as it is after the way over the wire. */
function travelled(decoder, message) {
  const encoder = new Encoder();
  encoder.ndarray = true;
  encoder.message(elements(message));
  return readMessage(decoder, Buffer.from(encoder.bytes.subarray(0, encoder.position)), 4, encoder.position);
}

/** Tells the session what the worker sends; `asked` keeps the hello that is open. */
function send(session, decoder, message, asked) {
  if (message.type === "response" && message.id === asked.hello?.id) {
    const offered = value(message.result)?.features ?? FEATURES;
    session.greeted(message.id, new Set(offered.filter((feature) => asked.hello.features.has(feature))));
    decoder.ndarray = session.features.has("ndarray");
    asked.hello = null;
  } else if (message.type === "response") session.answered(message.id);
  else if (message.type === "request") assert.equal(session.asking({}), message.id);
  else if (message.method === "$/item") session.itemSent(value(message.params)[0]);
  else if (message.method === "$/input_credit") session.inputGranted(...value(message.params));
}

function converse(conversation) {
  const session = new Session();
  const decoder = new Decoder();
  const asked = { hello: null };
  for (const [index, { from, message, ignored }] of conversation.steps.entries()) {
    if (from === "worker") {
      send(session, decoder, message, asked);
      continue;
    }
    try {
      const heard = session.receive(travelled(decoder, message));
      if (heard.event === "hello") asked.hello = heard;
      if (ignored) assert.ok(["ignored", "cancel", "cast", "credit", "input", "inputEnd"].includes(heard.event));
    } catch (error) {
      if (!(error instanceof Violation)) throw error;
      assert.equal(index, conversation.steps.length - 1, `${error.name} came before the last step: ${error.message}`);
      return error.name;
    }
  }
  return "ok";
}

for (const conversation of load("sessions.json").conversations.filter(({ side }) => side !== "orchestrator")) {
  test(`sessions: ${conversation.name}`, () => assert.equal(converse(conversation), conversation.outcome));
}
