// The worker that the conformance kit knows: a method for each thing that the protocol can do.

import { setTimeout as after } from "node:timers/promises";

import { CallFailed, Failure, Float, Worker, current } from "../mlports/index.js";

const worker = new Worker("conformance", { concurrency: 16, keepFloats: true });
const marks = [];

worker
  .method("echo", (value) => value)
  .method("add", add, { idempotent: true })
  .method("fail", (message) => {
    throw new Error(message);
  })
  .method("refuse", (code, message) => {
    throw new Failure(code, message);
  })
  .method("sleep", async (seconds) => {
    await after(seconds * 1000, null, { signal: current().signal });
    return seconds;
  })
  .method("print", (text) => {
    console.log(text);
  })
  .batch("root", (numbers) => numbers.map(root), { idempotent: true })
  .stream("count", function* (n) {
    for (let number = 0; number < n; number++) yield number;
  })
  .method(
    "total",
    async (numbers) => {
      let sum = 0;
      for await (const number of numbers) sum += number;
      return sum;
    },
    { input: true },
  )
  .method("relay", async (target, params) => {
    try {
      return await worker.call(target, params);
    } catch (error) {
      throw error instanceof CallFailed ? new Failure(error.code, error.message) : error;
    }
  })
  .method("note", (level, text) => {
    worker.log(level, text);
  })
  .method("advance", (n) => {
    for (let done = 1; done <= n; done++) current().progress(done, n);
    return n;
  })
  .method("mark", (value) => {
    marks.push(value);
  })
  .method("marks", () => marks)
  .method("spin", (seconds) => {
    // Keeps the event loop: only the reading thread can tell of it.
    const until = performance.now() + seconds * 1000;
    while (performance.now() < until) current().check();
    return seconds;
  });

function add(a, b) {
  for (const number of [a, b]) {
    if (!isNumber(number)) throw new Failure("invalid_argument", `add takes numbers, not ${JSON.stringify(number)}`);
  }
  return a instanceof Float || b instanceof Float ? new Float(a + b) : a + b;
}

function root(number) {
  if (isNumber(number) && number >= 0) return new Float(Math.sqrt(number));
  return new Failure("invalid_argument", `${JSON.stringify(number)} has no square root`);
}

function isNumber(value) {
  return typeof value === "number" || value instanceof Float;
}

worker.run();
