// The calls that a worker makes itself, of other services, through its orchestrator.

import { ongoing } from "./context.js";
import { CallFailed, Cancelled } from "./failures.js";

/** Calls of other services. Each names the handler's call that it is made in, and has no more time than that. */
export class Calls {
  constructor(session, send) {
    this.session = session;
    this.send = send;
  }

  /** The result of `service.method`. Rejects with a `CallFailed`; `Cancelled` if the call it is made in is. */
  call(target, params, { timeout, signal } = {}) {
    const context = ongoing();
    const left = leastOf(timeout, context?.deadline);
    const signals = [signal, context?.signal].filter((given) => given !== undefined);
    return new Promise((resolve, reject) => {
      const aborted = signals.find((given) => given.aborted);
      if (aborted !== undefined) return reject(asFailure(aborted.reason));
      const pending = { resolve, reject };
      const id = this.session.asking(pending);
      const giveUp = (failure) => {
        this.cancel(id);
        pending.settle();
        reject(failure);
      };
      const onAbort = (event) => giveUp(asFailure(event.target.reason));
      const timer = left === null ? null : setTimeout(() => giveUp(tooLate(target, left)), Math.max(0, left * 1000));
      pending.settle = () => {
        clearTimeout(timer);
        for (const given of signals) given.removeEventListener("abort", onAbort);
      };
      for (const given of signals) given.addEventListener("abort", onAbort);
      try {
        this.send([0, id, target, params, ...metaOf(context, left)]);
      } catch (error) {
        this.session.unasked(id);
        pending.settle();
        reject(error);
      }
    });
  }

  /** Calls `service.method`, wants no answer, and does not hear of failures. */
  cast(target, params) {
    const traceparent = ongoing()?.meta.traceparent;
    this.send([2, target, params, ...(traceparent === undefined ? [] : [{ traceparent }])]);
  }

  answered(pending, error, result) {
    pending.settle();
    if (error === null) return pending.resolve(result);
    const { code, message, data, retryable } = error;
    pending.reject(new CallFailed(code, message, { data, retryable }));
  }

  /** The orchestrator is gone. */
  failAll() {
    for (const pending of this.session.asked) {
      pending.settle();
      pending.reject(new CallFailed("unavailable", "the orchestrator went away before it answered"));
    }
  }

  cancel(id) {
    if (this.session.features.has("cancel")) this.send([2, "$/cancel", [id]]);
  }
}

function metaOf(context, left) {
  const meta = {};
  if (left !== null) meta.deadline_ms = Math.max(0, Math.floor(left * 1000));
  if (context !== undefined && context.id !== null) meta.parent = context.id;
  if (context?.meta.traceparent !== undefined) meta.traceparent = context.meta.traceparent;
  return Object.keys(meta).length > 0 ? [meta] : [];
}

function leastOf(timeout = null, deadline = null) {
  if (timeout === null) return deadline;
  return deadline === null ? timeout : Math.min(timeout, deadline);
}

function tooLate(target, seconds) {
  return new CallFailed("deadline_exceeded", `${target} was not answered within ${seconds.toFixed(3)} s`);
}

function asFailure(reason) {
  return reason instanceof Error && "code" in reason && typeof reason.code === "string" ? reason : new Cancelled(String(reason));
}
