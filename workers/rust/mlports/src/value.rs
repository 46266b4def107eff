//! Between `Value`, which is any MessagePack value, and the types that serde knows.

use rmpv::Value;
use serde::de::DeserializeOwned;
use serde::Serialize;

use crate::failure::{Code, Failure};

/// What a value is as a `T`; `invalid_argument` when it is none.
pub fn from_value<T: DeserializeOwned>(value: Value) -> Result<T, Failure> {
    rmpv::ext::from_value(value).map_err(|reason| Failure::new(Code::InvalidArgument, reason.to_string()))
}

/// Anything as a value; `internal` when MessagePack has nothing for it.
pub fn to_value<T: Serialize>(value: T) -> Result<Value, Failure> {
    rmpv::ext::to_value(value).map_err(|reason| Failure::new(Code::Internal, reason.to_string()))
}
