//! A worker at work: a thread reads and sorts what comes, others run the handlers, each call is answered once.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::process::exit;
use std::sync::atomic::Ordering;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use serde::Serialize;

use crate::context::Context;
use crate::encode::{append, append_array_len, append_plain, Place};
use crate::failure::{Code, Failure};
use crate::frame::{FrameDecoder, DEFAULT_MAX_FRAME};
use crate::hello::{self, Hello};
use crate::link::{Call, Inbox, Job, Link, State};
use crate::message::{elements, Message};
use crate::meta::Meta;
use crate::method::{guarded, remember_panics, Method, Results};
use crate::output::Output;
use crate::scan::Rules;
use crate::session::Event;
use crate::stdio::{wait_for_reader_gone, wait_ready, Channel};
use crate::violation::{Fault, Violation};
use crate::worker::Setup;

const GRACE: Duration = Duration::from_secs(1); // that a handler goes on when nobody can read its answer any more

#[derive(Clone)]
pub struct Server {
    name: Arc<str>,
    methods: Arc<HashMap<String, Arc<Method>>>,
    concurrency: usize,
    channel: &'static Channel,
    link: Arc<Link>,
}

impl Server {
    pub fn new(
        name: String,
        methods: HashMap<String, Arc<Method>>,
        concurrency: usize,
        channel: &'static Channel,
    ) -> Self {
        let link = Arc::new(Link::new(Output::new(&channel.output)));
        Server { name: name.into(), methods: Arc::new(methods), concurrency, channel, link }
    }

    /// Works until the orchestrator says stop or closes the stream, and everything accepted is answered.
    pub fn run(self, setup: Setup) {
        remember_panics();
        let reader = self.clone();
        thread::spawn(move || reader.read());
        let link = self.link.clone();
        thread::spawn(move || link.output.keep_flushing());
        if let Some(Job::Hello { id, hello }) = self.link.next_job() {
            self.say_hello(id, *hello, setup);
            self.link.job_done();
            for _ in 1..self.concurrency {
                let server = self.clone();
                thread::spawn(move || server.work());
            }
            self.work();
        }
        self.link.output.flush();
        if self.link.state().fault.is_some() {
            exit(1);
        }
    }

    // The handlers' threads.

    fn work(&self) {
        while let Some(job) = self.link.next_job() {
            if let Job::Call { call, method, params } = job {
                self.do_call(&call, &method, &params);
                // If the next call is the worker's death, this answer could not be had again.
                if !method.flags.idempotent {
                    self.link.output.flush();
                }
            }
            self.link.job_done();
        }
    }

    fn say_hello(&self, id: u64, hello: Hello, setup: Setup) {
        *self.link.config.lock().expect("nothing panics while this is held") = hello.config.clone();
        if let Err(failure) = guarded(|| setup(hello.config.clone())) {
            eprintln!("{}: its setup failed: {}", self.name, failure.message);
            exit(1);
        }
        let mut methods: Vec<_> = self.methods.iter().map(|(name, method)| (name.as_str(), method.flags)).collect();
        methods.sort_by_key(|(name, _)| *name);
        let answer = hello::answer(&self.name, hello.max_frame, &methods, self.concurrency);
        self.link.max_frame.store(hello.max_frame, Ordering::Relaxed);
        self.link.ndarray.store(hello.agrees("ndarray"), Ordering::Relaxed);
        self.link.state().session.greeted(id, hello);
        let _ = self.link.output.queue(|out| append_plain(out, &(1, id, (), answer)));
        self.link.output.flush();
    }

    fn do_call(&self, call: &Arc<Call>, method: &Method, params: &[u8]) {
        if !self.link.begin(call) {
            return;
        }
        let batch = call.meta.batch.is_some();
        let place = Place { ndarray: self.link.ndarray.load(Ordering::Relaxed), depth: if batch { 3 } else { 1 } };
        let mut results = Results::new(place);
        match self.run_method(call, method, params, &mut results) {
            Err(failure) => self.link.answer(call, |_| Err(failure)),
            Ok(()) if call.id.is_none() => self.log_failed_cast(method, &results),
            Ok(()) if batch => self.link.answer(call, |out| append_pairs(out, &results)),
            Ok(()) => self.link.answer(call, |out| append_only(out, &results)),
        }
    }

    fn run_method(
        &self,
        call: &Arc<Call>,
        method: &Method,
        params: &[u8],
        results: &mut Results,
    ) -> Result<(), Failure> {
        if call.is_late() {
            let text = format!("the deadline of {} passed before it began", method.name);
            return Err(Failure::new(Code::DeadlineExceeded, text));
        }
        let context = Context { link: self.link.clone(), call: call.clone() };
        let Some(count) = call.meta.batch else {
            return guarded(|| {
                method.run(&context, &[params], results);
                Ok(())
            });
        };
        let items = elements(params).unwrap_or_default();
        if items.len() as u64 != count {
            let text = format!("meta batch says {count}, and there are {} argument lists", items.len());
            return Err(Failure::new(Code::InvalidArgument, text));
        }
        guarded(|| {
            method.run(&context, &items, results);
            self.run_again_alone(&context, method, &items, results);
            Ok(())
        })
    }

    /// When a batch handler failed as a whole, one item may have spoilt it for all. Doing it again one by one tells
    /// which, where that is allowed.
    fn run_again_alone(&self, context: &Context, method: &Method, items: &[&[u8]], results: &mut Results) {
        if !results.failed_whole || !method.flags.idempotent || items.len() < 2 || context.check().is_err() {
            return;
        }
        results.clear();
        for params in items {
            method.run(context, &[params], results);
        }
    }

    fn log_failed_cast(&self, method: &Method, results: &Results) {
        if let Some(Err(failure)) = results.outcomes.first() {
            self.log("error", &format!("the cast to {} failed: {failure}", method.name), &failure.data);
        }
    }

    fn log<F: Serialize>(&self, level: &str, text: &str, fields: &Option<F>) {
        let outcome = match fields {
            Some(fields) => self.link.log(level, text, fields),
            None => self.link.log(level, text, ()),
        };
        if outcome.is_err() {
            let _ = self.link.log(level, text, ());
        }
    }

    // The reader's thread.

    fn read(&self) {
        let mut decoder = FrameDecoder::new(DEFAULT_MAX_FRAME);
        let outcome = self.read_all(&mut decoder);
        let faulty = outcome.is_err();
        if let Err(violation) = &outcome {
            eprintln!("{}: the orchestrator broke the protocol: {violation}", self.name);
        }
        let mut state = self.link.state();
        state.fault = outcome.err();
        state.ended = true;
        drop(state);
        self.link.wake_all();
        // A handler cannot be interrupted, and a worker without an orchestrator is of no use to anybody.
        wait_for_reader_gone(&self.channel.output);
        thread::sleep(GRACE);
        exit(faulty.into());
    }

    fn read_all(&self, decoder: &mut FrameDecoder) -> Result<(), Violation> {
        let mut input = &self.channel.input;
        loop {
            match decoder.read_from(&mut input) {
                Ok(0) => return decoder.finish(),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    wait_ready(&self.channel.input, false);
                    continue;
                }
                Err(error) => return Err(Violation::new(Fault::TruncatedFrame, format!("reading failed: {error}"))),
            }
            let outcome = self.take_frames(decoder);
            self.link.output.flush();
            outcome?;
        }
    }

    fn take_frames(&self, decoder: &mut FrameDecoder) -> Result<(), Violation> {
        while let Some(frame) = decoder.next_frame()? {
            let payload = decoder.payload(frame);
            let rules = Rules { ndarray: self.link.ndarray.load(Ordering::Relaxed), sending: false };
            let message = Message::parse(payload, rules)?;
            let mut state = self.link.state();
            let event = state.session.receive(message, payload)?;
            let agreed = match &event {
                Event::Hello { hello, .. } => Some(hello.max_frame),
                _ => None,
            };
            self.on_event(&mut state, event, payload);
            decoder.max_frame = agreed.unwrap_or(decoder.max_frame);
        }
        Ok(())
    }

    fn on_event(&self, state: &mut State, event: Event, payload: &[u8]) {
        match event {
            Event::Hello { id, hello } => self.link.add_job(state, Job::Hello { id, hello }),
            Event::Request { id, method, params, meta } => self.on_request(state, id, &method, &payload[params], meta),
            Event::Cast { method, params, meta } => self.on_cast(state, &method, &payload[params], meta),
            Event::Answer { id, error, result } => {
                if let Some(answer) = state.answers.get_mut(&id) {
                    *answer = Some(error.map_or_else(|| Ok(payload[result].to_vec()), Err));
                    self.link.wake_handlers();
                }
            }
            Event::Cancel(id) => self.link.cancel(state, id),
            Event::Credit => self.link.wake_handlers(),
            Event::Input(id, item) => {
                if let Some(inbox) = state.inboxes.get_mut(&id) {
                    inbox.window.arrived(item.len());
                    inbox.items.push_back(item);
                    self.link.wake_handlers();
                }
            }
            Event::InputEnd(id) => {
                if let Some(inbox) = state.inboxes.get_mut(&id) {
                    inbox.ended = true;
                    self.link.wake_handlers();
                }
            }
            Event::Stop => {
                state.stopping = true;
                self.link.wake_all();
            }
            Event::Ignored => {}
        }
    }

    fn on_request(&self, state: &mut State, id: u64, name: &str, params: &[u8], meta: Meta) {
        if name == "$/ping" {
            state.session.answered(id);
            let _ = self.link.output.queue(|out| append_plain(out, &(1, id, (), ())));
            return;
        }
        match self.accept(state, name, &meta) {
            Err(failure) => {
                state.session.answered(id);
                self.link.queue_error(id, &failure);
            }
            Ok(method) => {
                let call = Arc::new(Call::new(Some(id), meta));
                state.calls.insert(id, call.clone());
                if method.flags.input {
                    state.inboxes.insert(id, Inbox::default());
                }
                let job = Job::Call { call, method: method.clone(), params: params.to_vec() };
                self.link.add_job(state, job);
            }
        }
    }

    /// The method that a request is for, or why it gets none.
    fn accept(&self, state: &State, name: &str, meta: &Meta) -> Result<&Arc<Method>, Failure> {
        if name.starts_with("$/") {
            return Err(Failure::new(Code::Unimplemented, format!("{name} is not known to this worker")));
        }
        if state.stopping {
            let text = format!("the worker {} is stopping and takes no new calls", self.name);
            return Err(Failure::new(Code::Unavailable, text).retryable());
        }
        let Some(method) = self.methods.get(name) else {
            return Err(Failure::new(Code::Unimplemented, self.no_method(name)));
        };
        let wrong = match (meta.input, method.flags.input) {
            _ if meta.wrong.is_some() => meta.wrong.unwrap_or_default(),
            (true, _) if meta.batch.is_some() => "a batch has no streamed argument",
            _ if meta.batch.is_some() && meta.credit.is_some() => "a batch is not answered by a stream",
            (true, false) => "it takes no streamed argument",
            (false, true) => "it takes a streamed argument, and this call has none",
            _ => return Ok(method),
        };
        Err(Failure::new(Code::InvalidArgument, format!("{name}: {wrong}")))
    }

    fn no_method(&self, name: &str) -> String {
        let mut known: Vec<_> = self.methods.keys().map(String::as_str).collect();
        known.sort_unstable();
        format!("the worker {} has no method {name:?}; it has: {}", self.name, known.join(", "))
    }

    fn on_cast(&self, state: &mut State, name: &str, params: &[u8], meta: Meta) {
        match self.methods.get(name) {
            Some(method) if !method.flags.input => {
                let (call, params) = (Arc::new(Call::new(None, Meta { batch: None, ..meta })), params.to_vec());
                self.link.add_job(state, Job::Call { call, method: method.clone(), params });
            }
            Some(_) => self.log(
                "error",
                &format!("the cast to {name}, which takes a streamed argument, was dropped"),
                &None::<()>,
            ),
            None => self.log("warning", &format!("a cast was dropped: {}", self.no_method(name)), &None::<()>),
        }
    }
}

fn append_only(out: &mut Vec<u8>, results: &Results) -> Result<(), Failure> {
    match results.outcomes.first() {
        Some(Ok(place)) => {
            out.extend_from_slice(&results.bytes[place.clone()]);
            Ok(())
        }
        Some(Err(failure)) => Err(failure.clone()),
        None => Err(Failure::new(Code::Internal, "the method gave no result")),
    }
}

fn append_pairs(out: &mut Vec<u8>, results: &Results) -> Result<(), Failure> {
    append_array_len(out, results.outcomes.len());
    for outcome in &results.outcomes {
        match outcome {
            Ok(place) => {
                out.extend_from_slice(&[0x92, 0xc0]);
                out.extend_from_slice(&results.bytes[place.clone()]);
            }
            Err(failure) => {
                let place = Place { ndarray: results.place.ndarray, depth: 2 };
                append(out, &(failure, ()), place).or_else(|_| append_plain(out, &(failure.without_data(), ())))?;
            }
        }
    }
    Ok(())
}
