// MessagePack, written: each value in its shortest form, frames whole, one behind the other in one buffer.

import { Oversized, Unencodable, shown } from "./faults.js";
import { Ext, Float, NDArray, Timestamp, dtypeOf } from "./values.js";

const MOST_NESTING = 128;
const FIRST_SIZE = 64 * 1024;
const KEPT_SIZE = 1024 * 1024; // a buffer that grew larger is let go when it has been written
const LARGEST = 2 ** 31 - 1;
const SHORT_TEXT = 24; // characters up to which a loop over them beats a call of native code

const INT64_MIN = -(2n ** 63n);
const UINT64_MAX = 2n ** 64n - 1n;

/**
 * Writes frames into `bytes`, up to `position`. `ndarray`: whether extension 1 is agreed; arrays are nested ones if not.
 * Where writing a value throws, what was written of its frame is to be taken back: `position` set to what it was.
 */
export class Encoder {
  ndarray = false;
  maxFrame = 64 * 1024 * 1024;

  constructor() {
    this.reset();
  }

  /** Forgets what was written. */
  reset() {
    this.position = 0;
    if (this.bytes === undefined || this.bytes.length > KEPT_SIZE) {
      this.bytes = Buffer.allocUnsafeSlow(FIRST_SIZE);
      this.view = new DataView(this.bytes.buffer);
    }
  }

  /** Appends the frame that `write` writes the payload of. Nothing is appended when it throws. */
  frame(write) {
    const start = this.need(4);
    this.depth = 0;
    try {
      write();
      const length = this.position - start - 4;
      if (length > this.maxFrame) {
        throw new Oversized(`it takes ${length} bytes, and the orchestrator accepts frames of ${this.maxFrame}`);
      }
      this.view.setUint32(start, length);
    } catch (error) {
      this.position = start;
      throw error;
    }
  }

  /** Appends a message, an array, as a frame. */
  message(values) {
    this.frame(() => this.array(values));
  }

  /** Room for `count` bytes: where it begins. They count as written. `bytes` and `view` may be others afterwards. */
  need(count) {
    const start = this.position;
    if (start + count > this.bytes.length) this.grow(start + count);
    this.position = start + count;
    return start;
  }

  grow(least) {
    if (least > LARGEST) throw new Oversized(`it takes more than ${LARGEST} bytes`);
    const larger = Buffer.allocUnsafeSlow(Math.min(LARGEST, Math.max(least, this.bytes.length * 2)));
    this.bytes.copy(larger, 0, 0, this.position);
    this.bytes = larger;
    this.view = new DataView(larger.buffer);
  }

  write(value) {
    switch (typeof value) {
      case "number": return this.number(value);
      case "string": return this.text(value);
      case "boolean": return this.byte(value ? 0xc3 : 0xc2);
      case "undefined": return this.byte(0xc0);
      case "object": return value === null ? this.byte(0xc0) : this.object(value);
      case "bigint": return this.bigint(value);
      default: throw new Unencodable(`a ${typeof value} cannot be sent`);
    }
  }

  byte(byte) {
    const start = this.need(1);
    this.bytes[start] = byte;
  }

  /** A tag and an unsigned number of 1, 2 or 4 bytes. */
  tagged(tag, size, number) {
    const start = this.need(1 + size);
    this.bytes[start] = tag;
    if (size === 1) this.bytes[start + 1] = number;
    else if (size === 2) this.view.setUint16(start + 1, number);
    else this.view.setUint32(start + 1, number);
  }

  /** A header whose tags for lengths of 1, 2 and 4 bytes follow each other. */
  header(tag, length) {
    if (length < 256) this.tagged(tag, 1, length);
    else if (length < 65536) this.tagged(tag + 1, 2, length);
    else this.tagged(tag + 2, 4, length);
  }

  number(number) {
    if (!Number.isSafeInteger(number) || Object.is(number, -0)) this.float(number);
    else if (number >= 0) this.positive(number);
    else this.negative(number);
  }

  float(number) {
    const start = this.need(9);
    this.bytes[start] = 0xcb;
    this.view.setFloat64(start + 1, number);
  }

  positive(number) {
    if (number < 128) this.byte(number);
    else if (number < 2 ** 32) this.header(0xcc, number);
    else this.long(0xcf, number);
  }

  negative(number) {
    if (number >= -32) this.byte(number + 256);
    else if (number >= -128) this.tagged(0xd0, 1, number);
    else if (number >= -32768) this.tagged(0xd1, 2, number);
    else if (number >= -(2 ** 31)) this.tagged(0xd2, 4, number);
    else this.long(0xd3, number);
  }

  long(tag, number) {
    const start = this.need(9);
    this.bytes[start] = tag;
    this.view.setUint32(start + 1, Math.floor(number / 2 ** 32));
    this.view.setUint32(start + 5, number);
  }

  bigint(number) {
    if (number >= Number.MIN_SAFE_INTEGER && number <= Number.MAX_SAFE_INTEGER) return this.number(Number(number));
    if (number < INT64_MIN || number > UINT64_MAX) {
      throw new Unencodable(`the integer ${number} cannot be sent: it has more than 64 bits`);
    }
    const start = this.need(9);
    this.bytes[start] = number < 0 ? 0xd3 : 0xcf;
    this.view.setBigUint64(start + 1, BigInt.asUintN(64, number));
  }

  text(text) {
    if (text.length <= SHORT_TEXT && this.ascii(text)) return;
    if (!text.isWellFormed()) throw new Unencodable("a string with half a surrogate pair cannot be sent: it is no UTF-8");
    const length = Buffer.byteLength(text);
    if (length < 32) this.byte(0xa0 | length);
    else this.header(0xd9, length);
    const start = this.need(length);
    this.bytes.utf8Write(text, start, length);
  }

  /** Writes a short text if it is ASCII; whether it was. */
  ascii(text) {
    const start = this.need(1 + text.length);
    const bytes = this.bytes;
    bytes[start] = 0xa0 | text.length;
    for (let index = 0; index < text.length; index++) {
      const code = text.charCodeAt(index);
      if (code > 127) {
        this.position = start;
        return false;
      }
      bytes[start + 1 + index] = code;
    }
    return true;
  }

  object(value) {
    if (Array.isArray(value)) return this.array(value);
    if (ArrayBuffer.isView(value)) return this.buffer(value);
    if (value instanceof ArrayBuffer) return this.bin(new Uint8Array(value));
    if (value instanceof Map) return this.map(value.entries(), value.size);
    if (value instanceof Number) return value instanceof Float ? this.float(Number(value)) : this.number(Number(value));
    if (value instanceof Date) return this.timestamp(value);
    if (value instanceof NDArray) return this.ndarrayOf(value);
    if (value instanceof Ext) return this.ext(value.code, value.bytes);
    if (typeof value.toJSON === "function") return this.nested(() => this.write(value.toJSON()));
    if (value instanceof Error || value instanceof Set || typeof value.then === "function") {
      throw new Unencodable(`a ${value.constructor?.name ?? "promise"} cannot be sent`);
    }
    const entries = Object.entries(value).filter(([, item]) => item !== undefined);
    return this.map(entries, entries.length);
  }

  nested(write) {
    if (++this.depth > MOST_NESTING) {
      throw new Unencodable(`a value nested deeper than ${MOST_NESTING}, or within itself, cannot be sent`);
    }
    write();
    this.depth--;
  }

  arrayHeader(length) {
    if (length < 16) this.byte(0x90 | length);
    else if (length < 65536) this.tagged(0xdc, 2, length);
    else this.tagged(0xdd, 4, length);
  }

  array(values) {
    this.arrayHeader(values.length);
    this.nested(() => {
      for (const value of values) this.write(value);
    });
  }

  map(entries, length) {
    if (length < 16) this.byte(0x80 | length);
    else if (length < 65536) this.tagged(0xde, 2, length);
    else this.tagged(0xdf, 4, length);
    this.nested(() => {
      for (const [key, value] of entries) {
        this.key(key);
        this.write(value);
      }
    });
  }

  key(key) {
    const kind = typeof key;
    const fits = kind === "number" ? Number.isSafeInteger(key) : kind !== "object" || key === null;
    if (!fits && !(key instanceof Uint8Array)) throw new Unencodable(`${shown(key)} cannot be a map's key`);
    this.write(key);
  }

  /** Bytes are bin; the elements of other typed arrays are an ndarray's. */
  buffer(value) {
    if (value instanceof Uint8Array) this.bin(value);
    else if (dtypeOf(value) === undefined) this.bin(new Uint8Array(value.buffer, value.byteOffset, value.byteLength));
    else this.ndarrayOf(NDArray.from(value));
  }

  bin(bytes) {
    this.header(0xc4, bytes.length);
    const start = this.need(bytes.length);
    this.bytes.set(bytes, start);
  }

  ext(code, bytes) {
    this.extHeader(code, bytes.length);
    const start = this.need(bytes.length);
    this.bytes.set(bytes, start);
  }

  extHeader(code, length) {
    const fixed = [1, 2, 4, 8, 16].indexOf(length);
    if (fixed >= 0) this.byte(0xd4 + fixed);
    else this.header(0xc7, length);
    this.byte(code);
  }

  timestamp(date) {
    const time = date.getTime();
    if (Number.isNaN(time)) throw new Unencodable("an invalid Date cannot be sent");
    const seconds = Math.floor(time / 1000);
    const nanoseconds = (time - seconds * 1000) * 1e6 + (date instanceof Timestamp ? date.nanoseconds : 0);
    if (nanoseconds === 0 && seconds >= 0 && seconds < 2 ** 32) {
      this.extHeader(-1, 4);
      const start = this.need(4);
      this.view.setUint32(start, seconds);
    } else if (seconds >= 0 && seconds < 2 ** 34) {
      this.extHeader(-1, 8);
      const start = this.need(8);
      this.view.setUint32(start, nanoseconds * 4 + Math.floor(seconds / 2 ** 32));
      this.view.setUint32(start + 4, seconds);
    } else {
      this.extHeader(-1, 12);
      const start = this.need(12);
      this.view.setUint32(start, nanoseconds);
      this.view.setBigInt64(start + 4, BigInt(seconds));
    }
  }

  ndarrayOf(array) {
    if (!this.ndarray) return this.write(array.nested((number) => new Float(number)));
    const head = (this.inner ??= new Encoder());
    head.reset();
    head.depth = 0;
    head.write([array.dtype, array.shape]);
    const elements = array.bytes;
    this.extHeader(1, head.position + elements.length);
    let start = this.need(head.position);
    this.bytes.set(head.bytes.subarray(0, head.position), start);
    start = this.need(elements.length);
    this.bytes.set(elements, start);
  }
}
