//! What the reader, the handlers and the writer of one worker share.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use rmpv::Value;
use serde::Serialize;

use crate::credit::Window;
use crate::encode::{append, append_array_len, append_plain, Place};
use crate::failure::{Code, Failure};
use crate::frame::DEFAULT_MAX_FRAME;
use crate::hello::Hello;
use crate::meta::Meta;
use crate::method::Method;
use crate::output::Output;
use crate::session::Session;
use crate::violation::Violation;

/// One request, or cast, that is waiting or being worked on.
pub struct Call {
    /// None for a cast, which is not answered.
    pub id: Option<u64>,
    pub meta: Meta,
    pub deadline: Option<Instant>,
    pub cancelled: AtomicBool,
    begun: AtomicBool,
    answered: AtomicBool,
}

impl Call {
    pub fn new(id: Option<u64>, meta: Meta) -> Self {
        // More milliseconds than a clock has: as good as no deadline.
        let left = meta.deadline_ms.and_then(|left| Duration::try_from_secs_f64(left / 1000.0).ok());
        Call {
            id,
            deadline: left.and_then(|left| Instant::now().checked_add(left)),
            meta,
            cancelled: AtomicBool::new(false),
            begun: AtomicBool::new(false),
            answered: AtomicBool::new(false),
        }
    }

    pub fn is_late(&self) -> bool {
        self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }

    /// Why the handler should stop, if it should.
    pub fn check(&self) -> Result<(), Failure> {
        if self.cancelled.load(Ordering::Relaxed) {
            return Err(Failure::cancelled());
        }
        if self.is_late() {
            return Err(Failure::new(Code::DeadlineExceeded, "the deadline passed while the handler was at work"));
        }
        Ok(())
    }
}

/// What handlers' threads do, in order.
pub enum Job {
    Hello { id: u64, hello: Box<Hello> },
    Call { call: Arc<Call>, method: Arc<Method>, params: Vec<u8> },
}

/// What came of a streamed argument and was not taken yet.
#[derive(Default)]
pub struct Inbox {
    pub items: VecDeque<Vec<u8>>,
    pub ended: bool,
    pub window: Window,
}

#[derive(Default)]
pub struct State {
    pub session: Session,
    pub jobs: VecDeque<Job>,
    pub running: usize,
    pub calls: HashMap<u64, Arc<Call>>,
    pub inboxes: HashMap<u64, Inbox>,
    /// The worker's own calls that somebody waits for, and their answers.
    pub answers: HashMap<u64, Option<Result<Vec<u8>, Failure>>>,
    pub stopping: bool,
    pub ended: bool,
    pub fault: Option<Violation>,
}

impl State {
    /// Whether there will be nothing more to do.
    pub fn is_over(&self) -> bool {
        (self.stopping || self.ended) && self.jobs.is_empty() && self.running == 0
    }
}

pub struct Link {
    pub output: Output,
    pub config: Mutex<Value>,
    pub max_frame: AtomicUsize, // longest frame that the orchestrator accepts
    pub ndarray: AtomicBool,    // whether it accepts arrays
    state: Mutex<State>,
    changed: Condvar,
    work: Condvar,
}

impl Link {
    pub fn new(output: Output) -> Self {
        Link {
            output,
            config: Mutex::new(Value::Nil),
            max_frame: AtomicUsize::new(DEFAULT_MAX_FRAME),
            ndarray: AtomicBool::new(false),
            state: Mutex::default(),
            changed: Condvar::new(),
            work: Condvar::new(),
        }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while this is held")
    }

    /// Wakes the handlers that wait for something other than work.
    pub fn wake_handlers(&self) {
        self.changed.notify_all();
    }

    pub fn wake_all(&self) {
        self.work.notify_all();
        self.changed.notify_all();
    }

    pub fn add_job(&self, state: &mut State, job: Job) {
        state.jobs.push_back(job);
        self.work.notify_one();
    }

    /// The next job; none when there will be no more. What was answered is written before it waits.
    pub fn next_job(&self) -> Option<Job> {
        let mut state = self.state();
        if state.jobs.is_empty() {
            drop(state);
            self.output.flush();
            state = self.state();
        }
        loop {
            if let Some(job) = state.jobs.pop_front() {
                state.running += 1;
                drop(state);
                self.output.flush_soon(); // the job may take long
                return Some(job);
            }
            if state.is_over() {
                return None;
            }
            state = self.work.wait(state).expect("nothing panics while this is held");
        }
    }

    pub fn job_done(&self) {
        let mut state = self.state();
        state.running -= 1;
        if state.is_over() {
            self.wake_all();
        }
    }

    /// Waits until `look` finds what it looks for, fails, or `deadline` passes (then none). Writes before it waits.
    pub fn wait_for<T>(
        &self,
        deadline: Option<Instant>,
        mut look: impl FnMut(&mut State) -> Result<Option<T>, Failure>,
    ) -> Result<Option<T>, Failure> {
        let mut flushed = false;
        let mut state = self.state();
        loop {
            if let Some(found) = look(&mut state)? {
                return Ok(Some(found));
            }
            if !flushed {
                drop(state);
                self.output.flush();
                flushed = true;
                state = self.state();
                continue;
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            state = match left {
                Some(Duration::ZERO) => return Ok(None),
                Some(left) => self.changed.wait_timeout(state, left).expect("nothing panics while this is held").0,
                None => self.changed.wait(state).expect("nothing panics while this is held"),
            };
        }
    }

    /// Marks a call as begun. Not when it was answered before that, because it was cancelled.
    pub fn begin(&self, call: &Call) -> bool {
        let _state = self.state();
        call.begun.store(true, Ordering::Relaxed);
        !call.answered.load(Ordering::Relaxed)
    }

    /// `$/cancel`: a call that has not begun is answered here, another is told.
    pub fn cancel(&self, state: &mut State, id: u64) {
        let Some(call) = state.calls.get(&id).cloned() else { return };
        call.cancelled.store(true, Ordering::Relaxed);
        if !call.begun.load(Ordering::Relaxed) {
            self.close(state, &call);
            self.queue_error(id, &Failure::cancelled());
        }
        self.wake_handlers();
    }

    fn close(&self, state: &mut State, call: &Call) {
        let Some(id) = call.id else { return };
        call.answered.store(true, Ordering::Relaxed);
        state.session.answered(id);
        state.calls.remove(&id);
        state.inboxes.remove(&id);
    }

    /// Answers a call, with what `write` appends as its result, or its error. Casts get none.
    pub fn answer(&self, call: &Call, write: impl FnOnce(&mut Vec<u8>) -> Result<(), Failure>) {
        let Some(id) = call.id else { return };
        self.close(&mut self.state(), call);
        let outcome = self.output.queue(|out| {
            let start = out.len();
            append_array_len(out, 4);
            append_plain(out, &1)?;
            append_plain(out, &id)?;
            out.push(0xc0);
            write(out)?;
            self.check_size(out.len() - start)
        });
        if let Err(failure) = outcome {
            self.queue_error(id, &failure);
        }
    }

    /// Answers with an error; without its data, where that cannot be sent.
    pub fn queue_error(&self, id: u64, failure: &Failure) {
        let place = Place { ndarray: self.ndarray.load(Ordering::Relaxed), depth: 2 };
        let outcome = self.output.queue(|out| {
            let start = out.len();
            append(out, &(1, id, failure, ()), place)?;
            self.check_size(out.len() - start)
        });
        if outcome.is_err() {
            let _ = self.output.queue(|out| append_plain(out, &(1, id, failure.without_data(), ())));
        }
    }

    /// Sends a notification.
    pub fn notify<P: Serialize>(&self, method: &str, params: P) -> Result<(), Failure> {
        let place = Place { ndarray: self.ndarray.load(Ordering::Relaxed), depth: 0 };
        self.output.send(|out| {
            let start = out.len();
            append(out, &(2, method, params), place)?;
            self.check_size(out.len() - start)
        })
    }

    /// Sends an item that was encoded before.
    pub fn send_item(&self, id: u64, item: &[u8]) {
        let _ = self.output.send(|out| {
            append_array_len(out, 3);
            append_plain(out, &2)?;
            append_plain(out, "$/item")?;
            append_array_len(out, 2);
            append_plain(out, &id)?;
            out.extend_from_slice(item);
            Ok::<(), Failure>(())
        });
    }

    /// A line for the orchestrator's log.
    pub fn log<F: Serialize>(&self, level: &str, text: &str, fields: F) -> Result<(), Failure> {
        self.notify("$/log", (level, text, fields))
    }

    pub fn check_size(&self, size: usize) -> Result<(), Failure> {
        let most = self.max_frame.load(Ordering::Relaxed);
        if size > most {
            let text =
                format!("the message is {size} bytes long, and the orchestrator accepts frames of {most} (max_frame)");
            return Err(Failure::new(Code::ResourceExhausted, text));
        }
        Ok(())
    }
}
