//! `Worker`: what the author of a worker program sees.

use std::collections::HashMap;
use std::io::IsTerminal;
use std::sync::Arc;

use rmpv::Value;
use serde::de::DeserializeOwned;
use serde::Serialize;

use crate::arguments::Arguments;
use crate::context::{config_as, Context};
use crate::emitter::Emitter;
use crate::failure::Failure;
use crate::method::Method;
use crate::serving::Server;
use crate::stdio::{channel, ignore_interrupts};

pub(crate) type Setup = Box<dyn FnOnce(Value) -> Result<(), Failure>>;

/// A program of methods that an orchestrator calls.
pub struct Worker {
    name: String,
    concurrency: usize,
    methods: HashMap<String, Method>,
    setup: Setup,
}

/// What more is to be said of a method just registered.
pub struct Registered<'a>(&'a mut Method);

impl Registered<'_> {
    /// Running it twice does the same as once: a call may be repeated after a crash.
    pub fn idempotent(self) -> Self {
        self.0.flags.idempotent = true;
        self
    }

    /// It takes one more argument as a stream: `context.input()`.
    ///
    /// # Panics
    /// For a batch method, whose many calls in one cannot bring streams.
    pub fn input(self) -> Self {
        assert!(!self.0.flags.batch, "{} is a batch method and cannot take a streamed argument", self.0.name);
        self.0.flags.input = true;
        self
    }
}

impl Worker {
    /// A worker of that name, which works on one call at a time. From here on what the program prints on standard
    /// output goes to standard error: make this `main`'s first line.
    pub fn new(name: &str) -> Self {
        channel();
        Worker { name: name.to_owned(), concurrency: 1, methods: HashMap::new(), setup: Box::new(|_| Ok(())) }
    }

    /// How many calls it works on at once, each on a thread of its own. At least 1.
    pub fn concurrency(mut self, calls: usize) -> Self {
        self.concurrency = calls.max(1);
        self
    }

    /// Called once with the service's `config`, before the first call. An error ends the worker with status 1.
    pub fn setup<C, F>(&mut self, setup: F)
    where
        C: DeserializeOwned,
        F: FnOnce(C) -> Result<(), Failure> + 'static,
    {
        self.setup = Box::new(|config| setup(config_as(config)?));
    }

    /// A method: arguments in, a value out.
    ///
    /// # Panics
    /// For a name that is taken, empty, or begins with `$/`; so do `batch` and `stream`.
    pub fn method<A, R, F>(&mut self, name: &str, handler: F) -> Registered<'_>
    where
        A: Arguments,
        R: Serialize,
        F: Fn(&Context, A) -> Result<R, Failure> + Send + Sync + 'static,
    {
        self.register(Method::plain(name, handler))
    }

    /// A method that works on many calls at once: a list of arguments in, as many results out, in order. An error in a
    /// result's place is that call's alone.
    pub fn batch<A, R, F>(&mut self, name: &str, handler: F) -> Registered<'_>
    where
        A: Arguments,
        R: Serialize,
        F: Fn(&Context, Vec<A>) -> Result<Vec<Result<R, Failure>>, Failure> + Send + Sync + 'static,
    {
        self.register(Method::batch(name, handler))
    }

    /// A method that answers with a stream of items, and a last value.
    pub fn stream<A, R, F>(&mut self, name: &str, handler: F) -> Registered<'_>
    where
        A: Arguments,
        R: Serialize,
        F: Fn(&Context, &mut Emitter<'_>, A) -> Result<R, Failure> + Send + Sync + 'static,
    {
        self.register(Method::stream(name, handler))
    }

    fn register(&mut self, method: Method) -> Registered<'_> {
        let name = method.name.clone();
        assert!(
            !name.is_empty() && !name.starts_with("$/"),
            "{name:?} cannot be a method's name: $/ is the protocol's"
        );
        assert!(!self.methods.contains_key(&name), "the worker {} already has a method {name:?}", self.name);
        Registered(self.methods.entry(name).or_insert(method))
    }

    /// Serves the orchestrator at the other end of standard input and output; returns when it is done.
    ///
    /// Ends the process with status 1 when setup fails or the orchestrator breaks the protocol, 2 at a terminal.
    pub fn run(self) {
        let channel = channel();
        if channel.input.is_terminal() {
            eprintln!(
                "{} is a worker: it speaks frames with an orchestrator, not with a person at a terminal.\n\
                 Name this program as a service's command in mlports.toml and start that with \"mlports run\".",
                self.name
            );
            std::process::exit(2);
        }
        ignore_interrupts();
        let methods = self.methods.into_iter().map(|(name, method)| (name, Arc::new(method))).collect();
        Server::new(self.name, methods, self.concurrency, channel).run(self.setup);
    }
}
