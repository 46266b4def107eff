// The thread that reads. It answers pings however long a handler keeps the main thread, and hands on all else.

import { createReadStream, fstatSync } from "node:fs";
import { Socket } from "node:net";
import { workerData } from "node:worker_threads";

import { Decoder } from "./decoder.js";
import { Encoder } from "./encoder.js";
import { Violation } from "./faults.js";
import { FrameReader } from "./framing.js";
import { NOTIFICATION, REQUEST, readMessage } from "./messages.js";
import { MAX_FRAME, POSTED, SERVING, writeFrames } from "./shared.js";

const { input, output, numbers, port } = workerData;

const READ_SIZE = 64 * 1024;
const HEADER = 4;
const LONGEST_SIGN = 512; // bytes that a frame of $/ping or $/stop has at most
const GRACE = 1000; // milliseconds that a handler may keep the main thread when nobody is there any more

const frames = new FrameReader(Atomics.load(numbers, MAX_FRAME));
const decoder = new Decoder();
const encoder = new Encoder();
let stopping = false;

function receive(bytes) {
  frames.maxFrame = Atomics.load(numbers, MAX_FRAME);
  const whole = [];
  const take = (source, start, end) => {
    if (!isSign(source, start, end)) whole.push(source.subarray(start - HEADER, end));
  };
  try {
    frames.feed(bytes, take);
  } catch (error) {
    post(whole);
    return fail(error);
  }
  post(whole);
}

/** Frames that lie one behind the other, for the main thread. */
function post(whole) {
  if (whole.length === 0) return;
  const size = whole.reduce((total, frame) => total + frame.length, 0);
  const piece = new Uint8Array(size);
  let position = 0;
  for (const frame of whole) {
    piece.set(frame, position);
    position += frame.length;
  }
  tell(piece, [piece.buffer]);
}

function tell(message, transferred = []) {
  port.postMessage(message, transferred);
  Atomics.add(numbers, POSTED, 1);
}

/** Whether it was a ping, which is answered then. */
function isSign(bytes, start, end) {
  if (end - start > LONGEST_SIGN || Atomics.load(numbers, SERVING) === 0) return false;
  const text = bytes.latin1Slice(start, end);
  if (!text.includes("$/ping") && !text.includes("$/stop")) return false;
  let message;
  try {
    message = readMessage(decoder, bytes, start, end);
  } catch {
    return false; // the main thread finds the same, in its turn
  }
  if (message.kind === NOTIFICATION && message.method === "$/stop") stopping = true;
  if (message.kind !== REQUEST || message.method !== "$/ping") return false;
  pong(message.id);
  return true;
}

function pong(id) {
  encoder.message([1, id, null, null]);
  try {
    writeFrames(output, numbers, encoder.bytes, 0, encoder.position);
  } catch {
    // Nobody reads: the main thread sees that for itself, or the end of the input does.
  }
  encoder.reset();
}

function fail(error) {
  stream.destroy();
  if (!(error instanceof Violation)) throw error;
  tell({ fault: error.name, reason: error.message });
  dieInTime();
}

function end() {
  try {
    frames.end();
  } catch (error) {
    return fail(error);
  }
  tell({ end: true });
  // After $/stop the orchestrator waits for what is at work, as long as it allows.
  if (!stopping) dieInTime();
}

/** The main thread ends the process. If a handler keeps it, nobody waits for that handler any more. */
function dieInTime() {
  setTimeout(() => process.kill(process.pid, "SIGKILL"), GRACE);
}

function open() {
  const kind = fstatSync(input);
  if (!kind.isFIFO() && !kind.isSocket()) return createReadStream(null, { fd: input, autoClose: false }).on("data", receive);
  const buffer = Buffer.allocUnsafeSlow(READ_SIZE);
  const onread = { buffer, callback: (count) => receive(buffer.subarray(0, count)) };
  return new Socket({ fd: input, readable: true, writable: false, onread }).resume();
}

const stream = open();
let ended = false;
const endOnce = () => {
  if (!ended) end();
  ended = true;
};
stream.on("end", endOnce);
stream.on("error", endOnce); // ECONNRESET: a socket's way to say that the other side is gone
