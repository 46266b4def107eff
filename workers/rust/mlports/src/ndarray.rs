//! `NdArray`: arrays of numbers as one block of bytes, numpy's on the other side.

use std::fmt;

use rmp::encode::{write_array_len, write_str, write_uint};
use rmpv::Value;
use serde::de::{self, Deserialize, Deserializer, SeqAccess, Visitor};
use serde::ser::{Serialize, Serializer};
use serde_bytes::{ByteBuf, Bytes};

use crate::failure::{Code, Failure};
use crate::layout;
use crate::scan::NDARRAY;

const EXTENSION: &str = rmp_serde::MSGPACK_EXT_STRUCT_NAME;

/// An n-dimensional array: a dtype as numpy writes it (`<f4`), a shape, and the elements' bytes, little-endian and
/// row-major.
///
/// As an argument it takes nested lists of numbers too, and makes them `<f8`.
#[derive(Clone, PartialEq)]
pub struct NdArray {
    content: Vec<u8>, // [dtype, shape] as MessagePack, and the elements: what travels
    start: usize,
    dtype: Value,
    shape: Vec<usize>,
}

/// A number that arrays can hold.
pub trait Element: Copy {
    /// Its name in arrays, such as `<f8`.
    const DTYPE: &'static str;
    fn put(self, out: &mut Vec<u8>);
    fn get(bytes: &[u8]) -> Self;
}

macro_rules! elements {
    ($($kind:ty = $name:literal),*) => {$(
        impl Element for $kind {
            const DTYPE: &'static str = $name;
            fn put(self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
            fn get(bytes: &[u8]) -> Self {
                let mut exact = [0; size_of::<$kind>()];
                exact.copy_from_slice(bytes);
                <$kind>::from_le_bytes(exact)
            }
        }
    )*};
}

elements!(f32 = "<f4", f64 = "<f8", i8 = "|i1", i16 = "<i2", i32 = "<i4", i64 = "<i8");
elements!(u8 = "|u1", u16 = "<u2", u32 = "<u4", u64 = "<u8");

impl NdArray {
    /// An array of these elements. An error when there are not as many as the shape says.
    pub fn new<T: Element>(shape: &[usize], elements: &[T]) -> Result<Self, Failure> {
        let mut bytes = Vec::with_capacity(size_of_val(elements));
        elements.iter().for_each(|element| element.put(&mut bytes));
        Self::from_bytes(T::DTYPE, shape, &bytes)
    }

    /// An array of any plain dtype, by its elements' bytes. An error when dtype, shape and bytes do not agree.
    pub fn from_bytes(dtype: &str, shape: &[usize], bytes: &[u8]) -> Result<Self, Failure> {
        let mut content = Vec::with_capacity(64 + bytes.len());
        let head = (|| {
            write_array_len(&mut content, 2)?;
            write_str(&mut content, dtype)?;
            write_array_len(&mut content, shape.len() as u32)?;
            shape.iter().try_for_each(|size| write_uint(&mut content, *size as u64).map(drop))
        })();
        if head.is_err() {
            return Err(Failure::new(Code::Internal, "an ndarray's dtype and shape could not be written"));
        }
        content.extend_from_slice(bytes);
        Self::from_content(content).map_err(|reason| Failure::new(Code::InvalidArgument, reason))
    }

    fn from_content(content: Vec<u8>) -> Result<Self, String> {
        let layout = layout::read(&content).map_err(|violation| violation.reason)?;
        let (dtype, shape, start) = (layout.dtype.to_owned(), layout.shape, layout.start);
        Ok(NdArray { content, start, dtype, shape })
    }

    /// The dtype as numpy writes it; for records, their fields as text.
    pub fn dtype(&self) -> String {
        self.dtype.as_str().map_or_else(|| self.dtype.to_string(), str::to_owned)
    }

    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The elements: little-endian, the last index running fastest. Nothing is aligned.
    pub fn bytes(&self) -> &[u8] {
        &self.content[self.start..]
    }

    /// The elements of an array of exactly this type; `invalid_argument` for another.
    pub fn to_vec<T: Element>(&self) -> Result<Vec<T>, Failure> {
        if self.dtype.as_str() != Some(T::DTYPE) {
            return Err(self.refused(&format!("{} is needed", T::DTYPE)));
        }
        Ok(self.elements())
    }

    /// The elements of an array of any real numbers or booleans, as `f64`; `invalid_argument` for others.
    pub fn to_f64(&self) -> Result<Vec<f64>, Failure> {
        Ok(match self.dtype.as_str().unwrap_or_default() {
            "<f8" => self.elements(),
            "<f4" => self.converted::<f32, _>(f64::from),
            "<f2" => self.converted::<u16, _>(half),
            "|i1" => self.converted::<i8, _>(f64::from),
            "<i2" => self.converted::<i16, _>(f64::from),
            "<i4" => self.converted::<i32, _>(f64::from),
            "<i8" => self.converted::<i64, _>(|number| number as f64),
            "|u1" | "|b1" => self.converted::<u8, _>(f64::from),
            "<u2" => self.converted::<u16, _>(f64::from),
            "<u4" => self.converted::<u32, _>(f64::from),
            "<u8" => self.converted::<u64, _>(|number| number as f64),
            _ => return Err(self.refused("real numbers are needed")),
        })
    }

    /// As `to_f64`, rounded to `f32`.
    pub fn to_f32(&self) -> Result<Vec<f32>, Failure> {
        match self.dtype.as_str() {
            Some("<f4") => Ok(self.elements()),
            _ => Ok(self.to_f64()?.into_iter().map(|number| number as f32).collect()),
        }
    }

    fn elements<T: Element>(&self) -> Vec<T> {
        self.converted(|element: T| element)
    }

    fn converted<T: Element, U>(&self, convert: impl Fn(T) -> U) -> Vec<U> {
        self.bytes().chunks_exact(size_of::<T>()).map(|bytes| convert(T::get(bytes))).collect()
    }

    fn refused(&self, needed: &str) -> Failure {
        let text = format!("an ndarray of dtype {} and shape {:?}: {needed}", self.dtype(), self.shape);
        Failure::new(Code::InvalidArgument, text)
    }
}

impl fmt::Debug for NdArray {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NdArray({}, {:?})", self.dtype(), self.shape)
    }
}

impl Serialize for NdArray {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_newtype_struct(EXTENSION, &(NDARRAY, Bytes::new(&self.content)))
    }
}

impl<'de> Deserialize<'de> for NdArray {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ArrayVisitor)
    }
}

struct ArrayVisitor;

impl<'de> Visitor<'de> for ArrayVisitor {
    type Value = NdArray;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an ndarray or nested lists of numbers")
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<NdArray, D::Error> {
        match <(i8, ByteBuf)>::deserialize(deserializer)? {
            (NDARRAY, content) => NdArray::from_content(content.into_vec()).map_err(de::Error::custom),
            (code, _) => Err(de::Error::custom(format!("extension {code} where an ndarray is needed"))),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, rows: A) -> Result<NdArray, A::Error> {
        let mut nested = Nested::default();
        RowsVisitor { nested: &mut nested, axis: 0 }.visit_seq(rows)?;
        NdArray::new(&nested.shape, &nested.elements).map_err(|failure| de::Error::custom(failure.message))
    }
}

/// Nested lists of numbers while they are read: the shape is what the first row of each level says.
#[derive(Default)]
struct Nested {
    elements: Vec<f64>,
    shape: Vec<usize>,
    leaves: Option<usize>, // how deep the numbers lie
}

struct RowsVisitor<'a> {
    nested: &'a mut Nested,
    axis: usize,
}

impl<'de> de::DeserializeSeed<'de> for RowsVisitor<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for RowsVisitor<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number or a list of numbers")
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<(), E> {
        if *self.nested.leaves.get_or_insert(self.axis) != self.axis || self.nested.shape.len() > self.axis {
            return Err(E::custom("lists of numbers that are nested unevenly"));
        }
        self.nested.elements.push(number);
        Ok(())
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<(), E> {
        self.visit_f64(number as f64)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<(), E> {
        self.visit_f64(number as f64)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut rows: A) -> Result<(), A::Error> {
        let (nested, axis) = (self.nested, self.axis);
        if nested.leaves.is_some_and(|leaves| leaves <= axis) {
            return Err(de::Error::custom("lists of numbers that are nested unevenly"));
        }
        let first = nested.shape.len() == axis;
        if first {
            nested.shape.push(0);
        }
        let mut count = 0;
        while rows.next_element_seed(RowsVisitor { nested: &mut *nested, axis: axis + 1 })?.is_some() {
            count += 1;
        }
        if first {
            nested.shape[axis] = count;
        }
        if nested.shape[axis] != count {
            return Err(de::Error::custom("lists of numbers that are not equally long"));
        }
        Ok(())
    }
}

/// An IEEE 754 number of 16 bits.
fn half(bits: u16) -> f64 {
    let sign = if bits & 0x8000 == 0 { 1.0 } else { -1.0 };
    let (exponent, fraction) = (i32::from(bits >> 10 & 0x1f), f64::from(bits & 0x3ff));
    sign * match exponent {
        0 => fraction * 2f64.powi(-24),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (1024.0 + fraction) * 2f64.powi(exponent - 25),
    }
}

#[cfg(feature = "ndarray")]
mod conversions {
    use ndarray::{ArrayBase, ArrayD, Data, Dimension};

    use super::{Element, Failure, NdArray};
    use crate::failure::Code;

    impl NdArray {
        /// As an array of the crate `ndarray`; `invalid_argument` when its dtype is another.
        pub fn to_ndarray<T: Element>(&self) -> Result<ArrayD<T>, Failure> {
            ArrayD::from_shape_vec(self.shape.clone(), self.to_vec()?)
                .map_err(|error| Failure::new(Code::InvalidArgument, error.to_string()))
        }
    }

    impl<T: Element, S: Data<Elem = T>, D: Dimension> From<&ArrayBase<S, D>> for NdArray {
        fn from(array: &ArrayBase<S, D>) -> Self {
            let elements: Vec<T> = array.iter().copied().collect();
            NdArray::new(array.shape(), &elements).expect("as many elements as the shape says")
        }
    }
}
