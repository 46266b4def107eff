//! `$/hello` and its answer (SPEC.md 5).

use rmpv::{Value, ValueRef};
use serde::Serialize;

use crate::frame::{DEFAULT_MAX_FRAME, MAX_FRAME_LIMIT};
use crate::message::{text, value_ref, MAX_ID};
use crate::violation::{broken, Fault, Violation};

const VERSION: i64 = 1;

/// What this SDK can do. `columns`, `shm`, `arrow` and `stacks` it cannot.
pub const FEATURES: [&str; 6] = ["batch", "cancel", "input", "ndarray", "ping", "stream"];

/// What the orchestrator says first.
#[derive(Clone, Debug)]
pub struct Hello {
    pub max_frame: usize,
    pub config: Value,
    features: Vec<String>,
}

impl Hello {
    /// Reads the params of `$/hello`.
    pub fn parse(params: &[u8]) -> Result<Hello, Violation> {
        let params = value_ref(params);
        let said = match &params {
            ValueRef::Array(params) => params.first(),
            _ => None,
        };
        let Some(ValueRef::Map(said)) = said else {
            return invalid("$/hello takes one map");
        };
        let field = |name| find(said, name);
        check_versions(field("protocol"))?;
        check_text("service", field("service"))?;
        if !matches!(field("replica").map(integer), None | Some(Some(0..=MAX_ID))) {
            return invalid("$/hello's replica is an integer from 0");
        }
        check_segment(field("shm"))?;
        Ok(Hello {
            max_frame: max_frame(field("max_frame"))?,
            config: config(field("config"))?,
            features: features(field("features"))?,
        })
    }

    /// Whether both sides have this feature.
    pub fn agrees(&self, feature: &str) -> bool {
        FEATURES.contains(&feature) && self.features.iter().any(|name| name == feature)
    }
}

/// What a worker says of one of its methods.
#[derive(Clone, Copy, Debug, Default)]
pub struct MethodFlags {
    pub batch: bool,
    pub stream: bool,
    pub idempotent: bool,
    pub input: bool,
}

impl Serialize for MethodFlags {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap;
        let mut map = serializer.serialize_map(Some(if self.input { 4 } else { 3 }))?;
        map.serialize_entry("batch", &self.batch)?;
        map.serialize_entry("stream", &self.stream)?;
        map.serialize_entry("idempotent", &self.idempotent)?;
        if self.input {
            map.serialize_entry("input", &true)?;
        }
        map.end()
    }
}

/// The result that answers `$/hello`.
pub fn answer(name: &str, max_frame: usize, methods: &[(&str, MethodFlags)], concurrency: usize) -> Value {
    let flags = |flags: &MethodFlags| rmpv::ext::to_value(flags).unwrap_or(Value::Nil);
    let methods = methods.iter().map(|(name, said)| (Value::from(*name), flags(said))).collect();
    let fields = [
        ("protocol", VERSION.into()),
        ("max_frame", max_frame.into()),
        ("name", name.into()),
        ("language", "rust".into()),
        ("sdk", concat!("mlports-rust ", env!("CARGO_PKG_VERSION")).into()),
        ("methods", Value::Map(methods)),
        ("features", Value::Array(FEATURES.map(Value::from).into())),
        ("concurrency", concurrency.into()),
    ];
    Value::Map(fields.into_iter().map(|(key, value)| (key.into(), value)).collect())
}

fn check_versions(versions: Option<&ValueRef<'_>>) -> Result<(), Violation> {
    let bound = |name| match versions {
        Some(ValueRef::Map(versions)) => match find(versions, name) {
            Some(ValueRef::Integer(number)) => number.as_i64().or(Some(i64::MAX)),
            _ => None,
        },
        _ => None,
    };
    let (Some(min), Some(max)) = (bound("min"), bound("max")) else {
        return invalid("$/hello says the versions it speaks as protocol: {min, max}, two integers");
    };
    if !(min..=max).contains(&VERSION) {
        let text = format!("the orchestrator speaks versions {min} to {max}, this worker version {VERSION}");
        return broken(Fault::UnsupportedVersion, text);
    }
    Ok(())
}

fn check_text(name: &str, value: Option<&ValueRef<'_>>) -> Result<(), Violation> {
    match value {
        Some(value) if text(value).is_none() => invalid(format!("$/hello's {name} is a string, not {value}")),
        _ => Ok(()),
    }
}

/// The segment to try is not tried here, but a wrong one is a wrong hello all the same.
fn check_segment(shm: Option<&ValueRef<'_>>) -> Result<(), Violation> {
    let said = match shm {
        None | Some(ValueRef::Nil) => return Ok(()),
        Some(ValueRef::Map(said)) => said.as_slice(),
        Some(_) => &[],
    };
    let token = matches!(find(said, "token"), Some(ValueRef::Binary(token)) if !token.is_empty());
    match find(said, "segment").and_then(text) {
        Some(path) if token && is_segment(&path) => Ok(()),
        _ => invalid("$/hello's shm is {segment, token}: a path such as /proc/1/fd/3, and bytes"),
    }
}

/// Whether it matches `/proc/[1-9][0-9]{0,9}/fd/[0-9]{1,9}`.
fn is_segment(path: &str) -> bool {
    let digits = |text: &str, most| (1..=most).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    match path.strip_prefix("/proc/").and_then(|path| path.split_once("/fd/")) {
        Some((process, number)) => !process.starts_with('0') && digits(process, 10) && digits(number, 9),
        None => false,
    }
}

fn max_frame(value: Option<&ValueRef<'_>>) -> Result<usize, Violation> {
    match value.map(integer) {
        None => Ok(DEFAULT_MAX_FRAME),
        Some(Some(size @ 1..=MAX_FRAME_LIMIT)) => Ok(size as usize),
        _ => invalid("$/hello's max_frame is an integer from 1 to 2^31-1"),
    }
}

fn config(value: Option<&ValueRef<'_>>) -> Result<Value, Violation> {
    match value {
        None | Some(ValueRef::Nil) => Ok(Value::Map(Vec::new())),
        Some(map @ ValueRef::Map(_)) => Ok(map.to_owned()),
        Some(other) => invalid(format!("$/hello's config is a map, not {other}")),
    }
}

fn features(value: Option<&ValueRef<'_>>) -> Result<Vec<String>, Violation> {
    let names = match value {
        None => Some(Vec::new()),
        Some(ValueRef::Array(names)) => names.iter().map(text).collect(),
        Some(_) => None,
    };
    match names {
        Some(names) => Ok(names),
        None => invalid("$/hello's features are an array of strings"),
    }
}

fn find<'a, 'b>(map: &'b [(ValueRef<'a>, ValueRef<'a>)], name: &str) -> Option<&'b ValueRef<'a>> {
    map.iter().find(|(key, _)| text(key).as_deref() == Some(name)).map(|(_, value)| value)
}

fn integer(value: &ValueRef<'_>) -> Option<u64> {
    match value {
        ValueRef::Integer(number) => number.as_u64(),
        _ => None,
    }
}

fn invalid<T>(reason: impl Into<String>) -> Result<T, Violation> {
    broken(Fault::InvalidHello, reason)
}
