// The three messages: told apart, and checked.

import { isUtf8 } from "node:buffer";

import { isObject } from "./decoder.js";
import { Violation, shown } from "./faults.js";
import { Float } from "./values.js";

export const REQUEST = 0;
export const RESPONSE = 1;
export const NOTIFICATION = 2;

const KINDS = ["request", "response", "notification"];
const LEAST = [4, 4, 3]; // elements

function invalid(reason) {
  return new Violation("InvalidMessage", reason);
}

/**
 * The message in a frame's payload: {kind, id, method, params, meta} or {kind, id, error, result, meta}.
 * `meta` is a plain object, empty when there is none. Throws a Violation.
 */
export function readMessage(decoder, bytes, start, end) {
  decoder.open(bytes, start, end);
  const values = readElements(decoder);
  decoder.close();
  const kind = values?.[0];
  if (!Array.isArray(values) || ![REQUEST, RESPONSE, NOTIFICATION].includes(kind)) {
    throw invalid(`a message is an array that begins with 0, 1 or 2, not ${shown(kind ?? values)}`);
  }
  if (values.length < LEAST[kind]) {
    throw invalid(`a ${KINDS[kind]} has at least ${LEAST[kind]} elements, this one ${values.length}`);
  }
  if (kind === RESPONSE) return response(values);
  const [id, method, params, meta] = kind === REQUEST ? values.slice(1) : [null, ...values.slice(1)];
  if (kind === REQUEST) checkId(id);
  const name = asText(method);
  if (typeof name !== "string" || name === "") {
    throw invalid(`a ${KINDS[kind]}'s method is a string of at least 1 byte, not ${shown(method)}`);
  }
  if (!Array.isArray(params)) throw invalid(`a ${KINDS[kind]}'s params are an array, not ${shown(params)}`);
  return { kind, id, method: name, params, meta: readMeta(meta) };
}

/** A message's elements; floats of integral value as `Float` where the protocol's own integers may stand. */
function readElements(decoder) {
  decoder.keepsFloats = true;
  const count = decoder.arrayHeader();
  if (count < 0) return decoder.read();
  decoder.enter(count, 1);
  const values = [];
  for (let index = 0; index < count; index++) {
    const isParams = index === (values[0] === NOTIFICATION ? 2 : 3); // a response's result stands there too
    decoder.keepsFloats = decoder.alwaysKeepsFloats || !isParams || isProtocols(values);
    values.push(decoder.read());
  }
  return values;
}

function isProtocols(values) {
  if (values[0] === RESPONSE) return false;
  const method = asText(values[values[0] === NOTIFICATION ? 1 : 2]);
  return typeof method === "string" && method.startsWith("$/");
}

function response([, id, error, result, meta]) {
  checkId(id);
  if (error === null) return { kind: RESPONSE, id, error, result, meta: readMeta(meta) };
  if (result !== null) throw invalid(`a response with an error has nil for its result, not ${shown(result)}`);
  return { kind: RESPONSE, id, error: readError(error), result, meta: readMeta(meta) };
}

function readError(value) {
  const error = asFields(value);
  if (error === null) throw invalid(`an error is nil or a map with code and message, not ${shown(value)}`);
  for (const key of ["code", "message"]) {
    error[key] = asText(error[key]);
    if (typeof error[key] !== "string") throw invalid(`an error's ${key} is a string, not ${shown(error[key])}`);
  }
  if (typeof (error.retryable ?? false) !== "boolean" || error.retryable === null) {
    throw invalid(`an error's retryable is a boolean, not ${shown(error.retryable)}`);
  }
  error.data = withoutFloats(error.data);
  return error;
}

function readMeta(meta) {
  if (meta === undefined || meta === null) return {};
  const fields = asFields(meta);
  if (fields === null) throw invalid(`meta is a map, not ${shown(meta)}`);
  return fields;
}

function checkId(id) {
  if (!Number.isSafeInteger(id) || id < 0) throw invalid(`an id is an integer from 0 to 2^53-1, not ${shown(id)}`);
}

/** Some languages have one type for str and bin: what is to be a string may come as either. */
export function asText(value) {
  if (!(value instanceof Uint8Array) || !isUtf8(value)) return value;
  return Buffer.from(value.buffer, value.byteOffset, value.length).toString();
}

/** A decoded map's fields as an object of its own, its keys strings; null for what is no map. */
export function asFields(value) {
  if (isObject(value)) return value;
  if (!(value instanceof Map)) return null;
  return Object.fromEntries([...value].map(([key, item]) => [asText(key), item]));
}

/** The value with numbers for the `Float`s in it: what an application is given of the protocol's own messages. */
export function withoutFloats(value) {
  if (value instanceof Float) return Number(value);
  if (Array.isArray(value)) return value.map(withoutFloats);
  if (value instanceof Map) return new Map([...value].map(([key, item]) => [key, withoutFloats(item)]));
  if (!isObject(value)) return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, withoutFloats(item)]));
}
