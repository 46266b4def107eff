// What the author of a worker sees.

import { Handler } from "./handlers.js";
import { Server } from "./server.js";
import { atTerminal } from "./stdio.js";

const GENERATORS = [function* () {}, async function* () {}].map((function_) => function_.constructor);

/** A program of methods that an orchestrator calls. See index.d.ts. */
export class Worker {
  #server = null;
  #handlers = new Map();
  #setup = null;

  constructor(name, { concurrency = 1, maxFrame, keepFloats = false } = {}) {
    if (!Number.isSafeInteger(concurrency) || concurrency < 1) {
      throw new RangeError(`concurrency is an integer from 1, not ${concurrency}`);
    }
    this.name = name;
    this.concurrency = concurrency;
    this.maxFrame = maxFrame;
    this.keepFloats = keepFloats;
  }

  setup(work) {
    this.#setup = work;
    return this;
  }

  method(name, work, options) {
    const generates = GENERATORS.some((Generator) => work instanceof Generator);
    return this.#add(name, work, generates ? "stream" : "plain", options);
  }

  batch(name, work, options) {
    return this.#add(name, work, "batch", options);
  }

  stream(name, work, options) {
    return this.#add(name, work, "stream", options);
  }

  #add(name, work, kind, options = {}) {
    if (typeof name !== "string" || name === "" || name.startsWith("$/")) {
      throw new TypeError(`${JSON.stringify(name)} cannot be a method's name: those with $/ are the protocol's`);
    }
    if (typeof work !== "function") throw new TypeError(`the method ${name} is to be a function`);
    if (this.#handlers.has(name)) throw new TypeError(`the worker ${this.name} already has a method ${name}`);
    if (kind === "batch" && options.input) throw new TypeError(`${name}: a batch method takes no streamed argument`);
    this.#handlers.set(name, new Handler(name, work, kind, options));
    return this;
  }

  call(target, params = [], options = {}) {
    return this.#serving().calls.call(target, params, options);
  }

  cast(target, params = []) {
    this.#serving().calls.cast(target, params);
  }

  log(level, text, fields = {}) {
    this.#serving().log(level, text, fields);
  }

  run() {
    if (this.#server !== null) throw new Error(`the worker ${this.name} is running already`);
    if (atTerminal()) {
      process.stderr.write(
        `${this.name} is a worker: it speaks frames with an orchestrator, not with a person at a terminal.\n` +
          'Name this program as a service\'s command in mlports.toml and start that with "mlports run".\n',
      );
      process.exit(2);
    }
    const { name, concurrency, maxFrame, keepFloats } = this;
    this.#server = new Server({ name, concurrency, maxFrame, keepFloats, handlers: this.#handlers, setup: this.#setup });
  }

  #serving() {
    if (this.#server === null) throw new Error(`the worker ${this.name} is not running: this works inside its handlers`);
    return this.#server;
  }
}
