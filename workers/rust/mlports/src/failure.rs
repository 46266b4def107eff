//! What went wrong, as the caller is told it (SPEC.md 4.4).

use std::any::type_name;
use std::borrow::Cow;
use std::fmt;

use rmpv::Value;
use serde::Serialize;

/// Why a call failed, in gRPC's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    Cancelled,
    Unknown,
    InvalidArgument,
    DeadlineExceeded,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    FailedPrecondition,
    Unimplemented,
    Internal,
    Unavailable,
    DataLoss,
    Unauthenticated,
}

const CODES: [(Code, &str); 13] = [
    (Code::Cancelled, "cancelled"),
    (Code::Unknown, "unknown"),
    (Code::InvalidArgument, "invalid_argument"),
    (Code::DeadlineExceeded, "deadline_exceeded"),
    (Code::NotFound, "not_found"),
    (Code::PermissionDenied, "permission_denied"),
    (Code::ResourceExhausted, "resource_exhausted"),
    (Code::FailedPrecondition, "failed_precondition"),
    (Code::Unimplemented, "unimplemented"),
    (Code::Internal, "internal"),
    (Code::Unavailable, "unavailable"),
    (Code::DataLoss, "data_loss"),
    (Code::Unauthenticated, "unauthenticated"),
];

impl Code {
    /// As it travels: `"invalid_argument"`.
    pub fn as_str(self) -> &'static str {
        CODES[self as usize].1
    }

    /// The code of that name; `Unknown` for a name that is none.
    pub fn named(name: &str) -> Code {
        CODES.iter().find(|(_, text)| *text == name).map_or(Code::Unknown, |(code, _)| *code)
    }
}

/// A call that failed. Return it from a handler to choose the code that the caller sees; every other error becomes
/// `Unknown` with its type and text, so that `?` works on all of them.
#[derive(Clone, Debug)]
pub struct Failure {
    pub code: Code,
    pub message: String,
    /// Anything that says more, in MessagePack's types.
    pub data: Option<Value>,
    /// The call had no effect: it may be made again.
    pub retryable: bool,
}

impl Failure {
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Failure { code, message: message.into(), data: None, retryable: false }
    }

    pub fn with_data(mut self, data: impl Into<Value>) -> Self {
        self.data = Some(data.into());
        self
    }

    pub fn retryable(mut self) -> Self {
        self.retryable = true;
        self
    }

    pub(crate) fn raised(kind: &str, message: &str, traceback: String) -> Self {
        let name = kind.rsplit("::").next().unwrap_or(kind);
        let data = [("type".into(), kind.into()), ("traceback".into(), traceback.into())];
        Failure::new(Code::Unknown, format!("{name}: {message}")).with_data(Value::Map(data.into()))
    }

    /// The same in few bytes, for where its data cannot be sent.
    pub(crate) fn without_data(&self) -> Self {
        let message: String = self.message.chars().take(1000).collect();
        Failure { code: self.code, message, data: None, retryable: self.retryable }
    }

    pub(crate) fn cancelled() -> Self {
        Failure::new(Code::Cancelled, "the caller cancelled the call")
    }
}

fn one_line(message: &str) -> Cow<'_, str> {
    match message.contains('\n') {
        true => message.lines().collect::<Vec<_>>().join(" ").into(),
        false => message.into(),
    }
}

// Not an Error itself, which lets every Error become one.
impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        let mut chain = format!("{error}");
        let mut cause = error.source();
        while let Some(inner) = cause {
            chain.push_str(&format!("\ncaused by: {inner}"));
            cause = inner.source();
        }
        // std::io::error::Error is known to everybody as Error; generics say nothing to the caller.
        let kind = type_name::<E>().split('<').next().unwrap_or_default();
        Failure::raised(kind, &error.to_string(), chain)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.as_str(), self.message)
    }
}

impl Serialize for Failure {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap;
        let count = 2 + usize::from(self.data.is_some()) + usize::from(self.retryable);
        let mut map = serializer.serialize_map(Some(count))?;
        map.serialize_entry("code", self.code.as_str())?;
        map.serialize_entry("message", &one_line(&self.message))?;
        if let Some(data) = &self.data {
            map.serialize_entry("data", data)?;
        }
        if self.retryable {
            map.serialize_entry("retryable", &true)?;
        }
        map.end()
    }
}
