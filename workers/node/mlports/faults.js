// What ends a connection, and what merely cannot be sent.

/** The orchestrator broke the protocol. `name` is one of SPEC.md section 13; the worker ends. */
export class Violation extends Error {
  constructor(name, reason) {
    super(reason);
    this.name = name;
  }
}

/** A value that MessagePack or the protocol has no place for. The handler's call fails, the worker goes on. */
export class Unencodable extends TypeError {
  name = "Unencodable";
}

/** A frame longer than the orchestrator takes. */
export class Oversized extends RangeError {
  name = "Oversized";
}

/** A value in an error message: on one line, and not for ever. */
export function shown(value) {
  const plain = (_, part) => (typeof part === "bigint" ? String(part) : part);
  let text;
  try {
    text = JSON.stringify(value, plain) ?? String(value);
  } catch {
    text = Object.prototype.toString.call(value);
  }
  return text.length > 80 ? `${text.slice(0, 79)}…` : text;
}
