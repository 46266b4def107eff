import assert from "node:assert/strict";
import { test } from "node:test";

import { Decoder } from "../mlports/decoder.js";
import { Encoder } from "../mlports/encoder.js";
import { FrameReader } from "../mlports/framing.js";
import { readMessage } from "../mlports/messages.js";
import { elements, load } from "./vectors.js";

const { vectors } = load("frames.json");

/** What a receiver makes of a stream that comes in these pieces. */
function receive(pieces, maxFrame, eof) {
  const messages = [];
  const decoder = new Decoder({ ndarray: true });
  const frames = new FrameReader(maxFrame ?? 67108864);
  const take = (bytes, start, end) => messages.push(strict(decoder, bytes, start, end));
  try {
    for (const piece of pieces) frames.feed(piece, take);
    if (eof) frames.end();
  } catch (error) {
    if (!["Violation"].includes(error.constructor.name)) throw error;
    return { messages, error: error.name };
  }
  return { messages, error: undefined };
}

/** A message with every float of integral value kept apart from the integer, in params and results too. */
function strict(decoder, bytes, start, end) {
  const message = readMessage(decoder, bytes, start, end);
  decoder.open(bytes, start, end);
  decoder.keepsFloats = true;
  const all = decoder.read();
  if (message.kind === 1) return { ...message, result: all[3], error: message.error && without(message.error) };
  return { ...message, params: all[message.kind === 0 ? 3 : 2] };
}

function without(error) {
  return Object.fromEntries(Object.entries(error).filter(([, item]) => item !== undefined));
}

function expected(message) {
  const [kind, ...rest] = elements(message);
  if (kind === 1) return { kind, id: rest[0], error: rest[1], result: rest[2], meta: rest[3] ?? {} };
  const [id, method, params, meta] = kind === 0 ? rest : [null, ...rest];
  return { kind, id, method, params, meta: meta ?? {} };
}

function pieces(bytes, size) {
  return Array.from({ length: Math.ceil(bytes.length / size) }, (_, n) => bytes.subarray(n * size, (n + 1) * size));
}

for (const vector of vectors.filter((vector) => vector.segments === undefined)) {
  test(`frames: ${vector.name}`, () => {
    const bytes = Buffer.from(vector.hex, "hex");
    const wanted = { messages: (vector.messages ?? []).map(expected), error: vector.error };
    for (const size of [bytes.length || 1, 1, 3, 7]) {
      assert.deepEqual(receive(pieces(bytes, size), vector.max_frame, vector.eof), wanted);
    }
  });
}

for (const vector of vectors.filter((vector) => vector.encode)) {
  test(`frames: encodes ${vector.name}`, () => {
    const encoder = new Encoder();
    encoder.ndarray = true;
    for (const message of vector.messages) encoder.message(elements(message));
    assert.equal(encoder.bytes.toString("hex", 0, encoder.position), vector.hex);
  });
}

test("frames: whatever comes is a message or a violation", () => {
  let state = 1; // of a generator that gives the same numbers each time
  const random = (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
  let wrong = 0;
  for (const vector of vectors.filter(({ hex }) => hex.length > 8 && hex.length < 1000)) {
    for (let round = 0; round < 30; round++) {
      const bytes = Buffer.from(vector.hex, "hex");
      for (let changes = 1 + random(3); changes > 0; changes--) bytes[random(bytes.length)] = random(256);
      if (receive([bytes], 1 << 20, true).error !== undefined) wrong++;
    }
  }
  assert.ok(wrong > 1000);
});
