// Takes the two streams of the protocol, and leaves in their places what any code may read and print to.

import { closeSync, fstatSync, openSync } from "node:fs";
import { isatty } from "node:tty";

const ON_3_AND_4 = process.env.MLPORTS_TRANSPORT === "fd34";

let streams = null;

/**
 * The protocol's streams, {input, output}, as descriptors that no child process inherits. From the first call on,
 * what prints to standard output prints to standard error, and standard input is empty.
 */
export function takeStreams() {
  if (streams !== null) return streams;
  // Ctrl-C reaches every process of a terminal: what it means is for the orchestrator to decide.
  process.on("SIGINT", () => {});
  streams = ON_3_AND_4 ? takeSpare() : takeStandard();
  return streams;
}

/** Descriptors 3 and 4: Node itself keeps whatever it was given beyond 2 from its children. */
function takeSpare() {
  // Where they were not given, Node has them for itself: 3 is none that bytes can be read from.
  if (![3, 4].every(isStream)) {
    process.stderr.write("MLPORTS_TRANSPORT is fd34, but descriptors 3 and 4 are not open: start this by mlports\n");
    process.exit(2);
  }
  return { input: 3, output: 4 };
}

function isStream(descriptor) {
  try {
    const kind = fstatSync(descriptor);
    return kind.isFIFO() || kind.isSocket() || kind.isFile();
  } catch {
    return false;
  }
}

/** Whether somebody sits where the orchestrator should be. */
export function atTerminal() {
  return !ON_3_AND_4 && isatty(0);
}

function takeStandard() {
  const input = replaced(0, "r", "/dev/null");
  const output = replaced(1, "a", "/dev/fd/2");
  // A socket cannot be opened again: at least what JavaScript prints goes elsewhere. And a file that is opened again is
  // written from two places.
  if (output === 1 || fstatSync(2).isFile()) {
    process.stdout.write = process.stderr.write.bind(process.stderr);
  }
  return { input, output };
}

/**
 * Puts what is at `path` in a descriptor's place, and gives the descriptor that its stream has now: the same where that
 * cannot be done. Node has no dup2, but a pipe can be opened again by its path under /dev/fd, and the next file that is
 * opened gets the lowest number that is free: the one just closed.
 */
function replaced(descriptor, flags, path) {
  let stream;
  try {
    closeSync(openSync(path, flags)); // else nothing would be left in the place
    stream = openSync(`/dev/fd/${descriptor}`, flags);
  } catch {
    return descriptor;
  }
  closeSync(descriptor);
  const filled = openSync(path, flags);
  if (filled === descriptor) return stream;
  throw new Error(`descriptor ${descriptor} could not be replaced: another thread took its number, and this got ${filled}`);
}

if (process.env.MLPORTS_WORKER === "1") takeStreams();
