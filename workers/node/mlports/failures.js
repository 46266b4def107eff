// Errors on their way to the caller, and those that came from another service.

import { fileURLToPath } from "node:url";

const OUR_FRAMES = fileURLToPath(new URL(".", import.meta.url));
const MOST_TEXT = 16 * 1024; // characters

/** Throw it in a handler to choose the error that the caller sees. */
export class Failure extends Error {
  name = "Failure";

  /** `code`: one of gRPC's in lower case. `data`: anything that can be sent. `retryable`: it had no effect. */
  constructor(code, message, { data = null, retryable = false } = {}) {
    super(message);
    this.code = code;
    this.data = data;
    this.retryable = retryable;
  }
}

/** The caller gave the call up. */
export class Cancelled extends Failure {
  name = "Cancelled";

  constructor(message = "the caller cancelled the call") {
    super("cancelled", message);
  }
}

/** A call of another service failed. Unless caught, it fails the handler's own call alike. */
export class CallFailed extends Failure {
  name = "CallFailed";
}

/** The protocol's error map for what a handler threw. */
export function errorOf(thrown) {
  try {
    return described(thrown);
  } catch {
    return { code: "unknown", message: "thrown: an error that cannot be read" };
  }
}

function described(thrown) {
  if (thrown instanceof Failure) {
    const error = { code: String(thrown.code), message: line(thrown.message) };
    if (thrown.data !== null && thrown.data !== undefined) error.data = thrown.data;
    if (thrown.retryable) error.retryable = true;
    return error;
  }
  if (!(thrown instanceof Error)) return { code: "unknown", message: line(`thrown: ${String(thrown)}`) };
  const type = thrown.constructor?.name || thrown.name;
  const message = thrown.message ? `${type}: ${thrown.message}` : type;
  return { code: "unknown", message: line(message), data: { type, traceback: shortened(stackOf(thrown)) } };
}

/** The stack, from the handler's own frames on. */
export function stackOf(error) {
  const lines = String(error.stack ?? error).split("\n");
  return lines.filter((line) => !line.includes(OUR_FRAMES) && !line.includes("(node:")).join("\n");
}

function line(text) {
  return shortened(String(text).replace(/\s*[\r\n]+\s*/g, " "));
}

function shortened(text) {
  const half = MOST_TEXT / 2;
  const short = text.length > MOST_TEXT ? `${text.slice(0, half)}\n  … \n${text.slice(-half)}` : text;
  return short.toWellFormed();
}
