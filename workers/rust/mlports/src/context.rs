//! What a handler can know of the call it is working on, and do meanwhile.

use std::sync::atomic::Ordering;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rmpv::Value;
use serde::de::DeserializeOwned;
use serde::Serialize;

use crate::encode::{append_array_len, append_plain, params};
use crate::failure::{Code, Failure};
use crate::input::Input;
use crate::link::{Call, Link};

/// One call, as its handler sees it. Clones can go to other threads.
#[derive(Clone)]
pub struct Context {
    pub(crate) link: Arc<Link>,
    pub(crate) call: Arc<Call>,
}

/// How much a line for the log matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    Debug,
    Info,
    Warning,
    Error,
}

impl Level {
    fn as_str(self) -> &'static str {
        match self {
            Level::Debug => "debug",
            Level::Info => "info",
            Level::Warning => "warning",
            Level::Error => "error",
        }
    }
}

impl Context {
    /// Whether the caller has given the call up. A long loop asks now and then, or uses `check()?`.
    pub fn cancelled(&self) -> bool {
        self.call.cancelled.load(Ordering::Relaxed)
    }

    /// The time that is left for this call, zero when it is late; none when it may take for ever.
    pub fn deadline(&self) -> Option<Duration> {
        self.call.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }

    /// Fails with `cancelled` once the caller has cancelled, and with `deadline_exceeded` once it is late.
    pub fn check(&self) -> Result<(), Failure> {
        self.call.check()
    }

    /// Sleeps so long, or until `check()` fails.
    pub fn sleep(&self, time: Duration) -> Result<(), Failure> {
        let wake = Instant::now().checked_add(time);
        let until = [wake, self.call.deadline].into_iter().flatten().min();
        self.link.wait_for(until, |_| self.check().map(|()| None::<()>))?;
        self.check()
    }

    /// Tells the caller how far the work has come, in any unit; `total` may be unknown, `text` empty.
    pub fn progress(&self, done: f64, total: Option<f64>, text: &str) {
        if let Some(id) = self.call.id {
            let _ = self.link.notify("$/progress", (id, done, total, text));
        }
    }

    /// A line for the orchestrator's log; `fields` is a map or a struct, or `()`.
    pub fn log<F: Serialize>(&self, level: Level, text: &str, fields: F) -> Result<(), Failure> {
        self.link.log(level.as_str(), text, fields)
    }

    /// The service's `config` as any type that serde can make of it; `failed_precondition` when it cannot.
    pub fn config<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        let config = self.link.config.lock().expect("nothing panics while this is held").clone();
        config_as(config)
    }

    /// The key under which calls ask for one effect, if the caller gave one.
    pub fn idempotency_key(&self) -> Option<&str> {
        self.call.meta.idempotency_key.as_deref()
    }

    /// The streamed argument of a method that was registered with `.input()`.
    pub fn input<T: DeserializeOwned>(&self) -> Input<T> {
        Input::new(self.clone())
    }

    /// Calls `service.method` with a tuple of arguments and waits for the result, no longer than this call may take.
    /// Fails as the other side does.
    pub fn call<R: DeserializeOwned, P: Serialize>(&self, target: &str, arguments: P) -> Result<R, Failure> {
        self.call_until(target, arguments, self.call.deadline)
    }

    /// As `call`, and `deadline_exceeded` after so long.
    pub fn call_within<R: DeserializeOwned, P: Serialize>(
        &self,
        target: &str,
        arguments: P,
        timeout: Duration,
    ) -> Result<R, Failure> {
        let until = Instant::now().checked_add(timeout);
        self.call_until(target, arguments, [until, self.call.deadline].into_iter().flatten().min())
    }

    /// Calls `service.method` and waits for nothing: whether it was done is not told.
    pub fn cast<P: Serialize>(&self, target: &str, arguments: P) -> Result<(), Failure> {
        let params = params(arguments, self.takes_arrays())?;
        self.link.output.send(|out| {
            let start = out.len();
            append_array_len(out, 3);
            append_plain(out, &2)?;
            append_plain(out, target)?;
            out.extend_from_slice(&params);
            self.link.check_size(out.len() - start)
        })
    }

    pub(crate) fn takes_arrays(&self) -> bool {
        self.link.ndarray.load(Ordering::Relaxed)
    }

    fn call_until<R: DeserializeOwned, P: Serialize>(
        &self,
        target: &str,
        arguments: P,
        deadline: Option<Instant>,
    ) -> Result<R, Failure> {
        let id = self.ask(target, &params(arguments, self.takes_arrays())?, deadline)?;
        let outcome = self.link.wait_for(deadline, |state| match state.answers.get_mut(&id) {
            Some(answer) if answer.is_some() => Ok(answer.take()),
            _ if self.cancelled() => Err(Failure::cancelled()),
            _ if state.ended => {
                let text = format!("the orchestrator went away before {target} was answered");
                Err(Failure::new(Code::Unavailable, text))
            }
            _ => Ok(None),
        });
        let mut state = self.link.state();
        let unanswered = matches!(state.answers.remove(&id), Some(None)) && !matches!(outcome, Ok(Some(_)));
        let can_cancel = state.session.agrees("cancel");
        drop(state);
        if unanswered && can_cancel {
            self.link.notify("$/cancel", (id,))?;
        }
        let text = || format!("{target} was not answered in time");
        let result = outcome?.ok_or_else(|| Failure::new(Code::DeadlineExceeded, text()))??;
        rmp_serde::from_slice(&result).map_err(|reason| {
            Failure::new(Code::Internal, format!("the result of {target} is not what was expected: {reason}"))
        })
    }

    fn ask(&self, target: &str, params: &[u8], deadline: Option<Instant>) -> Result<u64, Failure> {
        let mut state = self.link.state();
        let id =
            state.session.ask().ok_or_else(|| Failure::new(Code::FailedPrecondition, "the worker is not ready"))?;
        state.answers.insert(id, None);
        drop(state);
        let meta = self.meta(deadline);
        self.link.output.queue(|out| {
            let start = out.len();
            append_array_len(out, if meta.is_empty() { 4 } else { 5 });
            append_plain(out, &0)?;
            append_plain(out, &id)?;
            append_plain(out, target)?;
            out.extend_from_slice(params);
            if !meta.is_empty() {
                append_plain(out, &Value::Map(meta))?;
            }
            self.link.check_size(out.len() - start)
        })?;
        Ok(id)
    }

    fn meta(&self, deadline: Option<Instant>) -> Vec<(Value, Value)> {
        let mut meta = Vec::new();
        if let Some(deadline) = deadline {
            let left = deadline.saturating_duration_since(Instant::now()).as_millis() as u64;
            meta.push(("deadline_ms".into(), left.into()));
        }
        if let Some(traceparent) = &self.call.meta.traceparent {
            meta.push(("traceparent".into(), traceparent.as_str().into()));
        }
        if let Some(id) = self.call.id {
            meta.push(("parent".into(), id.into()));
        }
        meta
    }
}

pub(crate) fn config_as<T: DeserializeOwned>(config: Value) -> Result<T, Failure> {
    let text = |reason| format!("the service's config in mlports.toml: {reason}");
    rmpv::ext::from_value(config).map_err(|reason| Failure::new(Code::FailedPrecondition, text(reason)))
}
