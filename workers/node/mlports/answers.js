// Answers: each request gets one, whatever its handler's result is made of.

import { errorOf, Failure } from "./failures.js";
import { Oversized } from "./faults.js";

/** Appends the answer to a request: `error` is an error map or null. `isBatch`: the result is a list of pairs. */
export function writeAnswer(encoder, id, name, error, result, isBatch = false) {
  try {
    encoder.message([1, id, error, result]);
    return;
  } catch (reason) {
    if (error !== null) return encoder.message([1, id, withoutData(error), null]);
    if (!isBatch) return encoder.message([1, id, unsendable(`the result of ${name}`, reason), null]);
  }
  try {
    encoder.message([1, id, null, result.map((pair) => sendablePair(encoder, name, pair))]);
  } catch (reason) {
    encoder.message([1, id, unsendable(`the results of ${name}`, reason), null]);
  }
}

function sendablePair(encoder, name, pair) {
  const start = encoder.position;
  try {
    encoder.frame(() => encoder.write(pair));
    return pair;
  } catch (reason) {
    return [pair[0] === null ? unsendable(`the result of ${name}`, reason) : withoutData(pair[0]), null];
  } finally {
    encoder.position = start;
  }
}

function withoutData({ code, message }) {
  return { code, message };
}

function unsendable(what, reason) {
  const code = reason instanceof Oversized ? "resource_exhausted" : "internal";
  return errorOf(new Failure(code, `${what} cannot be sent: ${reason instanceof Error ? reason.message : reason}`));
}
