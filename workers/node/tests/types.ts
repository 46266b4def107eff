// Not run: tsc checks it against index.d.ts. What is marked as an error must be one.

import { CallFailed, Cancelled, Ext, Failure, Float, NDArray, Timestamp, Worker, current } from "../mlports/index.js";
import type { Context, Value } from "../mlports/index.js";

const worker = new Worker("typed", { concurrency: 4, keepFloats: true });

worker
  .setup(async (config) => console.log(config.model))
  .method("double", (x: number) => 2 * x, { idempotent: true })
  .method("later", async (seconds: number, text: string) => {
    const context: Context = current();
    if (context.deadline !== null && context.deadline < seconds) throw new Failure("deadline_exceeded", text);
    await worker.call("other.method", [seconds], { timeout: 1, signal: context.signal });
    context.progress(1, null, text);
  })
  .batch("root", (numbers: number[]) => numbers.map((x) => (x < 0 ? new RangeError("negative") : Math.sqrt(x))))
  .batch("scores", async (rows: number[][]) => new Float32Array(rows.length))
  .stream("count", function* (n: number) {
    for (let i = 0; i < n; i++) yield i;
  })
  .stream("copy", async function* (items: AsyncIterable<Value>) {
    for await (const item of items) yield item;
  }, { input: true });

worker.log("info", "text", { a: 1 });
worker.cast("other.method");

const array = NDArray.from(new Float32Array(6), [2, 3]);
const nested: number[][] = array.toArray();
const structured = new NDArray([["x", "<f4"], ["box", "<i4", [2, 2]]], [1], new Uint8Array(20));
const sum: number = Number(new Float(1)) + nested.length + structured.shape.length;
const failure: Error = new CallFailed("internal", "text", { data: sum });
const when: Date = new Timestamp(Date.now(), 17);
new Ext(64, new Uint8Array(3));
if (failure instanceof Cancelled) console.log(failure.code, when);

// @ts-expect-error: a name is needed
new Worker();
// @ts-expect-error: no such option
new Worker("x", { threads: 4 });
// @ts-expect-error: one result for each, not one for all
worker.batch("wrong", (numbers: number[]) => numbers.length);
// @ts-expect-error: a stream gives an iterable
worker.stream("wrong", () => 3);
// @ts-expect-error: no such level
worker.log("fatal", "text");
// @ts-expect-error: the params are one list
worker.call("other.method", 1, 2);
// @ts-expect-error: seconds are a number
worker.call("other.method", [], { timeout: "1s" });
// @ts-expect-error: read only
current().deadline = 3;
