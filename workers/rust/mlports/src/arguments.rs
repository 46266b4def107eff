//! Params on their way in: an array of MessagePack values becomes the tuple that a handler takes.

use rmp::Marker;
use rmp_serde::decode::Error;
use rmpv::Value;
use serde::de::{self, DeserializeOwned, Visitor};
use serde::forward_to_deserialize_any;

use crate::failure::{Code, Failure};
use crate::scan::{Rules, Scanner};

/// What a handler can take: `()`, a tuple of up to 6 serde types, or `Vec<Value>` for any arguments at all.
///
/// Last ones that are `Option`s may be left out.
pub trait Arguments: Sized {
    /// Reads params that were checked before; `invalid_argument` when they are not what is taken.
    fn from_params(params: &[u8]) -> Result<Self, Failure>;
}

impl Arguments for Vec<Value> {
    fn from_params(params: &[u8]) -> Result<Self, Failure> {
        open(params)?;
        rmp_serde::from_slice(params).map_err(|reason| refused(format!("the arguments: {reason}")))
    }
}

impl Arguments for () {
    fn from_params(params: &[u8]) -> Result<Self, Failure> {
        check_most(open(params)?.0, 0)
    }
}

macro_rules! tuples {
    ($($most:literal: $($kind:ident)*;)*) => {$(
        impl<$($kind: DeserializeOwned),*> Arguments for ($($kind,)*) {
            fn from_params(params: &[u8]) -> Result<Self, Failure> {
                let (count, values) = open(params)?;
                check_most(count, $most)?;
                let mut reader = Reader { left: count, taken: 0, values: rmp_serde::Deserializer::from_read_ref(values) };
                Ok(($(reader.take::<$kind>()?,)*))
            }
        }
    )*};
}

tuples! {
    1: A;
    2: A B;
    3: A B C;
    4: A B C D;
    5: A B C D E;
    6: A B C D E F;
}

type Values<'a> = rmp_serde::Deserializer<rmp_serde::decode::ReadRefReader<'a, [u8]>>;

struct Reader<'a> {
    left: usize,
    taken: usize,
    values: Values<'a>,
}

impl Reader<'_> {
    fn take<T: DeserializeOwned>(&mut self) -> Result<T, Failure> {
        self.taken += 1;
        let value = if self.left == 0 {
            T::deserialize(Missing).map_err(|error| error.to_string())
        } else {
            self.left -= 1;
            T::deserialize(&mut self.values).map_err(|error| told::<T>(&error))
        };
        value.map_err(|reason| refused(format!("argument {}: {reason}", self.taken)))
    }
}

/// What rmp_serde says of a value that is no `T`; where it speaks of bytes, the types instead.
fn told<T>(error: &Error) -> String {
    match error {
        Error::TypeMismatch(marker) => format!("{} is needed, not {}", std::any::type_name::<T>(), kind(*marker)),
        other => other.to_string(),
    }
}

fn kind(marker: Marker) -> &'static str {
    use Marker::*;
    match marker {
        Null | Reserved => "nil",
        True | False => "a boolean",
        FixPos(_) | FixNeg(_) | U8 | U16 | U32 | U64 | I8 | I16 | I32 | I64 => "an integer",
        F32 | F64 => "a float",
        FixStr(_) | Str8 | Str16 | Str32 => "a string",
        Bin8 | Bin16 | Bin32 => "bytes",
        FixArray(_) | Array16 | Array32 => "a list",
        FixMap(_) | Map16 | Map32 => "a map",
        FixExt1 | FixExt2 | FixExt4 | FixExt8 | FixExt16 | Ext8 | Ext16 | Ext32 => "an extension value",
    }
}

/// How many params there are, and their bytes.
fn open(params: &[u8]) -> Result<(usize, &[u8]), Failure> {
    let mut scanner = Scanner::new(params, 0, Rules { ndarray: true, sending: false });
    match scanner.enter_array() {
        Ok(Some(count)) => Ok((count, &params[scanner.at..])),
        _ => Err(refused("an item of a batch is a list of arguments")),
    }
}

fn check_most(count: usize, most: usize) -> Result<(), Failure> {
    if count > most {
        return Err(refused(format!("{count} arguments were given, and it takes {most}")));
    }
    Ok(())
}

fn refused(reason: impl Into<String>) -> Failure {
    Failure::new(Code::InvalidArgument, reason)
}

/// Stands for an argument that was not given: only an `Option` can be made of it.
struct Missing;

impl<'de> de::Deserializer<'de> for Missing {
    type Error = de::value::Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Self::Error> {
        Err(de::Error::custom("it is missing"))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        visitor.visit_none()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}
