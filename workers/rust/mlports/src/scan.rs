//! Walks over MessagePack without building anything, and checks what SPEC.md 3 asks for: so that what comes later, or
//! from a handler, can be trusted to be whole.

use rmp::Marker;

use crate::layout;
use crate::violation::{broken, Fault, Violation};

pub const MAX_DEPTH: usize = 128;

const TIMESTAMP: i8 = -1;
pub const NDARRAY: i8 = 1;

/// What is allowed besides plain values.
#[derive(Clone, Copy)]
pub struct Rules {
    pub ndarray: bool,
    /// Senders are held to more than receivers: see SPEC.md 3.6 and 3.7.
    pub sending: bool,
}

/// A place in a payload. `depth` in its functions counts the arrays and maps around it.
pub struct Scanner<'a> {
    pub data: &'a [u8],
    pub at: usize,
    rules: Rules,
}

enum Kind {
    Scalar,
    Float,
    Str(usize),
    Bin(usize),
    Array(usize),
    Map(usize),
    Ext(usize),
}

impl<'a> Scanner<'a> {
    pub fn new(data: &'a [u8], at: usize, rules: Rules) -> Self {
        Scanner { data, at, rules }
    }

    /// Goes past one value.
    pub fn skip(&mut self, depth: usize) -> Result<(), Violation> {
        let kind = self.kind()?;
        self.skip_content(kind, depth)
    }

    /// Goes into an array: how many elements follow, or none, and past it, for any other value.
    pub fn enter_array(&mut self) -> Result<Option<usize>, Violation> {
        match self.kind()? {
            Kind::Array(count) => {
                self.check_count(count, 1)?;
                Ok(Some(count))
            }
            kind => {
                self.skip_content(kind, 0)?;
                Ok(None)
            }
        }
    }

    fn skip_content(&mut self, kind: Kind, depth: usize) -> Result<(), Violation> {
        match kind {
            Kind::Scalar | Kind::Float => Ok(()),
            Kind::Bin(size) => self.take(size).map(drop),
            Kind::Str(size) => match std::str::from_utf8(self.take(size)?) {
                Ok(_) => Ok(()),
                Err(_) => broken(Fault::MalformedValue, "a str that is not UTF-8"),
            },
            Kind::Ext(size) => self.check_extension(size),
            Kind::Array(count) => {
                self.check_count(count, 1)?;
                let depth = deeper(depth)?;
                (0..count).try_for_each(|_| self.skip(depth))
            }
            Kind::Map(count) => {
                self.check_count(count, 2)?;
                let depth = deeper(depth)?;
                (0..count).try_for_each(|_| {
                    self.skip_key(depth)?;
                    self.skip(depth)
                })
            }
        }
    }

    fn skip_key(&mut self, depth: usize) -> Result<(), Violation> {
        let kind = self.kind()?;
        match kind {
            Kind::Array(_) | Kind::Map(_) => broken(Fault::MalformedValue, "an array or a map as a map's key"),
            Kind::Float | Kind::Ext(_) if self.rules.sending => {
                broken(Fault::MalformedValue, "a float or an extension value as a map's key")
            }
            kind => self.skip_content(kind, depth),
        }
    }

    fn check_extension(&mut self, size: usize) -> Result<(), Violation> {
        let code = self.take(1)?[0] as i8;
        let content = self.take(size)?;
        match code {
            TIMESTAMP => check_timestamp(content),
            NDARRAY if self.rules.ndarray => layout::read(content).map(drop),
            1..=3 => broken(Fault::InvalidExtension, format!("extension {code}, whose feature was not agreed")),
            0 | 4..=63 | i8::MIN..=-2 if self.rules.sending => {
                broken(Fault::InvalidExtension, format!("extension {code} is reserved: applications have 64 to 127"))
            }
            _ => Ok(()),
        }
    }

    /// The next value's kind; past its first byte, its length, and all of a number.
    fn kind(&mut self) -> Result<Kind, Violation> {
        let marker = Marker::from_u8(self.take(1)?[0]);
        let fixed = match marker {
            Marker::FixPos(_) | Marker::FixNeg(_) | Marker::Null | Marker::True | Marker::False => {
                return Ok(Kind::Scalar)
            }
            Marker::U8 | Marker::I8 => 1,
            Marker::U16 | Marker::I16 => 2,
            Marker::U32 | Marker::I32 => 4,
            Marker::U64 | Marker::I64 => 8,
            Marker::F32 => return self.take(4).map(|_| Kind::Float),
            Marker::F64 => return self.take(8).map(|_| Kind::Float),
            Marker::FixStr(size) => return Ok(Kind::Str(size.into())),
            Marker::Str8 => return self.length(1).map(Kind::Str),
            Marker::Str16 => return self.length(2).map(Kind::Str),
            Marker::Str32 => return self.length(4).map(Kind::Str),
            Marker::Bin8 => return self.length(1).map(Kind::Bin),
            Marker::Bin16 => return self.length(2).map(Kind::Bin),
            Marker::Bin32 => return self.length(4).map(Kind::Bin),
            Marker::FixArray(count) => return Ok(Kind::Array(count.into())),
            Marker::Array16 => return self.length(2).map(Kind::Array),
            Marker::Array32 => return self.length(4).map(Kind::Array),
            Marker::FixMap(count) => return Ok(Kind::Map(count.into())),
            Marker::Map16 => return self.length(2).map(Kind::Map),
            Marker::Map32 => return self.length(4).map(Kind::Map),
            Marker::FixExt1 => return Ok(Kind::Ext(1)),
            Marker::FixExt2 => return Ok(Kind::Ext(2)),
            Marker::FixExt4 => return Ok(Kind::Ext(4)),
            Marker::FixExt8 => return Ok(Kind::Ext(8)),
            Marker::FixExt16 => return Ok(Kind::Ext(16)),
            Marker::Ext8 => return self.length(1).map(Kind::Ext),
            Marker::Ext16 => return self.length(2).map(Kind::Ext),
            Marker::Ext32 => return self.length(4).map(Kind::Ext),
            Marker::Reserved => return broken(Fault::MalformedValue, "the byte c1, which begins no value"),
        };
        self.take(fixed).map(|_| Kind::Scalar)
    }

    fn length(&mut self, bytes: usize) -> Result<usize, Violation> {
        Ok(self.take(bytes)?.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)))
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Violation> {
        match self.data[self.at..].get(..count) {
            Some(bytes) => {
                self.at += count;
                Ok(bytes)
            }
            None => broken(Fault::MalformedValue, "a value that is longer than the rest of its frame"),
        }
    }

    fn check_count(&self, count: usize, least: usize) -> Result<(), Violation> {
        if count * least > self.data.len() - self.at {
            return broken(Fault::MalformedValue, "an array or a map with more elements than its frame has bytes");
        }
        Ok(())
    }
}

fn deeper(depth: usize) -> Result<usize, Violation> {
    if depth >= MAX_DEPTH {
        return broken(Fault::MalformedValue, format!("arrays and maps nested deeper than {MAX_DEPTH}"));
    }
    Ok(depth + 1)
}

fn check_timestamp(content: &[u8]) -> Result<(), Violation> {
    let nanoseconds = match content {
        [_, _, _, _] => 0,
        [a, b, c, d, _, _, _, _] => u32::from_be_bytes([*a, *b, *c, *d]) >> 2,
        [a, b, c, d, rest @ ..] if rest.len() == 8 => u32::from_be_bytes([*a, *b, *c, *d]),
        _ => return broken(Fault::MalformedValue, format!("a timestamp of {} bytes", content.len())),
    };
    if nanoseconds > 999_999_999 {
        return broken(Fault::MalformedValue, format!("a timestamp with {nanoseconds} nanoseconds"));
    }
    Ok(())
}
