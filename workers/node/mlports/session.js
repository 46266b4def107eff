// The conversation, as the worker has to keep it: the handshake, what is open in each direction, and credit.

import { Violation, shown } from "./faults.js";
import { readHello } from "./hello.js";
import { REQUEST, RESPONSE, asText } from "./messages.js";

function invalid(reason) {
  return new Violation("InvalidMessage", reason);
}

/**
 * Each message that comes is given to `receive`, and each that goes is told here. `receive` says what it is, as
 * {event, …}: "hello", "request", "cast", "answer", "cancel", "credit", "input", "inputEnd", "stop" or "ignored".
 */
export class Session {
  features = new Set(); // agreed
  #phase = "new";
  #open = new Map(); // the orchestrator's requests, by id: {credit, input}, each null or the items that may still pass
  #asked = new Map(); // the worker's own requests, by id
  #nextId = 0;

  /** Throws a Violation for what must not come now. */
  receive(message) {
    if (message.kind === RESPONSE) return this.#answer(message);
    if (message.kind === REQUEST) return message.method === "$/hello" ? this.#hello(message) : this.#request(message);
    if (this.#phase !== "serving") throw new Violation("HandshakeExpected", `${message.method} before the handshake is done`);
    const control = CONTROLS[message.method];
    if (control !== undefined) return control(message.params, this.#open);
    return { event: message.method.startsWith("$/") ? "ignored" : "cast", ...message };
  }

  // -- what the worker sends

  /** `$/hello` is answered: of its features, those that this side names too are agreed. */
  greeted(id, features) {
    this.#open.delete(id);
    this.features = features;
    this.#phase = "serving";
  }

  answered(id) {
    this.#open.delete(id);
  }

  /** The id of a new request; `call` comes back with its answer. */
  asking(call) {
    this.#asked.set(this.#nextId, call);
    return this.#nextId++;
  }

  /** What was to be asked cannot be sent. */
  unasked(id) {
    this.#asked.delete(id);
    if (id === this.#nextId - 1) this.#nextId = id;
  }

  /** Items that may still be sent for a request; null if it asked for none. */
  creditOf(id) {
    return this.#open.get(id)?.credit ?? null;
  }

  itemSent(id) {
    this.#open.get(id).credit--;
  }

  /** So many more items of a streamed argument may come. */
  inputGranted(id, count) {
    const streams = this.#open.get(id);
    if (streams !== undefined && streams.input !== null) streams.input += count;
  }

  /** The worker's own requests that are not answered. */
  get asked() {
    return [...this.#asked.values()];
  }

  // -- what the orchestrator sends

  #hello({ id, params }) {
    if (this.#phase !== "new") throw new Violation("HandshakeExpected", "a second $/hello");
    const hello = readHello(params);
    this.#phase = "greeting";
    this.#open.set(id, { credit: null, input: null });
    return { event: "hello", id, ...hello };
  }

  #request(message) {
    const { id, method, meta } = message;
    if (this.#phase !== "serving") throw new Violation("HandshakeExpected", `${method} before the handshake is done`);
    if (this.#open.has(id)) throw new Violation("DuplicateId", `request ${id} (${method}), whose id is open`);
    this.#open.set(id, streamsOf(meta, this.features));
    return { event: "request", ...message };
  }

  #answer({ id, error, result }) {
    if (!this.#asked.has(id)) {
      const before = id < this.#nextId;
      const reason = before ? `request ${id} was answered before` : `an answer to ${id}, which was never asked`;
      throw new Violation(before ? "AnsweredTwice" : "UnknownId", reason);
    }
    const call = this.#asked.get(id);
    this.#asked.delete(id);
    return { event: "answer", call, error, result };
  }
}

function streamsOf(meta, features) {
  const credit = meta.credit ?? null;
  const input = meta.input ?? null;
  if (credit !== null) {
    if (!features.has("stream")) throw invalid("meta credit asks for a stream, which is not agreed");
    checkCount("meta credit", credit, 0);
  }
  if (input !== null && typeof input !== "boolean") throw invalid(`meta input is a boolean, not ${shown(input)}`);
  if (input && !features.has("input")) throw invalid("meta input announces a stream, which is not agreed");
  return { credit, input: input ? 0 : null };
}

/** The notifications that mean something to a worker. */
const CONTROLS = {
  __proto__: null, // a cast may be called "toString"
  "$/cancel": (params) => ({ event: "cancel", id: takeId("$/cancel", params, 1) }),
  "$/stop": (params) => {
    const reason = asText(params[0] ?? "");
    if (typeof reason !== "string") throw invalid(`the reason in $/stop is a string, not ${shown(reason)}`);
    return { event: "stop", reason };
  },
  "$/credit": (params, open) => {
    const id = takeId("$/credit", params, 2);
    const count = checkCount("the count in $/credit", params[1], 1);
    const streams = open.get(id);
    if (streams === undefined || streams.credit === null) return { event: "ignored" };
    streams.credit += count;
    return { event: "credit", id };
  },
  "$/input": (params, open) => {
    const id = takeId("$/input", params, 2);
    const streams = open.get(id);
    if (streams === undefined) return { event: "ignored" };
    if (streams.input === null) throw new Violation("CreditExceeded", `$/input for request ${id}, which has no input open`);
    if (streams.input === 0) throw new Violation("CreditExceeded", `$/input for request ${id} beyond its credit`);
    streams.input--;
    return { event: "input", id, value: params[1] };
  },
  "$/input_end": (params, open) => {
    const id = takeId("$/input_end", params, 1);
    const streams = open.get(id);
    if (streams === undefined || streams.input === null) return { event: "ignored" };
    streams.input = null;
    return { event: "inputEnd", id };
  },
};

function takeId(method, params, least) {
  if (params.length < least) throw invalid(`${method} has at least ${least} params, not ${shown(params)}`);
  return checkCount(`the id in ${method}`, params[0], 0);
}

function checkCount(what, value, least) {
  if (Number.isSafeInteger(value) && value >= least) return value;
  throw invalid(`${what} is an integer from ${least}, not ${shown(value)}`);
}
