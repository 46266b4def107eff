// The golden vectors of protocol/vectors, as JavaScript values.

import { readFileSync } from "node:fs";

import { Ext, Float, NDArray, Timestamp } from "../mlports/index.js";

const FOLDER = new URL("../../../protocol/vectors/", import.meta.url);

export function load(name) {
  return JSON.parse(readFileSync(new URL(name, FOLDER), "utf8"));
}

/** The value that a vector's JSON describes. Floats of integral value are `Float`s. */
export function value(json) {
  if (json === null || typeof json !== "object") return json;
  if (Array.isArray(json)) return json.map(value);
  if ("int" in json) return BigInt(json.int);
  if ("float" in json) return float(json.float);
  if ("bin" in json) return bytes(json.bin);
  if ("map" in json) return map(json.map.map(([key, item]) => [value(key), value(item)]));
  if ("timestamp" in json) return timestamp(...json.timestamp.map(value));
  if ("ndarray" in json) return NDArray.fromBytes(json.ndarray.dtype, json.ndarray.shape, bytes(json.ndarray.hex));
  if ("ext" in json) return new Ext(json.ext[0], bytes(json.ext[1]));
  throw new Error(`an unknown value: ${JSON.stringify(json)}`);
}

function float(text) {
  const number = { inf: Infinity, "-inf": -Infinity, nan: NaN }[text] ?? Number(text);
  return Number.isInteger(number) ? new Float(number) : number;
}

function bytes(hex) {
  return new Uint8Array(Buffer.from(hex, "hex"));
}

function map(entries) {
  return entries.every(([key]) => typeof key === "string") ? Object.fromEntries(entries) : new Map(entries);
}

function timestamp(seconds, nanoseconds) {
  return new Timestamp(Number(seconds) * 1000 + Math.floor(nanoseconds / 1e6), nanoseconds % 1e6);
}

/** A message's elements, as an encoder is to be given them. */
export function elements(message) {
  const tail = message.meta === null || message.meta === undefined ? [] : [value(message.meta)];
  if (message.type === "request") return [0, message.id, message.method, value(message.params), ...tail];
  if (message.type === "notification") return [2, message.method, value(message.params), ...tail];
  return [1, message.id, value(message.error), value(message.result), ...tail];
}
