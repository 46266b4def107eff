// What MessagePack has and JavaScript has no type for.

import { Violation } from "./faults.js";
import { checkDtype, countOf, sizeOf } from "./dtype.js";

/**
 * A number that is sent as a float even where it is integral: `new Float(1)` is 1.0 to the other side, 1 is the
 * integer 1. Other numbers need it not.
 */
export class Float extends Number {}

/** An extension value of an application: `code` (64 … 127 are free) and `bytes`. */
export class Ext {
  constructor(code, bytes) {
    this.code = code;
    this.bytes = bytes;
  }
}

/** A Date that keeps what a Date rounds away: `nanoseconds`, 0 … 999999, within its millisecond. */
export class Timestamp extends Date {
  constructor(milliseconds, nanoseconds = 0) {
    super(milliseconds);
    this.nanoseconds = nanoseconds;
  }
}

const ARRAYS = {
  "|b1": Uint8Array,
  "|i1": Int8Array,
  "<i2": Int16Array,
  "<i4": Int32Array,
  "<i8": BigInt64Array,
  "|u1": Uint8Array,
  "<u2": Uint16Array,
  "<u4": Uint32Array,
  "<u8": BigUint64Array,
  "<f2": Uint16Array,
  "<f4": Float32Array,
  "<f8": Float64Array,
};

const DTYPES = new Map([
  [Int8Array, "|i1"],
  [Int16Array, "<i2"],
  [Int32Array, "<i4"],
  [BigInt64Array, "<i8"],
  [Uint8Array, "|u1"],
  [Uint8ClampedArray, "|u1"],
  [Uint16Array, "<u2"],
  [Uint32Array, "<u4"],
  [BigUint64Array, "<u8"],
  [Float32Array, "<f4"],
  [Float64Array, "<f8"],
]);

/** The dtype of a typed array's elements; undefined for what is none. */
export function dtypeOf(array) {
  return DTYPES.get(array.constructor) ?? (array instanceof Uint8Array ? "|u1" : undefined);
}

/**
 * An n-dimensional array, row-major: numpy's on the Python side.
 *
 * `dtype` is "<f4", "<f8", "<i4", "|u1" …, or a list of fields; `shape` the lengths of its axes; `data` its elements: a
 * typed array where JavaScript has one for the dtype ("<f2": a Uint16Array of the raw halves), else their bytes.
 */
export class NDArray {
  /** Throws a RangeError when the elements are not as many as the shape says. */
  constructor(dtype, shape, data) {
    try {
      checkDtype(dtype);
      countOf(shape, data.byteLength, sizeOf(dtype));
    } catch (error) {
      throw error instanceof Violation ? new RangeError(error.message) : error;
    }
    this.dtype = dtype;
    this.shape = shape;
    this.data = data;
  }

  /** A typed array as an NDArray, of one axis unless `shape` says otherwise. */
  static from(data, shape = [data.length]) {
    const dtype = dtypeOf(data);
    if (dtype === undefined) throw new TypeError(`an NDArray is made from a typed array, not ${typeof data}`);
    return new NDArray(dtype, shape, data);
  }

  /** The array in `bytes`, which are copied: elements of typed arrays are aligned, those on the wire are not. */
  static fromBytes(dtype, shape, bytes) {
    const Type = ARRAYS[dtype] ?? Uint8Array;
    const copy = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength);
    return new NDArray(dtype, shape, new Type(copy));
  }

  /** The elements' bytes, not copied. */
  get bytes() {
    return new Uint8Array(this.data.buffer, this.data.byteOffset, this.data.byteLength);
  }

  /** Nested arrays of numbers (BigInts beyond 2^53, booleans for "|b1"); a TypeError for other elements. */
  toArray() {
    return this.nested((value) => value);
  }

  /** `toArray`, with each float passed through `float`. */
  nested(float) {
    const Type = ARRAYS[this.dtype];
    if (Type === undefined) throw new TypeError(`elements of dtype ${JSON.stringify(this.dtype)} are no numbers`);
    const read = reader(this.dtype, float);
    const data = this.data instanceof Type ? this.data : new Type(this.bytes.slice().buffer);
    let next = 0;
    const axis = (depth) =>
      depth === this.shape.length
        ? read(data[next++])
        : Array.from({ length: this.shape[depth] }, () => axis(depth + 1));
    return axis(0);
  }
}

function reader(dtype, float) {
  if (dtype === "|b1") return (value) => value !== 0;
  if (dtype === "<f2") return (value) => float(half(value));
  if (dtype === "<f4" || dtype === "<f8") return float;
  if (dtype === "<i8" || dtype === "<u8") return safe;
  return (value) => value;
}

/** A BigInt as the number that it is, if a number can be it. */
function safe(value) {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value;
}

function half(bits) {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}
