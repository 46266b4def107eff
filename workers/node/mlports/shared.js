// What the main thread and the reading one share: a few numbers, and the right to write.

import { writeSync } from "node:fs";

/** The numbers' places. */
export const LOCK = 0; // 1 while somebody writes
export const POSTED = 1; // pieces that the reading thread has posted
export const MAX_FRAME = 2; // bytes
export const SERVING = 3; // 1 once $/hello is answered
export const NUMBERS = 4;

const FULL_PIPE_WAIT = 1; // milliseconds

export function makeNumbers() {
  return new Int32Array(new SharedArrayBuffer(NUMBERS * Int32Array.BYTES_PER_ELEMENT));
}

/** Writes whole frames: `bytes` from `start` to `end`, with no other thread's between them. Throws EPIPE. */
export function writeFrames(descriptor, numbers, bytes, start, end) {
  while (Atomics.compareExchange(numbers, LOCK, 0, 1) !== 0) Atomics.wait(numbers, LOCK, 1);
  try {
    while (start < end) start += writeSome(descriptor, numbers, bytes, start, end);
  } finally {
    Atomics.store(numbers, LOCK, 0);
    Atomics.notify(numbers, LOCK, 1);
  }
}

function writeSome(descriptor, numbers, bytes, start, end) {
  try {
    return writeSync(descriptor, bytes, start, end - start);
  } catch (error) {
    if (error.code !== "EAGAIN") throw error;
    // A descriptor that somebody made non-blocking. The orchestrator always reads, so this ends.
    Atomics.wait(numbers, LOCK, 1, FULL_PIPE_WAIT);
    return 0;
  }
}
