//! Values on their way out: serde's, as MessagePack that the protocol allows.

use serde::Serialize;

use crate::failure::{Code, Failure};
use crate::scan::{Rules, Scanner};

/// Where a value is going.
#[derive(Clone, Copy)]
pub struct Place {
    /// Whether the orchestrator takes ndarrays.
    pub ndarray: bool,
    /// The arrays of the message around it: 1 for a result, 2 for an item, 3 for a result in a batch.
    pub depth: usize,
}

/// Appends a value; leaves `out` as it was when it cannot be sent.
pub fn append<T: Serialize + ?Sized>(out: &mut Vec<u8>, value: &T, place: Place) -> Result<(), Failure> {
    let start = out.len();
    let outcome = append_plain(out, value).and_then(|()| {
        let rules = Rules { ndarray: place.ndarray, sending: true };
        Scanner::new(out, start, rules).skip(place.depth).map_err(|violation| unsendable(violation.reason))
    });
    if outcome.is_err() {
        out.truncate(start);
    }
    outcome
}

/// Appends a value of the SDK's own, which needs no looking at.
pub fn append_plain<T: Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) -> Result<(), Failure> {
    let mut serializer = rmp_serde::Serializer::new(out).with_struct_map();
    value.serialize(&mut serializer).map_err(unsendable)
}

/// A tuple or list of arguments as params; `()` is none.
pub fn params<T: Serialize>(arguments: T, ndarray: bool) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    append(&mut bytes, &arguments, Place { ndarray, depth: 1 })?;
    match bytes.first() {
        Some(0xc0) => Ok(vec![0x90]),
        Some(0x90..=0x9f | 0xdc | 0xdd) => Ok(bytes),
        _ => Err(Failure::new(Code::InvalidArgument, "the arguments of a call are a tuple or a list")),
    }
}

/// Appends an array's header.
pub fn append_array_len(out: &mut Vec<u8>, count: usize) {
    rmp::encode::write_array_len(out, count as u32).expect("a Vec takes all bytes");
}

fn unsendable(reason: impl std::fmt::Display) -> Failure {
    Failure::new(Code::Internal, format!("the value cannot be sent: {reason}"))
}
