//! Workers for mlports: programs whose methods an orchestrator calls.
//!
//! ```no_run
//! use mlports::Worker;
//!
//! fn main() {
//!     let mut worker = Worker::new("sums");
//!     worker.method("add", |_, (a, b): (f64, f64)| Ok(a + b)).idempotent();
//!     worker.run();
//! }
//! ```

mod arguments;
mod context;
mod credit;
mod emitter;
mod encode;
mod failure;
mod frame;
mod hello;
mod input;
mod layout;
mod link;
mod message;
mod meta;
mod method;
mod ndarray;
mod output;
mod scan;
mod serving;
mod session;
mod stdio;
mod value;
#[cfg(test)]
#[path = "../../tests/values.rs"]
mod values;
#[cfg(test)]
#[path = "../../tests/vectors.rs"]
mod vectors;
mod violation;
mod worker;

pub use arguments::Arguments;
pub use context::{Context, Level};
pub use emitter::Emitter;
pub use failure::{Code, Failure};
pub use input::Input;
pub use ndarray::{Element, NdArray};
pub use rmpv::Value;
pub use value::{from_value, to_value};
pub use worker::{Registered, Worker};
