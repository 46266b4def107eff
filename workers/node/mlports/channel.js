// The main thread's end of the connection: pieces of frames from the reading thread, frames out in bursts.

import { MessageChannel, Worker, receiveMessageOnPort } from "node:worker_threads";

import { Encoder } from "./encoder.js";
import { MAX_FRAME, POSTED, SERVING, makeNumbers, writeFrames } from "./shared.js";
import { takeStreams } from "./stdio.js";

const LATE = 0.5; // milliseconds that an answer may wait for company
const LARGE = 64 * 1024; // bytes that wait for none


/** Frames in and out. `onPiece` is given {end}, {fault, reason}, or bytes: whole frames, headers included. */
export class Channel {
  encoder = new Encoder();

  constructor(maxFrame, onPiece) {
    const { input, output } = takeStreams();
    const { port1, port2 } = new MessageChannel();
    this.output = output;
    this.numbers = makeNumbers();
    this.maxFrame = maxFrame;
    this.onPiece = onPiece;
    this.port = port1;
    this.taken = 0;
    this.flushed = performance.now();
    this.soon = null;
    this.thread = new Worker(new URL("./reader.js", import.meta.url), {
      workerData: { input, output, numbers: this.numbers, port: port2 },
      transferList: [port2],
      execArgv: [],
    });
    this.thread.on("error", (error) => {
      throw error;
    });
    port1.on("message", (piece) => this.take(piece));
    process.on("exit", () => this.lastFlush());
  }

  /** The longest frame that is accepted, in bytes. */
  set maxFrame(bytes) {
    Atomics.store(this.numbers, MAX_FRAME, bytes);
  }

  get maxFrame() {
    return Atomics.load(this.numbers, MAX_FRAME);
  }

  /** From now on pings are answered. */
  serve() {
    Atomics.store(this.numbers, SERVING, 1);
  }

  take(piece) {
    this.taken++;
    this.onPiece(piece);
  }

  /** Takes what has been read by now, without waiting: for code that keeps the event loop from doing so. */
  poll() {
    while (Atomics.load(this.numbers, POSTED) !== this.taken) {
      const received = receiveMessageOnPort(this.port);
      if (received === undefined) return;
      this.take(received.message);
    }
  }

  /** Writes what is waiting. */
  flush() {
    if (this.soon !== null) {
      clearImmediate(this.soon);
      this.soon = null;
    }
    this.flushed = performance.now();
    const { encoder } = this;
    if (encoder.position === 0) return;
    try {
      writeFrames(this.output, this.numbers, encoder.bytes, 0, encoder.position);
    } catch (error) {
      if (error.code !== "EPIPE" && error.code !== "ECONNRESET") throw error;
      encoder.reset();
      process.exit(1); // nobody reads, so there is nobody to tell why
    }
    encoder.reset();
  }

  /** Writes what is waiting when it is much, or has waited for long; else soon, with what comes until then. */
  flushIfDue() {
    if (this.encoder.position > LARGE || performance.now() - this.flushed > LATE) this.flush();
    else this.soon ??= setImmediate(() => this.flush());
  }

  /** What was answered before the process ended, by whatever call, is an answer. */
  lastFlush() {
    try {
      this.flush();
    } catch {
      // The process ends anyway.
    }
  }
}
