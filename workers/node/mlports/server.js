// A worker at work: what comes in becomes jobs, and each is answered exactly once.

import { writeAnswer } from "./answers.js";
import { Calls } from "./calls.js";
import { Channel } from "./channel.js";
import { Context } from "./context.js";
import { Decoder } from "./decoder.js";
import { Cancelled, Failure, errorOf, stackOf } from "./failures.js";
import { Violation } from "./faults.js";
import { DEFAULT_MAX_FRAME, VERSION } from "./hello.js";
import { InputStream } from "./inputs.js";
import { Job, Jobs } from "./jobs.js";
import { readMessage, withoutFloats } from "./messages.js";
import { Session } from "./session.js";

const FEATURES = ["batch", "cancel", "input", "ndarray", "ping", "stream"];
const SDK = "mlports-node 0.1.0";
const HEADER = 4;

/** Serves the orchestrator, from its hello on, and ends the process when that is over. */
export class Server {
  #open = new Map(); // requests that are not answered, by id
  #stopping = false;
  #ended = false; // nothing more is read
  #config = {};

  /** `worker`: {name, handlers, setup, concurrency, maxFrame, keepFloats}. */
  constructor(worker) {
    this.worker = worker;
    this.session = new Session();
    this.decoder = new Decoder({ keepFloats: worker.keepFloats });
    this.jobs = new Jobs(this, worker.concurrency);
    this.channel = new Channel(worker.maxFrame ?? DEFAULT_MAX_FRAME, (piece) => this.#take(piece));
    this.encoder = this.channel.encoder;
    this.calls = new Calls(this.session, (message) => this.#send(message));
  }

  // -- what comes

  #take(piece) {
    if (this.#ended) return;
    if (piece instanceof Uint8Array) return this.#receive(Buffer.from(piece.buffer));
    if (piece.end) this.#end(null);
    else this.#end(new Violation(piece.fault, piece.reason));
  }

  #receive(bytes) {
    try {
      for (let start = 0; start < bytes.length; ) {
        const end = start + HEADER + bytes.readUInt32BE(start);
        this.#on(this.session.receive(readMessage(this.decoder, bytes, start + HEADER, end)), end - start);
        start = end;
      }
    } catch (error) {
      if (!(error instanceof Violation)) throw error;
      return this.#end(error);
    }
    this.jobs.pump();
  }

  #on(message, bytes) {
    switch (message.event) {
      case "request": return this.#request(message);
      case "cast": return this.#cast(message);
      case "answer": return this.calls.answered(message.call, message.error, message.result);
      case "cancel": return this.#cancel(this.#open.get(message.id));
      case "credit": return this.#open.get(message.id)?.wake?.();
      case "input": return this.#open.get(message.id)?.input?.add(this.#plain(message.value), bytes);
      case "inputEnd": return this.#open.get(message.id)?.input?.end();
      case "stop": this.#stopping = true; return undefined;
      case "hello": this.#hello(message); return undefined;
      default: return undefined;
    }
  }

  #plain(value) {
    return this.worker.keepFloats ? value : withoutFloats(value);
  }

  async #hello({ id, maxFrame, features, config }) {
    this.encoder.maxFrame = maxFrame;
    if (this.worker.maxFrame === undefined) this.channel.maxFrame = maxFrame;
    this.#config = config;
    try {
      await this.worker.setup?.(config);
    } catch (error) {
      const reason = error instanceof Failure ? error.message : error instanceof Error ? stackOf(error) : String(error);
      process.stderr.write(`${this.worker.name}: the set-up failed: ${reason}\n`);
      process.exit(1);
    }
    const { name, concurrency, handlers } = this.worker;
    const methods = Object.fromEntries([...handlers].map(([method, handler]) => [method, handler.flags]));
    const said = { name, language: "node", sdk: SDK, methods, features: FEATURES, concurrency };
    this.encoder.message([1, id, null, { protocol: VERSION, max_frame: this.channel.maxFrame, ...said }]);
    const agreed = new Set(FEATURES.filter((feature) => features.has(feature)));
    this.session.greeted(id, agreed);
    this.encoder.ndarray = this.decoder.ndarray = agreed.has("ndarray");
    this.channel.flush();
    this.channel.serve();
  }

  #request(message) {
    const { id, method, params, meta } = message;
    const handler = this.worker.handlers.get(method);
    const refusal = this.#refusal(message, handler);
    if (refusal !== null) {
      this.session.answered(id);
      writeAnswer(this.encoder, id, method, refusal.code === "result" ? null : errorOf(refusal), null);
      return;
    }
    const context = new Context(this, id, method, meta, this.#config);
    const input = handler.input ? this.#input(id, context) : null;
    const job = new Job(id, handler, context, input === null ? params : [input, ...params], input);
    this.#open.set(id, job);
    this.jobs.add(job);
  }

  /** Why a request is answered without a handler; null if it is not. */
  #refusal(message, handler) {
    const { method } = message;
    if (method === "$/ping") return { code: "result" };
    const { name, handlers } = this.worker;
    if (method.startsWith("$/")) return new Failure("unimplemented", `${method} is not known to this worker`);
    if (this.#stopping) return new Failure("unavailable", `${name} is being stopped`, { retryable: true });
    if (handler === undefined) {
      const known = [...handlers.keys()].sort().join(", ") || "none";
      return new Failure("unimplemented", `the worker ${name} has no method ${JSON.stringify(method)}; it has: ${known}`);
    }
    const refusal = handler.refusal(message);
    return refusal === null ? null : new Failure("invalid_argument", refusal);
  }

  #input(id, context) {
    const grant = (count) => {
      this.session.inputGranted(id, count);
      this.#send([2, "$/input_credit", [id, count]]);
    };
    return new InputStream(grant, () => context.signal);
  }

  #cast({ method, params, meta }) {
    const handler = this.worker.handlers.get(method);
    if (handler === undefined || handler.input) {
      const why = handler === undefined ? "which this worker does not have" : "which takes a streamed argument";
      return this.log("warning", `a cast to ${method}, ${why}, was dropped`);
    }
    const context = new Context(this, null, method, { traceparent: meta.traceparent }, this.#config);
    this.jobs.add(new Job(null, handler, context, params, null));
  }

  #cancel(job) {
    if (job === undefined) return;
    const reason = new Cancelled();
    if (job.begun) job.context.abort(reason);
    else this.settle(job, errorOf(reason), null); // it waits behind another, which may take long
  }

  /** Nothing more is read: because of a violation, or, with null, because the stream has ended. */
  #end(violation) {
    this.#ended = true; // first: jobs look for what has been read meanwhile, and would find another end
    this.jobs.pump(); // what came whole before it
    this.calls.failAll();
    for (const job of this.#open.values()) job.input?.cut("the orchestrator went away before the input's end");
    // What handlers had begun fails now, and nobody waits for it: that is no reason for another status than 0.
    process.on("unhandledRejection", () => {});
    if (violation === null && this.#stopping) return this.rest();
    // What can be answered at once is: handlers that wait for nothing have their turn before this.
    setImmediate(() => setImmediate(() => this.#leave(violation)));
  }

  #leave(violation) {
    this.channel.flush();
    if (violation !== null) process.stderr.write(`${violation.name}: ${violation.message}\n`);
    process.exit(violation === null ? 0 : 1);
  }

  // -- what the jobs use

  /** Answers a job; of a cast, logs the error. */
  settle(job, error, result) {
    if (job.settled) return;
    job.settled = true;
    job.context.close();
    if (job.id === null) {
      if (error !== null) this.log("error", `the cast to ${job.handler.name} failed: ${error.message}`, error.data ?? {});
      return;
    }
    this.#open.delete(job.id);
    this.session.answered(job.id);
    job.input?.cut("the call was answered");
    writeAnswer(this.encoder, job.id, job.handler.name, error, result, job.isBatch);
    this.channel.flushIfDue();
  }

  /** Nothing is to be begun now. */
  rest() {
    this.channel.flush();
    if (this.#stopping && this.#open.size === 0 && this.jobs.idle) process.exit(0);
  }

  creditOf(job) {
    return this.session.creditOf(job.id);
  }

  item(job, value) {
    try {
      this.encoder.message([2, "$/item", [job.id, value]]);
    } catch (error) {
      throw new Failure("internal", `an item of ${job.handler.name} cannot be sent: ${error.message}`);
    }
    this.session.itemSent(job.id);
    this.channel.flush();
  }

  flush() {
    this.channel.flush();
  }

  poll() {
    this.channel.poll();
  }

  // -- what handlers use

  notify(method, params) {
    this.#send([2, method, params]);
  }

  log(level, text, fields = {}) {
    try {
      this.notify("$/log", [level, String(text), fields]);
    } catch {
      const plain = Object.entries(fields).map(([key, value]) => [key.toWellFormed(), String(value).toWellFormed()]);
      this.notify("$/log", [level, String(text).toWellFormed(), Object.fromEntries(plain)]);
    }
  }

  #send(message) {
    this.encoder.message(message);
    this.channel.flush();
  }
}
