//! A worker: a program whose methods mlports calls, in a process of its own.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use mlports::{from_value, Emitter, Failure, Value, Worker};
use serde::{Deserialize, Serialize};

/// The service's config, as mlports.toml gives it.
#[derive(Serialize, Deserialize)]
#[serde(default)]
struct Line {
    slope: f64,
    intercept: f64,
}

impl Default for Line {
    fn default() -> Self {
        Line { slope: 1.0, intercept: 0.0 }
    }
}

#[derive(Serialize)]
struct Description<'a> {
    kind: &'static str,
    #[serde(flatten)]
    line: &'a Line,
}

fn main() {
    let mut worker = Worker::new("@NAME@");
    let line = Arc::new(OnceLock::<Line>::new());

    // Called once, before the first call: the place to load a model.
    let loaded = line.clone();
    worker.setup(move |config: Line| {
        loaded.get_or_init(|| config);
        Ok(())
    });

    // A batch method: many calls' arguments in, as many results out. An error in a result's place is that call's
    // alone; `idempotent` lets mlports repeat a call after a crash.
    let model = line.clone();
    worker
        .batch("predict", move |_, calls: Vec<(Value,)>| {
            let line = model.get_or_init(Line::default);
            Ok(calls.into_iter().map(|(x,)| predict(line, x)).collect())
        })
        .idempotent();

    // A plain method. What it prints goes to the log and never breaks the protocol.
    worker.method("describe", move |_, ()| {
        println!("somebody asked what this is");
        mlports::to_value(Description { kind: "line", line: line.get_or_init(Line::default) })
    });

    // A stream, only as fast as it is read.
    worker.stream("steps", |context, items: &mut Emitter, (n, seconds): (u64, Option<f64>)| {
        for number in 0..n {
            context.sleep(Duration::try_from_secs_f64(seconds.unwrap_or(0.0))?)?;
            items.send(number)?;
        }
        Ok(())
    });

    worker.run();
}

fn predict(line: &Line, x: Value) -> Result<f64, Failure> {
    let x: f64 = from_value(x)?; // not a number: this call's `invalid_argument`
    Ok(line.slope * x + line.intercept)
}
