import { setImmediate as turn } from "node:timers/promises";

import { Worker } from "../../mlports/index.js";

let waiting = [];

// Each call waits for the third: alone, none would end.
const together = () =>
  new Promise((resolve) => {
    waiting.push(resolve);
    if (waiting.length === 3) {
      waiting.forEach((go, index) => go(index));
      waiting = [];
    }
  });

new Worker("concurrent", { concurrency: 3 })
  .method("together", together)
  .method("turn", async (value) => {
    await turn();
    return value;
  })
  .run();
