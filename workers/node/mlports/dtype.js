// The element types of arrays, as SPEC.md 12.1 writes them. What is wrong is an InvalidExtension.

import { Violation, shown } from "./faults.js";

const PLAIN = /^[<|](?:(b1|[iu][1248]|f(?:2|4|8|16)|c(?:8|16|32))|([USV])([1-9]\d{0,8})|([mM]8)(?:\[(?:[1-9]\d{0,8})?(?:[YMWDhms]|[munpfa]s)\])?)$/;
const MOST_DIMENSIONS = 64;
const MOST_NESTING = 8;

function wrong(reason) {
  return new Violation("InvalidExtension", reason);
}

export function checkDtype(dtype) {
  sizeOf(dtype);
}

/** Bytes of one element. */
export function sizeOf(dtype, depth = 0) {
  if (Array.isArray(dtype)) return recordSize(dtype, depth);
  const match = typeof dtype === "string" ? PLAIN.exec(dtype) : null;
  if (match === null) throw wrong(`an ndarray's dtype is written as "<f4" is, not ${shown(dtype)}`);
  const [, number, letter, length, time] = match;
  if (number) return Number(number.slice(1));
  if (time) return 8;
  return Number(length) * (letter === "U" ? 4 : 1);
}

function recordSize(fields, depth) {
  if (fields.length === 0 || depth === MOST_NESTING) {
    throw wrong(`a dtype of fields has at least one, nested at most ${MOST_NESTING} deep`);
  }
  const names = new Set();
  let size = 0;
  for (const field of fields) {
    if (!Array.isArray(field) || field.length < 2 || field.length > 3) {
      throw wrong(`a dtype's field is [name, dtype] or [name, dtype, shape], not ${shown(field)}`);
    }
    const [name, dtype, shape = []] = field;
    if (typeof name !== "string" || name === "" || names.has(name)) {
      throw wrong(`the names of a dtype's fields are different strings, not ${shown(name)}`);
    }
    names.add(name);
    size += sizeOf(dtype, depth + 1) * product(shape);
  }
  if (size === 0) throw wrong("the elements of an ndarray have no bytes");
  if (!Number.isSafeInteger(size)) throw wrong(`the elements of an ndarray have ${size} bytes`);
  return size;
}

/** How many elements a shape has. */
function product(shape) {
  if (!Array.isArray(shape) || !shape.every((length) => Number.isSafeInteger(length) && length >= 0)) {
    throw wrong(`an ndarray's shape is an array of integers from 0, not ${shown(shape)}`);
  }
  if (shape.length > MOST_DIMENSIONS) {
    throw wrong(`an ndarray has at most ${MOST_DIMENSIONS} dimensions, this one ${shape.length}`);
  }
  // In doubles it grows past every length there is, and becomes Infinity at worst.
  return shape.includes(0) ? 0 : shape.reduce((total, length) => total * length, 1);
}

/** How many elements of `size` bytes there are; checks that they fill `bytes` exactly. */
export function countOf(shape, bytes, size) {
  const count = product(shape);
  if (count * size !== bytes) {
    throw wrong(`an ndarray of shape ${shown(shape)} and ${size} bytes an element has ${count * size} bytes, not ${bytes}`);
  }
  return count;
}
