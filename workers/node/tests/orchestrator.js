// The other side of a worker: starts a program, says hello, and speaks frames with it.

import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";

import { Decoder } from "../mlports/decoder.js";
import { Encoder } from "../mlports/encoder.js";
import { FrameReader } from "../mlports/framing.js";
import { readMessage } from "../mlports/messages.js";

const FEATURES = ["batch", "cancel", "input", "ndarray", "ping", "stream"];

/** A running worker. `t`: the test, or the suite, at whose end it is killed if it still runs. */
export class Peer {
  errors = ""; // its standard error
  #messages = [];
  #wanted = [];
  #frames = new FrameReader(2 ** 31 - 1);
  #decoder = new Decoder({ ndarray: true });
  #nextId = 1;

  /** `name`: a program in this folder's workers/. */
  constructor(t, name, { env = {}, fd34 = false } = {}) {
    const program = fileURLToPath(new URL(`workers/${name}.js`, import.meta.url));
    const transport = fd34 ? { MLPORTS_TRANSPORT: "fd34" } : {};
    this.process = spawn(process.execPath, [program], {
      stdio: fd34 ? ["ignore", "pipe", "pipe", "pipe", "pipe"] : ["pipe", "pipe", "pipe"],
      env: { ...process.env, MLPORTS_WORKER: "1", ...transport, ...env },
    });
    this.input = this.process.stdio[fd34 ? 3 : 0];
    const output = this.process.stdio[fd34 ? 4 : 1];
    output.on("data", (bytes) => this.#frames.feed(bytes, (...frame) => this.#arrived(readMessage(this.#decoder, ...frame))));
    output.on("end", () => this.#wanted.forEach(({ fail }) => fail(new Error(`the worker has ended: ${this.errors}`))));
    this.input.on("error", () => {}); // it may end before it has read all
    this.process.stderr.on("data", (bytes) => (this.errors += bytes));
    this.exited = new Promise((resolve) => this.process.on("close", (code, signal) => resolve(code ?? signal)));
    t.after(() => void this.process.kill("SIGKILL"));
  }

  #arrived(message) {
    this.#messages.push(message);
    this.#wanted = this.#wanted.filter((wanted) => !wanted.look());
  }

  /** The first message, of those that nobody took yet, that is so. */
  next(isIt) {
    return new Promise((resolve, fail) => {
      const look = () => {
        const index = this.#messages.findIndex(isIt);
        if (index >= 0) resolve(this.#messages.splice(index, 1)[0]);
        return index >= 0;
      };
      if (!look()) this.#wanted.push({ look, fail });
    });
  }

  /** Sends messages, in one write. */
  send(...messages) {
    const encoder = new Encoder();
    encoder.ndarray = true;
    for (const message of messages) encoder.message(message);
    this.input.write(Buffer.from(encoder.bytes.subarray(0, encoder.position)));
  }

  async hello(config = {}, extra = {}) {
    this.send([0, 0, "$/hello", [{ protocol: { min: 1, max: 1 }, features: FEATURES, config, ...extra }]]);
    return (await this.answer(0)).result;
  }

  answer(id) {
    return this.next((message) => message.kind === 1 && message.id === id);
  }

  told(method) {
    return this.next((message) => message.kind !== 1 && message.method === method);
  }

  /** Asks, and gives {error, result}. */
  async ask(method, params = [], meta = {}) {
    const id = this.#nextId++;
    this.send([0, id, method, params, meta]);
    return this.answer(id);
  }

  /** Closes its input; its exit status, or the signal that ended it. */
  end() {
    this.input.end();
    return this.exited;
  }
}
