// The SDK for worker programs in JavaScript. Import it first: from then on standard output belongs to the protocol,
// and what prints prints on standard error.

import "./stdio.js";

export { current } from "./context.js";
export { CallFailed, Cancelled, Failure } from "./failures.js";
export { Ext, Float, NDArray, Timestamp } from "./values.js";
export { Worker } from "./worker.js";
