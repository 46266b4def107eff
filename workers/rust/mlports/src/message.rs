//! The three messages of MessagePack-RPC (SPEC.md 4), as places in the payload that they came in.

use std::ops::Range;

use rmpv::{Value, ValueRef};

use crate::failure::{Code, Failure};
use crate::scan::{Rules, Scanner};
use crate::violation::{broken, Fault, Violation};

pub const MAX_ID: u64 = (1 << 53) - 1;

/// A message. Ranges are of its payload; that of a meta that is absent, nil or {} is empty.
#[derive(Debug)]
pub enum Message {
    Request { id: u64, method: String, params: Range<usize>, meta: Range<usize> },
    Response { id: u64, error: Option<Failure>, result: Range<usize> },
    Notification { method: String, params: Range<usize>, meta: Range<usize> },
}

impl Message {
    /// What a frame's payload holds. Every value in it has been checked then.
    pub fn parse(payload: &[u8], rules: Rules) -> Result<Message, Violation> {
        let parts = split(payload, rules)?;
        let Some(parts) = parts.filter(|parts| !parts.is_empty()) else {
            return invalid("a message is an array of 3 to 5 elements");
        };
        let value = |index: usize| parts.get(index).map_or(&[][..], |part: &Range<usize>| &payload[part.clone()]);
        let kind = integer(value(0));
        let least = if kind == Some(2) { 3 } else { 4 };
        if matches!(kind, Some(0..=2)) && parts.len() < least {
            return invalid(format!("a message with {} elements, and at least {least} are due", parts.len()));
        }
        match kind {
            Some(0) => Ok(Message::Request {
                id: id(value(1))?,
                method: method(value(2))?,
                params: params(payload, &parts[3])?,
                meta: meta(payload, parts.get(4))?,
            }),
            Some(1) => {
                let (id, error) = (id(value(1))?, error(value(2), value(3))?);
                meta(payload, parts.get(4))?; // checked, and of no use
                Ok(Message::Response { id, error, result: parts[3].clone() })
            }
            Some(2) => Ok(Message::Notification {
                method: method(value(1))?,
                params: params(payload, &parts[2])?,
                meta: meta(payload, parts.get(3))?,
            }),
            _ => invalid("a message begins with 0, 1 or 2"),
        }
    }
}

/// The elements of the payload's one array, at most the first five; none when it holds another value.
fn split(payload: &[u8], rules: Rules) -> Result<Option<Vec<Range<usize>>>, Violation> {
    let mut scanner = Scanner::new(payload, 0, rules);
    let parts = match scanner.enter_array()? {
        None => None,
        Some(count) => {
            let mut parts = Vec::with_capacity(5);
            for index in 0..count {
                let start = scanner.at;
                scanner.skip(1)?;
                if index < 5 {
                    parts.push(start..scanner.at);
                }
            }
            Some(parts)
        }
    };
    match payload.len() - scanner.at {
        0 => Ok(parts),
        left => broken(Fault::TrailingBytes, format!("{left} bytes behind the value in a frame")),
    }
}

/// The places of an array's elements, in bytes that were checked before; none for another value.
pub fn elements(array: &[u8]) -> Option<Vec<&[u8]>> {
    let mut scanner = Scanner::new(array, 0, Rules { ndarray: true, sending: false });
    let count = scanner.enter_array().ok()??;
    (0..count)
        .map(|_| {
            let start = scanner.at;
            scanner.skip(1).ok()?;
            Some(&array[start..scanner.at])
        })
        .collect()
}

/// A value that was checked before.
pub fn value_ref(mut bytes: &[u8]) -> ValueRef<'_> {
    rmpv::decode::read_value_ref(&mut bytes).unwrap_or(ValueRef::Nil)
}

/// A string, or a bin that holds one: some languages have one type for both.
pub fn text(value: &ValueRef<'_>) -> Option<String> {
    match value {
        ValueRef::String(text) => text.as_str().map(str::to_owned),
        ValueRef::Binary(bytes) => std::str::from_utf8(bytes).ok().map(str::to_owned),
        _ => None,
    }
}

pub fn integer(bytes: &[u8]) -> Option<u64> {
    match value_ref(bytes) {
        ValueRef::Integer(number) => number.as_u64(),
        _ => None,
    }
}

fn id(bytes: &[u8]) -> Result<u64, Violation> {
    match integer(bytes) {
        Some(number) if number <= MAX_ID => Ok(number),
        _ => invalid(format!("an id is an integer from 0 to 2^53-1, not {}", shown(bytes))),
    }
}

fn method(bytes: &[u8]) -> Result<String, Violation> {
    match text(&value_ref(bytes)) {
        Some(name) if !name.is_empty() => Ok(name),
        _ => invalid(format!("a method is a string of at least 1 byte, not {}", shown(bytes))),
    }
}

fn params(payload: &[u8], range: &Range<usize>) -> Result<Range<usize>, Violation> {
    match payload[range.start] {
        0x90..=0x9f | 0xdc | 0xdd => Ok(range.clone()),
        _ => invalid(format!("params are an array, not {}", shown(&payload[range.clone()]))),
    }
}

fn meta(payload: &[u8], range: Option<&Range<usize>>) -> Result<Range<usize>, Violation> {
    let Some(range) = range else { return Ok(0..0) };
    match payload[range.start] {
        0xc0 | 0x80 => Ok(0..0),
        0x81..=0x8f | 0xde | 0xdf => Ok(range.clone()),
        _ => invalid(format!("meta is a map, not {}", shown(&payload[range.clone()]))),
    }
}

fn error(bytes: &[u8], result: &[u8]) -> Result<Option<Failure>, Violation> {
    let pairs = match value_ref(bytes) {
        ValueRef::Nil => return Ok(None),
        ValueRef::Map(pairs) => pairs,
        _ => return invalid(format!("an error is nil or a map, not {}", shown(bytes))),
    };
    let field = |name: &str| pairs.iter().find(|(key, _)| text(key).as_deref() == Some(name)).map(|(_, value)| value);
    let (Some(code), Some(message)) = (field("code").and_then(text), field("message").and_then(text)) else {
        return invalid("an error has a code and a message, two strings");
    };
    let retryable = match field("retryable") {
        None => false,
        Some(ValueRef::Boolean(retryable)) => *retryable,
        Some(other) => return invalid(format!("an error's retryable is a boolean, not {other}")),
    };
    if value_ref(result) != ValueRef::Nil {
        return invalid("a response with an error and a result");
    }
    let data = field("data").map(ValueRef::to_owned);
    Ok(Some(Failure { code: Code::named(&code), message, data, retryable }))
}

/// A value for an error message, short.
fn shown(bytes: &[u8]) -> String {
    let text: String = Value::to_string(&value_ref(&bytes[..bytes.len().min(4096)]).to_owned());
    text.chars().take(80).collect()
}

pub fn invalid<T>(reason: impl Into<String>) -> Result<T, Violation> {
    broken(Fault::InvalidMessage, reason)
}
