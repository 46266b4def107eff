//! The head of an ndarray, [dtype, shape], and whether it fits the elements behind it (SPEC.md 12.1).

use rmpv::ValueRef;

use crate::violation::{broken, Fault, Violation};

const MOST_DIMENSIONS: usize = 64;
const MOST_NESTING: usize = 8;
const UNITS: [&str; 13] = ["Y", "M", "W", "D", "h", "m", "s", "ms", "us", "ns", "ps", "fs", "as"];

/// What an ndarray's bytes say of themselves.
pub struct Layout<'a> {
    pub dtype: ValueRef<'a>,
    pub shape: Vec<usize>,
    /// Where the elements begin.
    pub start: usize,
}

/// Takes the bytes of extension 1 apart.
pub fn read(content: &[u8]) -> Result<Layout<'_>, Violation> {
    let mut rest = content;
    let Ok(head) = rmpv::decode::read_value_ref_with_max_depth(&mut rest, 4 * MOST_NESTING) else {
        return wrong("does not begin with [dtype, shape]");
    };
    let ValueRef::Array(head) = head else {
        return wrong("does not begin with [dtype, shape]");
    };
    let Ok([dtype, shape]) = <[ValueRef<'_>; 2]>::try_from(head) else {
        return wrong("begins with an array that is not [dtype, shape]");
    };
    let itemsize = itemsize(&dtype, 0)?;
    let shape = read_shape(&shape)?;
    let expected = shape.iter().try_fold(itemsize, |product, size| product.checked_mul(*size));
    // A 0 makes it empty, however large the other sizes are.
    let expected = if shape.contains(&0) { Some(0) } else { expected };
    if expected != Some(rest.len()) {
        return wrong(format!("of dtype {dtype} and shape {shape:?} with {} bytes of elements", rest.len()));
    }
    Ok(Layout { dtype, shape, start: content.len() - rest.len() })
}

fn read_shape(shape: &ValueRef<'_>) -> Result<Vec<usize>, Violation> {
    let sizes = match shape {
        ValueRef::Array(sizes) if sizes.len() <= MOST_DIMENSIONS => sizes,
        _ => return wrong(format!("whose shape is not an array of at most {MOST_DIMENSIONS} integers")),
    };
    let read = |size: &ValueRef<'_>| match size {
        ValueRef::Integer(size) => size.as_u64().and_then(|size| usize::try_from(size).ok()),
        _ => None,
    };
    match sizes.iter().map(read).collect() {
        Some(sizes) => Ok(sizes),
        None => wrong("whose shape holds something else than integers from 0"),
    }
}

fn itemsize(dtype: &ValueRef<'_>, depth: usize) -> Result<usize, Violation> {
    let size = match dtype {
        ValueRef::String(name) => name.as_str().and_then(plain_itemsize),
        ValueRef::Array(fields) if !fields.is_empty() && depth < MOST_NESTING => return record_size(fields, depth),
        _ => None,
    };
    match size {
        Some(size) => Ok(size),
        None => wrong(format!("of dtype {dtype}, which is not a little-endian type such as \"<f4\"")),
    }
}

fn record_size(fields: &[ValueRef<'_>], depth: usize) -> Result<usize, Violation> {
    let (mut size, mut names) = (0usize, Vec::new());
    for field in fields {
        let (name, dtype, shape) = match field {
            ValueRef::Array(parts) => match parts.as_slice() {
                [ValueRef::String(name), dtype] => (name.as_str(), dtype, Vec::new()),
                [ValueRef::String(name), dtype, shape] => (name.as_str(), dtype, read_shape(shape)?),
                _ => return wrong("with a field that is not [name, dtype] or [name, dtype, shape]"),
            },
            _ => return wrong("with a field that is not an array"),
        };
        match name {
            Some(name) if !name.is_empty() && !names.contains(&name) => names.push(name),
            _ => return wrong("with fields whose names are empty or the same"),
        }
        let item = itemsize(dtype, depth + 1)?;
        let total = shape.iter().try_fold(item, |product, count| product.checked_mul(*count));
        match total.and_then(|total| size.checked_add(total)) {
            Some(sum) => size = sum,
            None => return wrong("whose elements are too large"),
        }
    }
    if size == 0 {
        return wrong("whose elements have no bytes");
    }
    Ok(size)
}

/// The bytes of one element; none for what is not in the protocol's table.
fn plain_itemsize(dtype: &str) -> Option<usize> {
    let (order, rest) = (dtype.get(..1)?, dtype.get(1..)?);
    let (kind, size) = (rest.get(..1)?, rest.get(1..)?);
    match (order, kind, size) {
        ("|", "b" | "i" | "u", "1") => Some(1),
        ("<", "i" | "u" | "f", "2") => Some(2),
        ("<", "i" | "u" | "f", "4") => Some(4),
        ("<", "i" | "u" | "f", "8") => Some(8),
        ("<", "c", "8") => Some(8),
        ("<", "c", "16") => Some(16),
        ("<", "U", count) => positive(count)?.checked_mul(4),
        ("|", "S" | "V", count) => positive(count),
        ("<", "M" | "m", _) => size.strip_prefix('8').filter(|unit| is_unit(unit)).map(|_| 8),
        _ => None,
    }
}

fn positive(count: &str) -> Option<usize> {
    let plain = count.len() <= 9 && !count.starts_with('0') && count.bytes().all(|byte| byte.is_ascii_digit());
    if plain {
        count.parse().ok()
    } else {
        None
    }
}

fn is_unit(text: &str) -> bool {
    let Some(inner) = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) else {
        return text.is_empty();
    };
    let unit = inner.trim_start_matches(|c: char| c.is_ascii_digit());
    let count = &inner[..inner.len() - unit.len()];
    UNITS.contains(&unit) && (count.is_empty() || positive(count).is_some())
}

fn wrong<T>(what: impl std::fmt::Display) -> Result<T, Violation> {
    broken(Fault::InvalidExtension, format!("an ndarray {what}"))
}
