// Frames: a length of 4 bytes, big-endian, and so many bytes.

import { Violation } from "./faults.js";

const HEADER = 4;
const FIRST_PART = 1024 * 1024; // bytes that are set aside for a frame before any of it came

/** Cuts a stream into frames. `maxFrame` may change between two of them. */
export class FrameReader {
  constructor(maxFrame) {
    this.maxFrame = maxFrame;
    this.partial = Buffer.alloc(0); // the frame that has begun, its header too
    this.filled = 0;
    this.whole = HEADER; // bytes that `partial` is to have, as far as is known
  }

  /** Calls `take(bytes, start, end)` for each payload that is complete. Throws a Violation behind the last good one. */
  feed(bytes, take) {
    let position = this.filled ? this.resume(bytes, take) : 0;
    while (bytes.length - position >= HEADER) {
      const end = position + HEADER + this.checked(bytes, position);
      if (end > bytes.length) break;
      take(bytes, position + HEADER, end);
      position = end;
    }
    if (position < bytes.length) this.begin(bytes.subarray(position));
  }

  /** The stream has ended. Throws if that is inside a frame. */
  end() {
    if (this.filled) {
      const length = this.filled < HEADER ? "its length" : `a frame of ${this.whole - HEADER} bytes`;
      throw new Violation("TruncatedFrame", `the input ended within ${length}, after ${this.filled} bytes`);
    }
  }

  begin(bytes) {
    this.filled = 0;
    this.whole = HEADER;
    const position = this.append(bytes, 0);
    if (position < bytes.length) this.append(bytes, position);
  }

  /** Goes on with the frame that has begun; where in `bytes` the next one starts. */
  resume(bytes, take) {
    let position = this.append(bytes, 0);
    if (this.filled === HEADER && this.whole > HEADER) position = this.append(bytes, position);
    if (this.whole > HEADER && this.filled === this.whole) {
      const frame = this.partial;
      this.partial = Buffer.alloc(0);
      this.filled = 0;
      this.whole = HEADER;
      take(frame, HEADER, frame.length);
    }
    return position;
  }

  append(bytes, from) {
    const count = Math.min(this.whole - this.filled, bytes.length - from);
    this.room(this.filled + count);
    bytes.copy(this.partial, this.filled, from, from + count);
    this.filled += count;
    if (this.whole === HEADER && this.filled === HEADER) this.whole += this.checked(this.partial, 0);
    return from + count;
  }

  /** The length is a claim: memory is taken as the bytes come. */
  room(needed) {
    if (needed <= this.partial.length) return;
    const size = Math.min(this.whole, Math.max(needed, FIRST_PART, this.partial.length * 2));
    const larger = Buffer.allocUnsafeSlow(size);
    this.partial.copy(larger, 0, 0, this.filled);
    this.partial = larger;
  }

  checked(bytes, at) {
    const length = bytes.readUInt32BE(at);
    if (length === 0) throw new Violation("EmptyFrame", "a frame of length 0");
    if (length <= this.maxFrame) return length;
    const first = bytes[at];
    if ([9, 10, 13, 27].includes(first) || (first >= 0x20 && first <= 0x7e)) {
      const text = JSON.stringify(bytes.toString("latin1", at, at + 80));
      throw new Violation("StdoutPolluted", `text where a frame was due: ${text}`);
    }
    throw new Violation("FrameTooLarge", `a frame of ${length} bytes, where ${this.maxFrame} is the most`);
  }
}
