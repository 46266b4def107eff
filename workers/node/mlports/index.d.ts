// Workers for mlports: programs whose methods an orchestrator calls. All times are in seconds.

/** An element type: "<f4", "<f8", "<i4", "|u1" …, or the fields of a record. */
export type Dtype = string | Array<[name: string, dtype: Dtype] | [name: string, dtype: Dtype, shape: number[]]>;

export type TypedArray =
  | Int8Array
  | Int16Array
  | Int32Array
  | BigInt64Array
  | Uint8Array
  | Uint8ClampedArray
  | Uint16Array
  | Uint32Array
  | BigUint64Array
  | Float32Array
  | Float64Array;

/** What a handler is given: a value as it comes from the wire. */
export type Value =
  | null
  | boolean
  | number
  | bigint
  | string
  | Uint8Array
  | Timestamp
  | NDArray
  | Ext
  | Float
  | Value[]
  | Map<Value, Value>
  | { [key: string]: Value };

/**
 * A number that is sent as a float even where it is integral: `new Float(1)` is 1.0 to the other side, while 1 is the
 * integer 1. It counts as a number in arithmetic, and is never `=== 1`.
 */
export class Float extends Number {
  constructor(value: number);
}

/** An extension value of an application: `code` (64 … 127 are free) and `bytes`. */
export class Ext {
  constructor(code: number, bytes: Uint8Array);
  code: number;
  bytes: Uint8Array;
}

/** A Date that keeps what a Date rounds away: `nanoseconds`, 0 … 999999, within its millisecond. */
export class Timestamp extends Date {
  constructor(milliseconds: number, nanoseconds?: number);
  nanoseconds: number;
}

/** An n-dimensional array, row-major: numpy's on the Python side. */
export class NDArray {
  /** Throws a RangeError when the elements are not as many as `shape` says. */
  constructor(dtype: Dtype, shape: number[], data: TypedArray);
  /** A typed array as an NDArray, of one axis unless `shape` says otherwise. */
  static from(data: TypedArray, shape?: number[]): NDArray;
  /** The array in little-endian `bytes`, which are copied. */
  static fromBytes(dtype: Dtype, shape: number[], bytes: Uint8Array): NDArray;
  dtype: Dtype;
  shape: number[];
  /** The elements: a typed array where JavaScript has one ("<f2": a Uint16Array of raw halves), else their bytes. */
  data: TypedArray;
  readonly bytes: Uint8Array;
  /** Nested arrays of numbers (BigInts beyond 2^53, booleans for "|b1"). Throws a TypeError for other elements. */
  toArray(): any;
}

/** gRPC's codes, in lower case. A caller takes another for "unknown". */
export type Code =
  | "cancelled"
  | "unknown"
  | "invalid_argument"
  | "deadline_exceeded"
  | "not_found"
  | "permission_denied"
  | "resource_exhausted"
  | "failed_precondition"
  | "unimplemented"
  | "internal"
  | "unavailable"
  | "data_loss"
  | "unauthenticated"
  | (string & {});

/** Throw it in a handler to choose the error that the caller sees. */
export class Failure extends Error {
  /** `data`: anything that can be sent. `retryable` (default false): the call had no effect and may be repeated. */
  constructor(code: Code, message: string, options?: { data?: unknown; retryable?: boolean });
  code: Code;
  data: unknown;
  retryable: boolean;
}

/** The caller gave the call up. */
export class Cancelled extends Failure {
  constructor(message?: string);
}

/** A call of another service failed, with that one's code. Unless caught it fails the handler's own call alike. */
export class CallFailed extends Failure {}

/** One call, as its handler sees it. */
export interface Context {
  /** The request's number; null for a cast. */
  readonly id: number | null;
  readonly method: string;
  /** What came with the request, such as `traceparent` and `idempotency_key`. */
  readonly meta: Readonly<Record<string, any>>;
  /** The service's settings, as `setup` was given them. */
  readonly config: Readonly<Record<string, any>>;
  /** Whether the caller gave the call up; up to date also in a loop that never awaits. */
  readonly cancelled: boolean;
  /** Seconds that are left (below 0: it is late); null when it may take for ever. */
  readonly deadline: number | null;
  readonly expired: boolean;
  /** Aborted when the caller cancels or the deadline passes; its `reason` is the `Failure` that is answered then. */
  readonly signal: AbortSignal;
  /** Throws `Cancelled` once the caller has cancelled, and a `Failure` once the deadline has passed. */
  check(): void;
  /** Tells the caller how far the work has come, in any unit; `total` null: not known. */
  progress(done: number, total?: number | null, text?: string): void;
}

/** The call that the running handler works on, also behind an `await`. Throws outside of one. */
export function current(): Context;

export interface MethodOptions {
  /** A call may be repeated after a crash. Default false. */
  idempotent?: boolean;
  /** The first argument, before the others, is the caller's stream: an `AsyncIterable`. Default false. */
  input?: boolean;
}

export interface WorkerOptions {
  /** Calls that are worked on at once; only handlers that await can overlap. Default 1. */
  concurrency?: number;
  /** The longest frame that is accepted, in bytes. Default: as long as the orchestrator accepts. */
  maxFrame?: number;
  /** Floats of integral value arrive as `Float`, to be told from integers, not as numbers. Default false. */
  keepFloats?: boolean;
}

export interface CallOptions {
  /** Seconds. Default: what is left of the running call's own time. */
  timeout?: number;
  /** Aborting it gives the call up. */
  signal?: AbortSignal;
}

/** A program of methods that an orchestrator calls. Registering returns the worker itself. */
export class Worker {
  constructor(name: string, options?: WorkerOptions);
  readonly name: string;
  readonly concurrency: number;

  /** Called once with the service's `config`, before the first call; may be async. If it throws, the worker ends. */
  setup(work: (config: any) => unknown): this;

  /** A method: a function, also an async one. A generator is a `stream`. */
  method(name: string, work: (...params: any[]) => unknown, options?: MethodOptions): this;

  /**
   * A method that takes many calls at once: `work` gets one array for each argument, and returns (or promises) as many
   * results; an Error in a result's place is that call's error.
   */
  batch(name: string, work: (...columns: any[][]) => BatchResults, options?: { idempotent?: boolean }): this;

  /** A method that streams what it yields, only as fast as it is read: a generator, also an async one. */
  stream(name: string, work: (...params: any[]) => Items, options?: MethodOptions): this;

  /** Calls `service.method`, through the orchestrator. Rejects with `CallFailed`. In handlers only. */
  call(target: string, params?: unknown[], options?: CallOptions): Promise<any>;

  /** Calls `service.method` and wants no answer. */
  cast(target: string, params?: unknown[]): void;

  /** A line for the orchestrator's log. */
  log(level: "debug" | "info" | "warning" | "error", text: string, fields?: Record<string, unknown>): void;

  /** Begins to serve. The process ends when the orchestrator stops it or goes away. */
  run(): void;
}

export type BatchResults = Results | Promise<Results>;
export type Results = unknown[] | TypedArray;
export type Items = Iterable<unknown> | AsyncIterable<unknown>;
