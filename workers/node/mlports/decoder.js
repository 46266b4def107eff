// MessagePack, read strictly: a length is believed when the bytes are there, text is UTF-8, and 64 bits stay 64 bits.

import { isUtf8 } from "node:buffer";

import { countOf, sizeOf } from "./dtype.js";
import { Violation, shown } from "./faults.js";
import { Ext, Float, NDArray, Timestamp } from "./values.js";

const MOST_NESTING = 1024;
const SHORT_TEXT = 24; // bytes up to which a loop over them beats a call of native code
const LATEST = 8_640_000_000_000; // seconds from 1970 that a Date can be, either way

function malformed(reason) {
  return new Violation("MalformedValue", reason);
}

/**
 * Reads values out of bytes. `ndarray`: whether extension 1 is agreed.
 *
 * Integers beyond ±(2^53 − 1) become BigInts. While `keepsFloats` is set, a float of integral value becomes a `Float`:
 * the protocol's own fields tell 1.0 from 1. `keepFloats`: also in what an application is given.
 */
export class Decoder {
  keepsFloats = false;

  constructor({ ndarray = false, keepFloats = false } = {}) {
    this.ndarray = ndarray;
    this.alwaysKeepsFloats = keepFloats;
  }

  /** Begins to read `bytes`, a Buffer, from `start` to `end`. */
  open(bytes, start = 0, end = bytes.length) {
    this.bytes = bytes;
    if (this.viewed !== bytes.buffer) {
      this.viewed = bytes.buffer;
      this.view = new DataView(bytes.buffer);
    }
    this.base = bytes.byteOffset;
    this.position = start;
    this.end = end;
    this.depth = 0;
  }

  /** Throws unless all was read. */
  close() {
    if (this.position !== this.end) {
      throw new Violation("TrailingBytes", `${this.end - this.position} bytes behind the value in a frame`);
    }
  }

  /** The next value. */
  read() {
    const tag = this.bytes[this.skip(1)];
    if (tag < 0x80) return tag;
    if (tag < 0x90) return this.map(tag & 15);
    if (tag < 0xa0) return this.array(tag & 15);
    if (tag < 0xc0) return this.text(tag & 31);
    if (tag >= 0xe0) return tag - 256;
    return this.tagged(tag);
  }

  /** The header of an array, as its length; -1, with nothing read, if something else is there. */
  arrayHeader() {
    const tag = this.position < this.end ? this.bytes[this.position] : 0xc1;
    if (tag >= 0x90 && tag < 0xa0) return this.bytes[this.position++] & 15;
    if (tag !== 0xdc && tag !== 0xdd) return -1;
    this.position++;
    return this.unsigned(tag === 0xdc ? 2 : 4);
  }

  tagged(tag) {
    switch (tag) {
      case 0xc0: return null;
      case 0xc2: return false;
      case 0xc3: return true;
      case 0xc4: return this.bin(this.unsigned(1));
      case 0xc5: return this.bin(this.unsigned(2));
      case 0xc6: return this.bin(this.unsigned(4));
      case 0xc7: return this.ext(this.unsigned(1));
      case 0xc8: return this.ext(this.unsigned(2));
      case 0xc9: return this.ext(this.unsigned(4));
      case 0xca: return this.float(this.view.getFloat32(this.base + this.skip(4)));
      case 0xcb: return this.float(this.view.getFloat64(this.base + this.skip(8)));
      case 0xcc: return this.unsigned(1);
      case 0xcd: return this.unsigned(2);
      case 0xce: return this.unsigned(4);
      case 0xcf: return this.long(false);
      case 0xd0: return this.view.getInt8(this.base + this.skip(1));
      case 0xd1: return this.view.getInt16(this.base + this.skip(2));
      case 0xd2: return this.view.getInt32(this.base + this.skip(4));
      case 0xd3: return this.long(true);
      case 0xd4: return this.ext(1);
      case 0xd5: return this.ext(2);
      case 0xd6: return this.ext(4);
      case 0xd7: return this.ext(8);
      case 0xd8: return this.ext(16);
      case 0xd9: return this.text(this.unsigned(1));
      case 0xda: return this.text(this.unsigned(2));
      case 0xdb: return this.text(this.unsigned(4));
      case 0xdc: return this.array(this.unsigned(2));
      case 0xdd: return this.array(this.unsigned(4));
      case 0xde: return this.map(this.unsigned(2));
      case 0xdf: return this.map(this.unsigned(4));
      default: throw malformed("the byte c1, which MessagePack never uses");
    }
  }

  /** Where the next `count` bytes begin; they are read. */
  skip(count) {
    const start = this.position;
    if (count > this.end - start) {
      throw malformed(`a value of ${count} bytes where the frame has ${this.end - start} left`);
    }
    this.position = start + count;
    return start;
  }

  unsigned(count) {
    const at = this.base + this.skip(count);
    return count === 1 ? this.view.getUint8(at) : count === 2 ? this.view.getUint16(at) : this.view.getUint32(at);
  }

  long(signed) {
    const at = this.base + this.skip(8);
    const high = signed ? this.view.getInt32(at) : this.view.getUint32(at);
    const number = high * 2 ** 32 + this.view.getUint32(at + 4);
    if (Number.isSafeInteger(number)) return number;
    return signed ? this.view.getBigInt64(at) : this.view.getBigUint64(at);
  }

  float(number) {
    return this.keepsFloats && Number.isInteger(number) ? new Float(number) : number;
  }

  text(length) {
    const start = this.skip(length);
    if (length > SHORT_TEXT) return this.longText(start, length);
    let text = "";
    for (let at = start; at < this.position; at++) {
      const byte = this.bytes[at];
      if (byte > 127) return this.longText(start, length);
      text += String.fromCharCode(byte);
    }
    return text;
  }

  longText(start, length) {
    const text = this.bytes.utf8Slice(start, start + length);
    // Only what was wrong, or was this character itself, has it in the end.
    if (text.includes("\ufffd") && !isUtf8(this.bytes.subarray(start, start + length))) {
      throw malformed(`a str that is not UTF-8: ${shown(text)}`);
    }
    return text;
  }

  bin(length) {
    const start = this.skip(length);
    return copied(this.bytes, start, length);
  }

  enter(count, bytes) {
    if (count * bytes > this.end - this.position) {
      throw malformed(`an array or a map of ${count} where the frame has ${this.end - this.position} bytes left`);
    }
    if (++this.depth > MOST_NESTING) throw malformed(`nested deeper than ${MOST_NESTING}`);
  }

  array(count) {
    this.enter(count, 1);
    const values = [];
    for (let index = 0; index < count; index++) values.push(this.read());
    this.depth--;
    return values;
  }

  /** A plain object; a Map when a key is no string. */
  map(count) {
    this.enter(count, 2);
    const object = {};
    let map = null;
    for (let index = 0; index < count; index++) {
      const key = this.read();
      if (map === null && typeof key !== "string") map = new Map(Object.entries(object));
      if (map !== null) map.set(checkedKey(key), this.read());
      else if (key === "__proto__") define(object, key, this.read());
      else object[key] = this.read();
    }
    this.depth--;
    return map ?? object;
  }

  ext(length) {
    const code = this.view.getInt8(this.base + this.skip(1));
    const start = this.skip(length);
    if (code === -1) return this.timestamp(start, length);
    if (code === 1 && this.ndarray) return this.array1(start);
    if (code >= 1 && code <= 3) {
      throw new Violation("InvalidExtension", `extension ${code}, whose feature is not agreed`);
    }
    return new Ext(code, copied(this.bytes, start, length));
  }

  timestamp(start, length) {
    const at = this.base + start;
    let seconds;
    let nanoseconds = 0;
    if (length === 4) seconds = this.view.getUint32(at);
    else if (length === 8) {
      const head = this.view.getUint32(at);
      nanoseconds = head >>> 2;
      seconds = (head & 3) * 2 ** 32 + this.view.getUint32(at + 4);
    } else if (length === 12) {
      nanoseconds = this.view.getUint32(at);
      seconds = Number(this.view.getBigInt64(at + 4));
    } else throw malformed(`a timestamp of ${length} bytes`);
    if (nanoseconds > 999_999_999) throw malformed(`a timestamp of ${nanoseconds} nanoseconds`);
    if (Math.abs(seconds) >= LATEST) return new Ext(-1, copied(this.bytes, start, length));
    return new Timestamp(seconds * 1000 + Math.floor(nanoseconds / 1e6), nanoseconds % 1e6);
  }

  array1(start) {
    const inner = new Decoder();
    inner.keepsFloats = true;
    inner.open(this.bytes, start, this.position);
    let head;
    try {
      head = inner.read();
    } catch (error) {
      throw new Violation("InvalidExtension", `an ndarray's head is cut or wrong: ${error.message}`);
    }
    if (!Array.isArray(head) || head.length !== 2) {
      throw new Violation("InvalidExtension", `an ndarray begins with [dtype, shape], not ${shown(head)}`);
    }
    const [dtype, shape] = head;
    countOf(shape, this.position - inner.position, sizeOf(dtype));
    return NDArray.fromBytes(dtype, shape, this.bytes.subarray(inner.position, this.position));
  }
}

function copied(bytes, start, length) {
  return new Uint8Array(bytes.subarray(start, start + length));
}

/** JavaScript would take this one name for the object's prototype. */
function define(object, key, value) {
  Object.defineProperty(object, key, { value, writable: true, enumerable: true, configurable: true });
}

function checkedKey(key) {
  if (Array.isArray(key) || key instanceof Map || isObject(key)) {
    throw malformed(`an array or a map as a map's key: ${shown(key)}`);
  }
  return key;
}

/** Whether a decoded value is a map that became a plain object. */
export function isObject(value) {
  return typeof value === "object" && value !== null && Object.getPrototypeOf(value) === Object.prototype;
}
