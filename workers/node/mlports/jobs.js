// Handlers at work: so many jobs at once, in the order in which they came.

import { within } from "./context.js";
import { Cancelled, Failure, errorOf } from "./failures.js";
import { argumentList, isPromise, whenDone } from "./handlers.js";
import { waiting } from "./inputs.js";

const TURN = 10; // milliseconds of work after which timers and others on the event loop have theirs
const QUICK = 0.5; // milliseconds that a handler takes which an answer before it may wait for

/** A call that came: a request, or, with `id` null, a cast. */
export class Job {
  begun = false;
  settled = false;
  wake = null; // tells a stream that credit came

  constructor(id, handler, context, params, input) {
    this.id = id;
    this.handler = handler;
    this.context = context;
    this.params = params;
    this.input = input;
  }

  get isBatch() {
    return (this.context.meta.batch ?? null) !== null;
  }
}

/** The jobs of a server: `server` answers them, and has the streams' credit. */
export class Jobs {
  running = 0;
  #queue = [];
  #head = 0;
  #pumping = false;

  constructor(server, concurrency) {
    this.server = server;
    this.concurrency = concurrency;
  }

  get idle() {
    return this.running === 0 && this.#head === this.#queue.length;
  }

  add(job) {
    this.#queue.push(job);
  }

  /** Begins what may begin. Handlers that return no promise are done then. */
  pump() {
    if (this.#pumping) return;
    this.#pumping = true;
    const until = performance.now() + TURN;
    while (this.running < this.concurrency) {
      this.server.poll(); // a $/cancel may have come
      const job = this.#next();
      if (job === undefined) break;
      this.#begin(job);
      if (performance.now() > until) {
        setImmediate(() => this.pump());
        break;
      }
    }
    this.#pumping = false;
    this.server.rest();
  }

  #next() {
    while (this.#head < this.#queue.length) {
      const job = this.#queue[this.#head++];
      if (!job.settled) return job;
    }
    this.#queue = [];
    this.#head = 0;
    return undefined;
  }

  #begin(job) {
    job.begun = true;
    if (job.context.expired) {
      const late = `the deadline of ${job.handler.name} passed before it began`;
      return this.server.settle(job, errorOf(new Failure("deadline_exceeded", late)), null);
    }
    this.running++;
    const { handler } = job;
    if (handler.slowest > QUICK) this.server.flush();
    const start = performance.now();
    let outcome;
    try {
      outcome = within(job.context, () => this.#outcome(job));
    } catch (error) {
      outcome = [this.#errorOf(job, error), null];
    }
    const taken = performance.now() - start;
    handler.slowest = handler.slowest === Infinity ? taken : Math.max(taken, handler.slowest * 0.9);
    if (!isPromise(outcome)) return this.#done(job, outcome);
    outcome.then(
      (pair) => this.#doneLater(job, pair),
      (error) => this.#doneLater(job, [this.#errorOf(job, error), null]),
    );
  }

  #done(job, [error, result]) {
    this.running--;
    this.server.settle(job, error, result);
  }

  #doneLater(job, pair) {
    this.#done(job, pair);
    if (this.#head < this.#queue.length) this.pump();
    else this.server.rest();
  }

  /** What an error is answered by: once the call was to end, by the reason for that. */
  #errorOf({ context }, error) {
    return errorOf(context.reason ?? error);
  }

  /** The pair [error, result] of a job, or a promise of it. */
  #outcome(job) {
    const { handler, params } = job;
    if (job.isBatch) return whenDone(this.#batch(job), (pairs) => [null, pairs]);
    if (handler.kind === "batch") return whenDone(handler.callBatch([params]), (pairs) => pairs[0]);
    const result = handler.call(params);
    if (handler.kind === "stream") return this.#stream(job, result);
    return whenDone(result, (value) => [null, value]);
  }

  // -- batches

  #batch(job) {
    const { handler, context, params } = job;
    if (handler.kind === "batch") return this.#wholeBatch(job);
    const call = (item) => {
      const result = handler.call(argumentList(item));
      return handler.kind === "stream" ? collected(result) : result;
    };
    const pairOf = (item) => {
      try {
        const result = call(item);
        return isPromise(result) ? result.then(fine, failed) : fine(result);
      } catch (error) {
        return failed(error);
      }
    };
    const each = (item) => {
      context.check();
      return pairOf(item);
    };
    return mapSome(params, this.concurrency, each);
  }

  #wholeBatch({ handler, context, params }) {
    // One item may have spoilt it for all. Doing it again one by one tells which, where that is allowed.
    const again = (error) => {
      if (!handler.idempotent || params.length === 1 || error instanceof Cancelled || context.reason !== null) throw error;
      return mapSome(params, 1, (item) => handler.callAlone(item));
    };
    try {
      const pairs = handler.callBatch(params);
      return isPromise(pairs) ? pairs.catch(again) : pairs;
    } catch (error) {
      return again(error);
    }
  }

  // -- streams

  /** Sends the items of an iterator within the caller's credit; answers all of them to a caller that gave none. */
  async #stream(job, iterable) {
    if (job.id === null || this.server.creditOf(job) === null) return [null, await collected(iterable, job.context)];
    const iterator = iteratorOf(iterable);
    let done = false;
    try {
      for (;;) {
        job.context.check();
        const step = await iterator.next();
        done = Boolean(step.done);
        if (done) return [null, step.value];
        while (this.server.creditOf(job) === 0) await this.#credit(job);
        job.context.check();
        this.server.item(job, step.value);
      }
    } finally {
      if (!done) await iterator.return?.();
    }
  }

  async #credit(job) {
    this.server.flush();
    const { promise, wake } = waiting(job.context.signal);
    job.wake = wake;
    await promise;
  }
}

const fine = (result) => [null, result];
const failed = (error) => [errorOf(error), null];

function iteratorOf(iterable) {
  const make = iterable?.[Symbol.asyncIterator] ?? iterable?.[Symbol.iterator];
  if (make === undefined) throw new Failure("internal", "a stream's handler is to return an iterable");
  return make.call(iterable);
}

async function collected(iterable, context) {
  const items = [];
  const iterator = iteratorOf(iterable);
  for await (const item of { [Symbol.asyncIterator]: () => iterator }) {
    context?.check();
    items.push(item);
  }
  return items;
}

/** The results of `work` for each item, at most `most` at a time; a promise of them if any of them is one. */
function mapSome(items, most, work) {
  const results = new Array(items.length);
  let next = 0;
  const go = () => {
    while (next < items.length) {
      const index = next++;
      const result = work(items[index]);
      if (!isPromise(result)) {
        results[index] = result;
        continue;
      }
      return result.then((value) => {
        results[index] = value;
        return go();
      });
    }
    return undefined;
  };
  const runs = Array.from({ length: Math.min(most, items.length) }, go).filter(isPromise);
  return runs.length > 0 ? Promise.all(runs).then(() => results) : results;
}
