// A user's functions as methods: how each is called for one call, and for many.

import { Failure, errorOf } from "./failures.js";
import { shown } from "./faults.js";

/** One method. `kind` is "plain", "batch" or "stream". */
export class Handler {
  slowest = Infinity; // milliseconds that it has kept the event loop, lately

  constructor(name, work, kind, { idempotent = false, input = false } = {}) {
    this.name = name;
    this.work = work;
    this.kind = kind;
    this.idempotent = idempotent;
    this.input = input;
  }

  /** As `$/hello` is told of it. */
  get flags() {
    const flags = { batch: this.kind === "batch", stream: this.kind === "stream", idempotent: this.idempotent };
    return this.input ? { ...flags, input: true } : flags;
  }

  /** Why a request cannot be given to it; null if it can. */
  refusal({ meta, params }) {
    const batch = meta.batch ?? null;
    const given = Boolean(meta.input);
    if (batch !== null) {
      if (given || (meta.credit ?? null) !== null) return `${this.name}: a batch has no streams`;
      if (batch !== params.length || batch < 1) return `meta batch is ${shown(batch)} with ${params.length} argument lists`;
    }
    if (given && !this.input) return `${this.name} takes no streamed argument`;
    if (this.input && !given) return `${this.name} takes a streamed argument, and this call has none`;
    const deadline = meta.deadline_ms ?? 0;
    if (!(Number(deadline) >= 0)) return `meta deadline_ms is a number from 0, not ${shown(deadline)}`;
    return null;
  }

  /** The result of one call, or a promise or an iterator of it. Throws what the function throws. */
  call(params) {
    const needed = this.work.length;
    if (params.length < needed) {
      const given = params.length === 1 ? "1 argument" : `${params.length} arguments`;
      throw new Failure("invalid_argument", `${this.name} was called with ${given}, it takes ${needed}`);
    }
    return this.work(...params);
  }

  /** The pairs [error, result] of a batch function's calls, or a promise of them; `items` are the argument lists. */
  callBatch(items) {
    const width = Array.isArray(items[0]) ? items[0].length : -1;
    if (!items.every((item) => Array.isArray(item) && item.length === width)) {
      return Promise.all(items.map((item) => this.callAlone(item)));
    }
    const columns = items[0].map((_, index) => items.map((item) => item[index]));
    return whenDone(this.call(columns), (results) => this.pairs(results, items.length));
  }

  async callAlone(item) {
    try {
      return (await this.callBatch([argumentList(item)]))[0];
    } catch (error) {
      return [errorOf(error), null];
    }
  }

  pairs(results, count) {
    if (!Array.isArray(results) && !ArrayBuffer.isView(results)) {
      throw new Failure("internal", `the batch method ${this.name} returned no array but ${shown(results)}`);
    }
    if (results.length !== count) {
      throw new Failure("internal", `the batch method ${this.name} returned ${results.length} results for ${count} items`);
    }
    return Array.from(results, (result) => (result instanceof Error ? [errorOf(result), null] : [null, result]));
  }
}

/** An item of a batch, which is to be a list of arguments. */
export function argumentList(item) {
  if (Array.isArray(item)) return item;
  throw new Failure("invalid_argument", `an item of a batch is a list of arguments, not ${shown(item)}`);
}

/** `next(value)`, at once if the value is there. */
export function whenDone(value, next) {
  return isPromise(value) ? Promise.resolve(value).then(next) : next(value);
}

export function isPromise(value) {
  return typeof value === "object" && value !== null && typeof value.then === "function";
}
