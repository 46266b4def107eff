// `$/hello`, checked.

import { Violation, shown } from "./faults.js";
import { asFields, asText, withoutFloats } from "./messages.js";
import { isObject } from "./decoder.js";

export const VERSION = 1;
export const DEFAULT_MAX_FRAME = 64 * 1024 * 1024;
const LARGEST_MAX_FRAME = 2 ** 31 - 1;
const SEGMENT = /^\/proc\/[1-9][0-9]{0,9}\/fd\/[0-9]{1,9}$/;

function invalid(reason) {
  return new Violation("InvalidHello", reason);
}

/** What the orchestrator says of itself: {maxFrame, features, config}. Throws a Violation. */
export function readHello(params) {
  const said = params.length > 0 ? asFields(params[0]) : null;
  if (said === null) throw invalid(`$/hello takes one map, not ${shown(params)}`);
  checkVersions(said.protocol);
  checkOthers(said);
  return {
    maxFrame: readMaxFrame(said.max_frame),
    features: readNames(said.features ?? []),
    config: readConfig(said.config ?? {}),
  };
}

function checkVersions(said) {
  const versions = asFields(said);
  const { min, max } = versions ?? {};
  if (!Number.isSafeInteger(min) || !Number.isSafeInteger(max)) {
    throw invalid(`$/hello says the versions it speaks as protocol: {min, max}, not ${shown(said)}`);
  }
  if (min > VERSION || max < VERSION) {
    const reason = `the orchestrator speaks versions ${min} to ${max}, this worker version ${VERSION}`;
    throw new Violation("UnsupportedVersion", reason);
  }
}

/** What this worker has no use for, and must not be wrong. */
function checkOthers({ service = "", replica = 0, shm = null }) {
  if (typeof asText(service) !== "string") throw invalid(`$/hello's service is a string, not ${shown(service)}`);
  if (!Number.isSafeInteger(replica) || replica < 0) {
    throw invalid(`$/hello's replica is an integer from 0, not ${shown(replica)}`);
  }
  if (shm === null) return;
  const { segment, token } = asFields(shm) ?? {};
  const path = asText(segment);
  if (typeof path !== "string" || !SEGMENT.test(path) || !(token instanceof Uint8Array) || token.length === 0) {
    throw invalid(`$/hello's shm is {segment, token}, a path and bytes, not ${shown(shm)}`);
  }
}

function readMaxFrame(value) {
  if (value === undefined || value === null) return DEFAULT_MAX_FRAME;
  if (Number.isSafeInteger(value) && value >= 1 && value <= LARGEST_MAX_FRAME) return value;
  throw invalid(`$/hello's max_frame is an integer from 1 to 2^31-1, not ${shown(value)}`);
}

function readNames(value) {
  const names = Array.isArray(value) ? value.map(asText) : [null];
  if (names.every((name) => typeof name === "string")) return new Set(names);
  throw invalid(`$/hello's features are an array of strings, not ${shown(value)}`);
}

function readConfig(config) {
  if (config instanceof Map || isObject(config)) return withoutFloats(asFields(config));
  throw invalid(`$/hello's config is a map, not ${shown(config)}`);
}
