//! The worker that the conformance kit asks for: each thing that the protocol can do, once.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mlports::{Code, Context, Emitter, Failure, Level, Value, Worker};

fn main() {
    let mut worker = Worker::new("conformance");
    add_calls(&mut worker);
    add_failures(&mut worker);
    add_streams(&mut worker);
    add_messages(&mut worker);
    worker.run();
}

fn add_calls(worker: &mut Worker) {
    worker.method("echo", |_, (value,): (Value,)| Ok(value));
    worker.method("add", |_, (a, b): (Value, Value)| add(&a, &b)).idempotent();
    worker.batch("root", |_, numbers: Vec<(f64,)>| Ok(numbers.into_iter().map(|(x,)| root(x)).collect()));
    worker.method("sleep", |context, (seconds,): (f64,)| {
        context.sleep(Duration::try_from_secs_f64(seconds)?)?;
        Ok(seconds)
    });
    worker.method("relay", |context, (target, params): (String, Vec<Value>)| context.call::<Value, _>(&target, params));
}

fn add(a: &Value, b: &Value) -> Result<Value, Failure> {
    match (a.as_i64(), b.as_i64()) {
        (Some(a), Some(b)) => match a.checked_add(b) {
            Some(sum) => Ok(sum.into()),
            None => Err(Failure::new(Code::InvalidArgument, "the sum is beyond 64 bits")),
        },
        _ => match (a.as_f64(), b.as_f64()) {
            (Some(a), Some(b)) => Ok((a + b).into()),
            _ => Err(Failure::new(Code::InvalidArgument, format!("two numbers are needed, not {a} and {b}"))),
        },
    }
}

fn root(x: f64) -> Result<f64, Failure> {
    if x < 0.0 {
        return Err(Failure::new(Code::InvalidArgument, format!("{x} has no real root")));
    }
    Ok(x.sqrt())
}

fn add_failures(worker: &mut Worker) {
    worker.method("fail", |_, (message,): (String,)| -> Result<(), Failure> { Err(io::Error::other(message))? });
    worker.method("panic", |_, (message,): (String,)| -> Result<(), Failure> { panic!("{message}") });
    worker.method("refuse", |_, (code, message): (String, String)| -> Result<(), Failure> {
        Err(Failure::new(Code::named(&code), message))
    });
}

fn add_streams(worker: &mut Worker) {
    worker.stream("count", |_, items: &mut Emitter, (n,): (u64,)| (0..n).try_for_each(|number| items.send(number)));
    worker.method("total", |context: &Context, ()| context.input::<f64>().sum::<Result<f64, Failure>>()).input();
}

fn add_messages(worker: &mut Worker) {
    worker.method("print", |_, (text,): (String,)| {
        println!("{text}");
        Ok(())
    });
    worker.method("note", |context, (level, text): (String, String)| {
        let level = match level.as_str() {
            "debug" => Level::Debug,
            "warning" => Level::Warning,
            "error" => Level::Error,
            _ => Level::Info,
        };
        context.log(level, &text, ())
    });
    worker.method("advance", |context, (n,): (u64,)| {
        (1..=n).for_each(|done| context.progress(done as f64, Some(n as f64), ""));
        Ok(n)
    });
    let kept = Arc::new(Mutex::new(Vec::<Value>::new()));
    let marks = kept.clone();
    worker.method("mark", move |_, (value,): (Value,)| {
        kept.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push(value);
        Ok(())
    });
    worker.method("marks", move |_, ()| Ok(marks.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()));
}
