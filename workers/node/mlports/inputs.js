// A streamed argument, as a handler reads it.

import { Failure } from "./failures.js";

const FIRST = 2; // items, while nothing is known of their size
const MOST = 32; // items
const MOST_BYTES = 8 * 1024 * 1024;

/**
 * How far the caller may be ahead of the handler: 32 items, and no more than seem to fit into 8 MiB, judged by the
 * largest lately; where a single one is larger, one at a time.
 */
export class CreditWindow {
  coming = 0; // items that may still come
  waiting = 0; // items that nobody has taken yet
  waitingBytes = 0;
  #size = 0; // bytes that the next is expected to have; 0: not known

  arrived(bytes) {
    this.coming--;
    this.waiting++;
    this.waitingBytes += bytes;
    this.#size = Math.max(bytes, Math.ceil(this.#size * 0.875), 1);
  }

  taken(bytes) {
    this.waiting--;
    this.waitingBytes -= bytes;
  }

  /** How many more may come, 0 for none yet: it is given in large parts. Counts them as given. */
  grant() {
    const ahead = this.coming + this.waiting;
    if (ahead > MOST / 2) return 0;
    const more = this.#size === 0 ? FIRST - ahead : this.#fitting(ahead);
    if (more <= 0) return 0;
    this.coming += more;
    return more;
  }

  #fitting(ahead) {
    const room = MOST_BYTES - this.waitingBytes - this.coming * this.#size;
    const more = Math.min(MOST - ahead, Math.floor(room / this.#size));
    if (more <= 0) return this.coming === 0 && this.waitingBytes < MOST_BYTES ? 1 : 0;
    return more < ahead ? 0 : more;
  }
}

/** The handler's first argument: an async iterable, to be read once. */
export class InputStream {
  #items = []; // [value, bytes]
  #window = new CreditWindow();
  #ended = false;
  #cut = null; // why nothing more comes, although it has not ended
  #wake = null;

  /** `grant(n)` lets n more items come; `signal()` gives the call's AbortSignal. */
  constructor(grant, signal) {
    this.grant = grant;
    this.signal = signal;
  }

  // -- the server's side

  add(value, bytes) {
    this.#window.arrived(bytes);
    this.#items.push([value, bytes]);
    this.#wake?.();
  }

  end() {
    this.#ended = true;
    this.#wake?.();
  }

  /** The orchestrator is gone, or the call is answered. */
  cut(message) {
    this.#cut ??= new Failure("unavailable", message);
    this.#wake?.();
  }

  // -- the handler's side

  [Symbol.asyncIterator]() {
    return this;
  }

  async next() {
    while (this.#items.length === 0) {
      if (this.#ended) return { done: true, value: undefined };
      if (this.#cut !== null) throw this.#cut;
      this.#letCome();
      await this.#wait();
    }
    const [value, bytes] = this.#items.shift();
    this.#window.taken(bytes);
    this.#letCome();
    return { done: false, value };
  }

  async return() {
    return { done: true, value: undefined };
  }

  #letCome() {
    if (this.#ended || this.#cut !== null) return;
    const more = this.#window.grant();
    if (more > 0) this.grant(more);
  }

  #wait() {
    const { promise, wake } = waiting(this.signal());
    this.#wake = wake;
    return promise;
  }
}

/** A promise that `wake` fulfils, and that is rejected with the signal's reason when that comes first. */
export function waiting(signal) {
  let wake;
  const promise = new Promise((resolve, reject) => {
    const abort = () => reject(signal.reason);
    wake = () => {
      signal.removeEventListener("abort", abort);
      resolve();
    };
    if (signal.aborted) abort();
    else signal.addEventListener("abort", abort, { once: true });
  });
  return { promise, wake };
}
