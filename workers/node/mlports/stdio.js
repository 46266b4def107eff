// Takes the two streams of the protocol, and leaves in their places what any code may read and print to.

import { closeSync, fstatSync, openSync } from "node:fs";
import { isatty } from "node:tty";

const OVER_3_AND_4 = process.env.MLPORTS_TRANSPORT === "fd34";

/** The descriptors that frames come and go by; null until `takeStreams`. */
let streams = null;

/**
 * The protocol's streams, {input, output}, as descriptors that no child process inherits. From the first call on,
 * what prints to standard output prints to standard error, and standard input is empty.
 */
export function takeStreams() {
  streams ??= OVER_3_AND_4 ? { input: moved(3, "r"), output: moved(4, "a") } : takeStandard();
  return streams;
}

/** Whether somebody sits where the orchestrator should be. */
export function atTerminal() {
  return !OVER_3_AND_4 && isatty(0);
}

function takeStandard() {
  const input = replaced(0, "r", "/dev/null");
  const output = replaced(1, "a", "/dev/fd/2");
  if (output === 1) {
    // The descriptor cannot be had twice: at least what is printed by JavaScript goes elsewhere.
    process.stdout.write = process.stderr.write.bind(process.stderr);
  }
  // Ctrl-C reaches every process of a terminal: what it means is for the orchestrator to decide.
  process.on("SIGINT", () => {});
  return { input, output };
}

/**
 * Node cannot duplicate a descriptor, but it can open it again by its path, and the next file that it opens gets the
 * lowest number that is free: the one just closed. Gives the new descriptor; the old one where this system cannot.
 */
function replaced(descriptor, flags, path) {
  let copy;
  try {
    closeSync(openSync(path, flags)); // it can be opened: else nothing would be left in the place
    copy = openSync(`/dev/fd/${descriptor}`, flags);
  } catch {
    return descriptor;
  }
  closeSync(descriptor);
  const filled = openSync(path, flags);
  if (filled !== descriptor) {
    throw new Error(`descriptor ${descriptor} could not be replaced, another thread took its number (got ${filled})`);
  }
  return copy;
}

/** The same stream by a descriptor that no child inherits, as those that Node opens are. */
function moved(descriptor, flags) {
  try {
    const copy = openSync(`/dev/fd/${descriptor}`, flags);
    closeSync(descriptor);
    return copy;
  } catch {
    fstatSync(descriptor); // a worker with fd34 in its environment and without the descriptors says so here
    return descriptor;
  }
}

if (process.env.MLPORTS_WORKER === "1") takeStreams();
