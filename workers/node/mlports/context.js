// What a handler can know of the call that it works on.

import { AsyncLocalStorage } from "node:async_hooks";

import { Cancelled, Failure } from "./failures.js";

const calls = new AsyncLocalStorage();

const LONGEST_TIMER = 2 ** 31 - 1; // milliseconds; a longer one would fire at once

/** One call. `current()` gives it. */
export class Context {
  #server;
  #expires;
  #controller = null;
  #timer = null;
  #reason = null;

  constructor(server, id, method, meta, config) {
    this.#server = server;
    this.id = id;
    this.method = method;
    this.meta = meta;
    this.config = config;
    const deadline = meta.deadline_ms === undefined || meta.deadline_ms === null ? null : Number(meta.deadline_ms);
    this.#expires = deadline === null ? null : performance.now() + deadline;
  }

  /** Seconds that are left for this call, below 0 when it is late; null when it may take for ever. */
  get deadline() {
    return this.#expires === null ? null : (this.#expires - performance.now()) / 1000;
  }

  get expired() {
    return this.#expires !== null && performance.now() >= this.#expires;
  }

  /** Whether the caller gave the call up: also seen by code that does not let go of the event loop. */
  get cancelled() {
    if (this.#reason === null) this.#server.poll();
    return this.#reason instanceof Cancelled;
  }

  /** Throws `Cancelled` once the caller has cancelled, and a `Failure` once the deadline has passed. */
  check() {
    if (this.cancelled) throw this.#reason;
    if (this.expired) throw late();
  }

  /** Aborted, with the error to answer for its reason, when the caller cancels or the deadline passes. */
  get signal() {
    if (this.#controller === null) {
      this.#controller = new AbortController();
      if (this.#reason !== null) this.#controller.abort(this.#reason);
      else this.#await();
    }
    return this.#controller.signal;
  }

  /** Tells the caller how far the work has come, in any unit; `total` may be unknown. */
  progress(done, total = null, text = "") {
    if (this.id !== null) this.#server.notify("$/progress", [this.id, done, total, text]);
  }

  /** Why the call is to end, if it is: a `Failure`. */
  get reason() {
    return this.#reason ?? (this.expired ? late() : null);
  }

  /** Ends the call, for this reason. */
  abort(reason) {
    if (this.#reason !== null) return;
    this.#reason = reason;
    this.#controller?.abort(reason);
  }

  /** The call is over: nothing waits any more. */
  close() {
    clearTimeout(this.#timer);
    this.#timer = null;
  }

  #await() {
    if (this.#expires === null) return;
    const left = this.#expires - performance.now();
    const fire = () => (this.expired ? this.abort(late()) : this.#await());
    this.#timer = setTimeout(fire, Math.min(Math.ceil(Math.max(left, 0)), LONGEST_TIMER)).unref();
  }
}

function late() {
  return new Failure("deadline_exceeded", "the deadline passed while the handler was at work");
}

/** Calls `work` as part of this call: `current()` gives it there, also behind an await. */
export function within(context, work) {
  return calls.run(context, work);
}

/** The call that is being worked on, if any. */
export function ongoing() {
  return calls.getStore();
}

/** The call that the running handler works on. Throws outside of one. */
export function current() {
  const context = calls.getStore();
  if (context === undefined) throw new Error("current() is for handlers: no call is being worked on here");
  return context;
}
