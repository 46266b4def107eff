import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import * as sdk from "../mlports/index.js";

const TYPES = readFileSync(new URL("../mlports/index.d.ts", import.meta.url), "utf8");

test("the types name what there is", () => {
  const named = [...TYPES.matchAll(/^export (?:class|function|const) (\w+)/gm)].map(([, name]) => name);
  assert.deepEqual(named.sort(), Object.keys(sdk).sort());
});

for (const name of ["Worker", "NDArray"]) {
  test(`the types name what ${name} can do`, () => {
    const body = new RegExp(`^export class ${name} \\{$([^]*?)^\\}$`, "m").exec(TYPES)[1];
    const methods = [...body.matchAll(/^ {2}(\w+)\(/gm)].map(([, method]) => method);
    const there = Object.getOwnPropertyDescriptors(sdk[name].prototype);
    assert.deepEqual(
      methods.sort(),
      Object.keys(there).filter((method) => there[method].value !== undefined && !["nested"].includes(method)).sort(),
    );
  });
}
