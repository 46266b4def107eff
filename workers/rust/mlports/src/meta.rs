//! Meta: what a request says besides its arguments (SPEC.md 4.5).

use rmpv::ValueRef;

use crate::message::{invalid, text, value_ref, MAX_ID};
use crate::violation::Violation;

#[derive(Clone, Debug, Default)]
pub struct Meta {
    pub deadline_ms: Option<f64>,
    pub credit: Option<u64>,
    pub input: bool,
    pub batch: Option<u64>,
    pub traceparent: Option<String>,
    pub idempotency_key: Option<String>,
    /// What is wrong in it that concerns this request alone.
    pub wrong: Option<&'static str>,
}

impl Meta {
    /// Reads a map that was checked before; no bytes stand for none.
    pub fn parse(bytes: &[u8]) -> Result<Meta, Violation> {
        let mut meta = Meta::default();
        if bytes.is_empty() {
            return Ok(meta);
        }
        let ValueRef::Map(pairs) = value_ref(bytes) else {
            return invalid("meta is a map");
        };
        for (key, value) in &pairs {
            let key = text(key);
            meta.take(key.as_deref().unwrap_or_default(), value)?;
        }
        Ok(meta)
    }

    fn take(&mut self, key: &str, value: &ValueRef<'_>) -> Result<(), Violation> {
        match key {
            "credit" => match count(value, 0) {
                None => return invalid(format!("meta credit is an integer from 0, not {value}")),
                credit => self.credit = credit,
            },
            "input" => match value {
                ValueRef::Boolean(input) => self.input = *input,
                _ => return invalid(format!("meta input is a boolean, not {value}")),
            },
            "deadline_ms" => match number(value) {
                None => self.wrong = Some("meta deadline_ms is a number from 0"),
                deadline => self.deadline_ms = deadline,
            },
            "batch" => match count(value, 1) {
                None => self.wrong = Some("meta batch is an integer from 1"),
                batch => self.batch = batch,
            },
            "columns" if *value != ValueRef::Boolean(false) => {
                self.wrong = Some("meta columns: this worker does not claim the feature");
            }
            "traceparent" => self.traceparent = text(value),
            "idempotency_key" => self.idempotency_key = text(value),
            _ => {}
        }
        Ok(())
    }
}

fn count(value: &ValueRef<'_>, least: u64) -> Option<u64> {
    match value {
        ValueRef::Integer(number) => number.as_u64().filter(|number| (least..=MAX_ID).contains(number)),
        _ => None,
    }
}

fn number(value: &ValueRef<'_>) -> Option<f64> {
    let number = match value {
        ValueRef::Integer(number) => number.as_f64(),
        ValueRef::F64(number) => Some(*number),
        ValueRef::F32(number) => Some(f64::from(*number)),
        _ => None,
    };
    number.filter(|number| *number >= 0.0)
}
