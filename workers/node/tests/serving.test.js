import assert from "node:assert/strict";
import { once } from "node:events";
import { after, before, describe, test } from "node:test";

import { NDArray } from "../mlports/index.js";
import { Peer } from "./orchestrator.js";

const LIMIT = { timeout: 20_000 };

async function started(t, name = "serving", options = {}) {
  const peer = new Peer(t, name, options);
  await peer.hello();
  return peer;
}

describe("one worker, call after call", () => {
  let peer;
  let kill = () => {};
  before(async () => (peer = await started({ after: (work) => (kill = work) })));
  after(() => kill());

  test("a cancel reaches a handler that keeps the event loop, and looks", LIMIT, async () => {
    peer.send([0, 900, "looking", [60]], [0, 901, "echo", ["queued"]]);
    peer.send([2, "$/cancel", [901]]);
    peer.send([2, "$/cancel", [900]]);
    assert.equal((await peer.answer(900)).error.code, "cancelled");
    assert.equal((await peer.answer(901)).error.code, "cancelled");
  });

  test("a deadline reaches a handler that looks", LIMIT, async () => {
    assert.equal((await peer.ask("looking", [60], { deadline_ms: 30 })).error.code, "deadline_exceeded");
    assert.equal((await peer.ask("wait", ["late"], { deadline_ms: 30 })).error.code, "deadline_exceeded");
    const left = (await peer.ask("left", [], { deadline_ms: 5000 })).result;
    assert.ok(left > 4 && left <= 5, `${left} s`);
  });

  test("integers of 64 bits stay what they are", LIMIT, async () => {
    const values = [2 ** 53 - 1, 2n ** 53n, 2n ** 64n - 1n, -(2n ** 63n), -(2 ** 53) + 1, 0.5, -0];
    assert.deepEqual((await peer.ask("echo", [values])).result, values);
    assert.equal((await peer.ask("echo", [2n ** 53n - 1n])).result, 2 ** 53 - 1);
  });

  test("typed arrays and arrays", LIMIT, async () => {
    const matrix = NDArray.from(new Float32Array([1, 2, 3, 4, 5, 6]), [2, 3]);
    assert.deepEqual((await peer.ask("echo", [matrix])).result, matrix);
    assert.deepEqual(matrix.toArray(), [[1, 2, 3], [4, 5, 6]]);
    assert.deepEqual((await peer.ask("echo", [new Int16Array([1, -2])])).result.data, new Int16Array([1, -2]));
  });

  test("a result that cannot be sent is an error", LIMIT, async () => {
    for (const kind of ["function", "symbol", "error"]) {
      assert.equal((await peer.ask("promise", [kind])).error.code, "internal", kind);
    }
    assert.match((await peer.ask("circle")).error.message, /within itself/);
    const pairs = (await peer.ask("halves", [[1], [0], [4]], { batch: 3 })).result;
    assert.deepEqual(pairs.map(([error]) => error?.code ?? null), ["unknown", "internal", null]);
    assert.equal(pairs[2][1], 2);
  });

  test("errors tell their type, and the handler's own frames", LIMIT, async () => {
    const { error } = await peer.ask("halves", [3]);
    assert.equal(error.message, "RangeError: 3 is odd");
    assert.equal(error.data.type, "RangeError");
    assert.match(error.data.traceback, /workers\/serving\.js/);
    assert.doesNotMatch(error.data.traceback, /mlports\/jobs\.js/);
    assert.equal((await peer.ask("thrown")).error.message, "thrown: a text");
    assert.match((await peer.ask("spin")).error.message, /called with 0 arguments, it takes 1/);
  });

  test("a handler's odd values harm nobody else", LIMIT, async () => {
    assert.equal((await peer.ask("hostile", ["thenable"])).result, "kept");
    assert.equal((await peer.ask("hostile", ["getter"])).error.message, "Error: no then");
    assert.equal((await peer.ask("hostile", ["error"])).error.code, "unknown");
    assert.equal((await peer.ask("hostile", ["bare"])).error.code, "unknown");
  });

  test("a call that is cancelled while it waits has its signal aborted", LIMIT, async () => {
    await peer.ask("seen"); // forgets what it saw before
    peer.send([0, 900, "wait", ["given up"]], [0, 901, "seen", []]);
    await peer.next(({ method, params }) => method === "$/log" && params[1] === "given up");
    peer.send([2, "$/cancel", [900]]);
    assert.equal((await peer.answer(900)).error.code, "cancelled");
    assert.deepEqual((await peer.answer(901)).result, ["began", "aborted"]);
  });

  test("a stream gives no more than it may, and is closed when it is cancelled", LIMIT, async () => {
    peer.send([0, 900, "letters", ["abc"], { credit: 1 }]);
    assert.deepEqual((await peer.told("$/item")).params, [900, "a"]);
    peer.send([2, "$/credit", [900, 1]]);
    assert.deepEqual((await peer.told("$/item")).params, [900, "b"]);
    peer.send([2, "$/cancel", [900]]);
    assert.equal((await peer.answer(900)).error.code, "cancelled");
    assert.deepEqual((await peer.ask("seen")).result, ["closed"]);
    assert.deepEqual((await peer.ask("letters", ["ab"])).result, ["a", "b"]);
  });

  test("calls of other services carry their parent and their time", LIMIT, async () => {
    peer.send([0, 900, "ask", ["other.method", ["x"], 30], { deadline_ms: 5000, traceparent: "t" }]);
    const call = await peer.told("other.method");
    assert.deepEqual([call.params, call.meta.parent, call.meta.traceparent], [["x"], 900, "t"]);
    assert.ok(call.meta.deadline_ms <= 5000);
    peer.send([1, call.id, { code: "not_found", message: "no such thing" }, null]);
    assert.equal((await peer.answer(900)).error.code, "not_found");
  });

  test("a call that takes too long is given up", LIMIT, async () => {
    peer.send([0, 900, "ask", ["other.method", [], 0.02]]);
    const call = await peer.told("other.method");
    assert.deepEqual((await peer.told("$/cancel")).params, [call.id]);
    assert.equal((await peer.answer(900)).error.code, "deadline_exceeded");
    peer.send([1, call.id, null, "late"]);
    assert.equal((await peer.ask("echo", ["still there"])).result, "still there");
  });

  test("a frame in many pieces", LIMIT, async () => {
    const text = "é".repeat(3_000_000);
    assert.equal((await peer.ask("echo", [text])).result, text);
  });
});

test("a ping is answered while a handler keeps the event loop", LIMIT, async (t) => {
  const peer = await started(t);
  const id = 900;
  peer.send([0, id, "spin", [0.5]], [0, 901, "$/ping", []]);
  assert.equal((await peer.next(() => true)).id, 901);
  assert.equal((await peer.answer(id)).error, null);
  assert.equal(await peer.end(), 0);
});

test("an answer does not wait for a slow call behind it", LIMIT, async (t) => {
  const peer = await started(t);
  peer.send([0, 900, "echo", [1]], [0, 901, "spin", [60]]);
  assert.equal((await peer.answer(900)).result, 1);
});

test("what was answered before the program leaves is an answer", LIMIT, async (t) => {
  const peer = await started(t);
  peer.send([0, 900, "echo", [1]], [0, 901, "echo", [2]], [0, 902, "leave", []]);
  assert.equal((await peer.answer(901)).result, 2);
  assert.equal(await peer.exited, 7);
});

test("a handler that keeps the event loop is not waited for when nobody is there", LIMIT, async (t) => {
  const peer = await started(t);
  peer.send([0, 900, "echo", [1]], [0, 901, "spin", [60]]);
  await peer.answer(900);
  assert.equal(await peer.end(), "SIGKILL");
});

test("what prints, prints on standard error, also where descriptor 1 is a socket", LIMIT, async (t) => {
  const peer = await started(t);
  assert.equal((await peer.ask("print")).error, null);
  assert.equal(await peer.end(), 0);
  for (const line of ["by console.log", "by process.stdout"]) {
    assert.ok(peer.errors.includes(`${line}\n`), `${line} is missing in ${peer.errors}`);
  }
});

test("on descriptors 3 and 4, which no child inherits", LIMIT, async (t) => {
  const peer = await started(t, "serving", { fd34: true });
  const { error, result } = await peer.ask("descriptors");
  assert.equal(error, null);
  assert.doesNotMatch(result[1], /pipe|socket/);
  assert.equal(await peer.end(), 0);
});

test("without the feature ndarray, arrays are lists, and their floats floats", LIMIT, async (t) => {
  const peer = new Peer(t, "serving");
  await peer.hello({}, { features: [] });
  const sent = peer.told("other.method");
  peer.send([0, 900, "ask", ["other.method", [1.5], null]]);
  assert.deepEqual((await sent).params, [1.5]);
});

test("a set-up that fails ends it, in its own words", LIMIT, async (t) => {
  const peer = new Peer(t, "serving");
  peer.hello({ broken: true }).catch(() => {});
  assert.equal(await peer.exited, 1);
  assert.match(peer.errors, /serving: the set-up failed: no model there\n/);
});

test("a violation ends it, by its name", LIMIT, async (t) => {
  const peer = await started(t);
  peer.send([0, 900, "echo", ["before"]], [1, 5, null, null]);
  assert.equal((await peer.answer(900)).result, "before");
  assert.equal(await peer.exited, 1);
  assert.match(peer.errors, /^UnknownId: /m);
});

test("a streamed argument is asked for when it is read, and ends with the input", LIMIT, async (t) => {
  const peer = await started(t);
  peer.send([0, 900, "doubled", [], { input: true, credit: 8 }]);
  assert.deepEqual((await peer.told("$/input_credit")).params, [900, 2]);
  peer.send([2, "$/input", [900, 4]]);
  assert.deepEqual((await peer.told("$/item")).params, [900, 8]);
  peer.input.end();
  assert.equal((await peer.answer(900)).error.code, "unavailable");
  assert.equal(await peer.exited, 0);
});

test("so many calls at once as it says, also within a batch", LIMIT, async (t) => {
  const peer = await started(t, "concurrent");
  peer.send(...[1, 2, 3].map((id) => [0, id, "together", []]));
  assert.deepEqual([(await peer.answer(1)).result, (await peer.answer(2)).result, (await peer.answer(3)).result], [0, 1, 2]);
  peer.send([0, 4, "together", [[], [], []], { batch: 3 }]);
  assert.deepEqual((await peer.answer(4)).result, [[null, 0], [null, 1], [null, 2]]);
  peer.send([0, 5, "turn", Array.from({ length: 9 }, (_, n) => [n]), { batch: 9 }]);
  assert.deepEqual((await peer.answer(5)).result.map(([, value]) => value), [0, 1, 2, 3, 4, 5, 6, 7, 8]);
});

test("$/stop: finishes what it has, takes nothing new, and leaves", LIMIT, async (t) => {
  const peer = await started(t);
  peer.send([0, 900, "spin", [0.05]], [2, "$/stop", ["enough"]], [0, 901, "echo", [1]]);
  assert.equal((await peer.answer(900)).error, null);
  const { error } = await peer.answer(901);
  assert.deepEqual([error.code, error.retryable], ["unavailable", true]);
  assert.equal(await peer.exited, 0);
});

test("nobody reads: it ends by itself", LIMIT, async (t) => {
  const peer = await started(t);
  peer.process.stdout.destroy();
  await once(peer.process.stdout, "close");
  peer.send([0, 900, "echo", [1]]);
  assert.equal(await peer.exited, 1);
  assert.equal(peer.errors, "");
});
