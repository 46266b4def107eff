//! A worker's methods: handlers of any type behind one face, which takes params and gives results as bytes.

use std::any::Any;
use std::cell::RefCell;
use std::ops::Range;
use std::panic::{catch_unwind, AssertUnwindSafe};

use serde::Serialize;

use crate::arguments::Arguments;
use crate::context::Context;
use crate::emitter::Emitter;
use crate::encode::{append, Place};
use crate::failure::{Code, Failure};
use crate::hello::MethodFlags;

type Run = dyn Fn(&Context, &[&[u8]], &mut Results) + Send + Sync;

pub struct Method {
    pub name: String,
    pub flags: MethodFlags,
    run: Box<Run>,
}

/// The outcomes of one or many calls, in order: results as places in `bytes`.
pub struct Results {
    pub bytes: Vec<u8>,
    pub outcomes: Vec<Result<Range<usize>, Failure>>,
    /// A batch handler failed, not its items.
    pub failed_whole: bool,
    pub place: Place,
}

impl Results {
    pub fn new(place: Place) -> Self {
        Results { bytes: Vec::new(), outcomes: Vec::new(), failed_whole: false, place }
    }

    pub fn clear(&mut self) {
        self.bytes.clear();
        self.outcomes.clear();
    }

    pub fn push<R: Serialize>(&mut self, outcome: Result<R, Failure>) {
        let start = self.bytes.len();
        let outcome = outcome.and_then(|result| append(&mut self.bytes, &result, self.place));
        self.outcomes.push(outcome.map(|()| start..self.bytes.len()));
    }

    /// A result that is MessagePack already.
    pub fn push_bytes(&mut self, outcome: Result<Vec<u8>, Failure>) {
        let start = self.bytes.len();
        let outcome = outcome.map(|bytes| self.bytes.extend_from_slice(&bytes));
        self.outcomes.push(outcome.map(|()| start..self.bytes.len()));
    }
}

impl Method {
    /// Runs it for each of these params; as many outcomes come out.
    pub fn run(&self, context: &Context, items: &[&[u8]], results: &mut Results) {
        (self.run)(context, items, results);
    }

    pub fn plain<A, R, F>(name: &str, handler: F) -> Method
    where
        A: Arguments,
        R: Serialize,
        F: Fn(&Context, A) -> Result<R, Failure> + Send + Sync + 'static,
    {
        let run = move |context: &Context, items: &[&[u8]], results: &mut Results| {
            for params in items {
                results.push(guarded(|| handler(context, A::from_params(params)?)));
            }
        };
        Method { name: name.to_owned(), flags: MethodFlags::default(), run: Box::new(run) }
    }

    pub fn batch<A, R, F>(name: &str, handler: F) -> Method
    where
        A: Arguments,
        R: Serialize,
        F: Fn(&Context, Vec<A>) -> Result<Vec<Result<R, Failure>>, Failure> + Send + Sync + 'static,
    {
        let flags = MethodFlags { batch: true, ..MethodFlags::default() };
        let run = move |context: &Context, items: &[&[u8]], results: &mut Results| {
            let arguments: Vec<_> = items.iter().map(|params| A::from_params(params)).collect();
            run_batch(context, &handler, arguments, results);
        };
        Method { name: name.to_owned(), flags, run: Box::new(run) }
    }

    pub fn stream<A, R, F>(name: &str, handler: F) -> Method
    where
        A: Arguments,
        R: Serialize,
        F: Fn(&Context, &mut Emitter<'_>, A) -> Result<R, Failure> + Send + Sync + 'static,
    {
        let flags = MethodFlags { stream: true, ..MethodFlags::default() };
        let run = move |context: &Context, items: &[&[u8]], results: &mut Results| {
            for params in items {
                let mut emitter = Emitter::new(context);
                let outcome = guarded(|| handler(context, &mut emitter, A::from_params(params)?));
                match emitter.collected() {
                    Some(items) => results.push_bytes(outcome.map(|_| items)),
                    None => results.push(outcome),
                }
            }
        };
        Method { name: name.to_owned(), flags, run: Box::new(run) }
    }
}

/// Runs a batch handler on the items whose arguments could be read; the others fail alone.
fn run_batch<A, R, F>(context: &Context, handler: &F, arguments: Vec<Result<A, Failure>>, results: &mut Results)
where
    R: Serialize,
    F: Fn(&Context, Vec<A>) -> Result<Vec<Result<R, Failure>>, Failure>,
{
    let (mut good, mut refused) = (Vec::new(), Vec::new());
    for arguments in arguments {
        refused.push(arguments.map(|arguments| good.push(arguments)).err());
    }
    let count = good.len();
    let answered = match count {
        0 => Ok(Vec::new()),
        _ => guarded(|| handler(context, good)),
    };
    let answered = answered.and_then(|outcomes| match outcomes.len() {
        given if given == count => Ok(outcomes),
        given => {
            Err(Failure::new(Code::Internal, format!("the batch method returned {given} results for {count} items")))
        }
    });
    results.failed_whole = answered.is_err();
    let mut outcomes = match answered {
        Ok(outcomes) => outcomes.into_iter(),
        Err(failure) => (0..count).map(|_| Err(failure.clone())).collect::<Vec<_>>().into_iter(),
    };
    for refused in refused {
        results.push(match refused {
            Some(failure) => Err(failure),
            None => outcomes.next().expect("as many as counted"),
        });
    }
}

thread_local! {
    static PANIC_PLACE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Makes every panic remember where it was, for `guarded`.
pub fn remember_panics() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let trace = std::backtrace::Backtrace::capture().to_string(); // "disabled backtrace" without RUST_BACKTRACE
        PANIC_PLACE.with(|kept| kept.replace(format!("panicked at {place}\n{trace}")));
        usual(panic);
    }));
}

/// Runs a user's code: a panic in it is an error like others.
pub fn guarded<T>(code: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    catch_unwind(AssertUnwindSafe(code)).unwrap_or_else(|panic| {
        let traceback = PANIC_PLACE.with(RefCell::take);
        Err(Failure::raised("panic", panic_text(&*panic), traceback))
    })
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    match panic.downcast_ref::<&str>() {
        Some(text) => text,
        None => panic.downcast_ref::<String>().map_or("of no text", String::as_str),
    }
}
