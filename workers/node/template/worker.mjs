// A worker: a program whose methods mlports calls, in a process of its own.

// First, before anything that might print: standard output belongs to mlports from here on.
import { Failure, Worker, current } from "./mlports/index.js";

import { setTimeout as after } from "node:timers/promises";

const worker = new Worker("@NAME@");
const line = { slope: 1, intercept: 0 };

/** Called once, before the first call, with `config` from mlports.toml: the place to load a model. */
worker.setup((config) => {
  Object.assign(line, config);
});

/** A plain method: arguments in, a value out. What it prints goes to the log and never breaks the protocol. */
worker.method("describe", () => {
  console.log("somebody asked what this is");
  return { kind: "line", ...line };
});

/**
 * A batch method: a list of arguments in, as many results out, so that a model can work on many at once.
 * An Error in a result's place is that item's error. `idempotent` lets mlports repeat a call after a crash.
 */
worker.batch("predict", (xs) => xs.map(predictOne), { idempotent: true });

function predictOne(x) {
  if (typeof x !== "number") return new Failure("invalid_argument", `a number is needed, not ${JSON.stringify(x)}`);
  return line.slope * x + line.intercept;
}

/** A generator streams what it yields, only as fast as it is read. */
worker.stream("steps", async function* (n, seconds = 0.1) {
  for (let number = 1; number <= n; number++) {
    await after(seconds * 1000, null, { signal: current().signal });
    current().progress(number, n);
    yield number;
  }
});

worker.run();
