//! The ways in which a peer can break the protocol, by the names of SPEC.md 13.

use std::fmt;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    EmptyFrame,
    TrailingBytes,
    FrameTooLarge,
    TruncatedFrame,
    MalformedValue,
    InvalidExtension,
    InvalidMessage,
    HandshakeExpected,
    InvalidHello,
    UnsupportedVersion,
    UnknownId,
    AnsweredTwice,
    DuplicateId,
    CreditExceeded,
}

/// What the orchestrator did that ends the connection.
#[derive(Clone, Debug)]
pub struct Violation {
    pub fault: Fault,
    pub reason: String,
}

impl Violation {
    pub fn new(fault: Fault, reason: impl Into<String>) -> Self {
        Violation { fault, reason: reason.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.fault, self.reason)
    }
}

/// `Err` of a violation, for `return`.
pub fn broken<T>(fault: Fault, reason: impl Into<String>) -> Result<T, Violation> {
    Err(Violation::new(fault, reason))
}
