import { spawnSync } from "node:child_process";
import { readdirSync, writeSync } from "node:fs";
import { setTimeout as after } from "node:timers/promises";

import { Failure, Worker, current } from "../../mlports/index.js";

const worker = new Worker("serving");
const seen = [];

function spin(seconds, look = () => {}) {
  const until = performance.now() + seconds * 1000;
  while (performance.now() < until) look();
}

class Hostile extends Error {
  get message() {
    throw new Error("no message");
  }
}

worker
  .setup((config) => {
    if (config.broken) throw new Failure("internal", "no model there");
  })
  .method("echo", (value) => value, { idempotent: true })
  .method("seen", () => seen.splice(0))
  .method("spin", (seconds) => spin(seconds))
  .method("looking", (seconds) => spin(seconds, () => current().check()))
  .method("leave", () => process.exit(7))
  .method("circle", () => {
    const circle = [];
    circle.push(circle);
    return circle;
  })
  .method("promise", (kind) => ({ function: () => {}, symbol: Symbol("s"), error: new Error("e") })[kind])
  .method("print", () => {
    console.log("by console.log");
    process.stdout.write("by process.stdout\n");
  })
  .method("printBelow", () => {
    writeSync(1, "by descriptor 1\n");
    spawnSync("echo", ["by a child"], { stdio: "inherit" });
  })
  .method("descriptors", () => {
    const own = readdirSync("/proc/self/fd").length;
    const listing = spawnSync("readlink", ["/proc/self/fd/3", "/proc/self/fd/4"], { encoding: "utf8" });
    return [own > 0, listing.stdout];
  })
  .method("wait", async (label) => {
    seen.push("began");
    worker.log("info", label);
    await after(60_000, null, { signal: current().signal }).catch((error) => {
      seen.push("aborted");
      throw error;
    });
  })
  .method("left", () => current().deadline)
  .method("thrown", () => {
    throw "a text";
  })
  .method("hostile", (kind) => {
    if (kind === "thenable") return { then: (resolve) => void resolve("kept") };
    if (kind === "getter") return { get then() { throw new Error("no then"); } };
    throw kind === "error" ? new Hostile() : Object.create(null);
  })
  .batch("halves", (numbers) =>
    numbers.map((n) => (n % 2 ? new RangeError(`${n} is odd`) : n === 0 ? () => {} : n / 2)),
  )
  .stream("letters", async function* (text) {
    try {
      for (const letter of text) yield letter;
    } finally {
      seen.push("closed");
    }
  })
  .stream("doubled", async function* (numbers) {
    for await (const number of numbers) yield 2 * number;
  }, { input: true })
  .method("ask", async (target, params, timeout) => worker.call(target, params, { timeout }))
  .method("tell", (target) => worker.cast(target, [1]));

worker.run();
