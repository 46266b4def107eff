//! Arguments, arrays and credit, without a connection.

use rmpv::Value;

use crate::arguments::Arguments;
use crate::credit::Window;
use crate::encode::params;
use crate::{from_value, to_value, NdArray};

fn read<A: Arguments>(given: impl serde::Serialize) -> Result<A, String> {
    A::from_params(&params(given, true).unwrap()).map_err(|failure| format!("{failure}"))
}

#[test]
fn arguments_are_what_serde_can_make_of_them() {
    assert_eq!(read::<(f64, String)>((2, "x")), Ok((2.0, "x".to_owned())));
    assert_eq!(read::<(i64, Option<bool>)>((-1,)), Ok((-1, None)));
    assert_eq!(read::<()>(()), Ok(()));
    assert_eq!(read::<Vec<Value>>((1, "x")), Ok(vec![1.into(), "x".into()]));
    assert_eq!(read::<((f64, f64), u8)>(((1, 2), 3)), Ok(((1.0, 2.0), 3)));
}

#[test]
fn wrong_arguments_are_told() {
    let told = |outcome: Result<(i64, i64), String>| outcome.unwrap_err();
    assert_eq!(told(read((1,))), "invalid_argument: argument 2: it is missing");
    assert_eq!(told(read((1, 2, 3))), "invalid_argument: 3 arguments were given, and it takes 2");
    assert!(told(read((1, 2.5))).starts_with("invalid_argument: argument 2: invalid type: floating point"));
    assert_eq!(told(read(("x", 1))), "invalid_argument: argument 1: i64 is needed, not a string");
    assert_eq!(told(read((vec![1; 20], 1))), "invalid_argument: argument 1: i64 is needed, not a list");
    assert!(read::<((f64, f64), u8)>(((1, 2, 3), 3)).is_err());
}

#[test]
fn arrays_give_their_numbers() {
    let array = NdArray::new(&[2, 2], &[1.5f32, -2.0, 3.0, 4.0]).unwrap();
    assert_eq!((array.dtype().as_str(), array.shape(), array.bytes().len()), ("<f4", &[2, 2][..], 16));
    assert_eq!(array.to_f64().unwrap(), [1.5, -2.0, 3.0, 4.0]);
    assert_eq!(array.to_vec::<f32>().unwrap(), [1.5, -2.0, 3.0, 4.0]);
    assert!(array.to_vec::<f64>().is_err());
    assert!(NdArray::new(&[3], &[1u8]).is_err());
}

#[test]
fn numbers_of_16_bits_are_read() {
    let bits: [u16; 7] = [0x3c00, 0xc000, 0x7bff, 0x0001, 0x0400, 0xfc00, 0x8000];
    let bytes: Vec<u8> = bits.iter().flat_map(|bits| bits.to_le_bytes()).collect();
    let numbers = NdArray::from_bytes("<f2", &[7], &bytes).unwrap().to_f64().unwrap();
    let expected = [1.0, -2.0, 65504.0, 2f64.powi(-24), 2f64.powi(-14), f64::NEG_INFINITY, -0.0];
    assert_eq!(numbers, expected);
}

#[test]
fn arrays_go_through_values_and_come_from_lists() {
    let array = NdArray::new(&[3], &[1i64, 2, 3]).unwrap();
    assert_eq!(from_value::<NdArray>(to_value(&array).unwrap()).unwrap(), array);
    let (read_back,) = read::<(NdArray,)>((&array,)).unwrap();
    assert_eq!(read_back, array);
    let (nested,) = read::<(NdArray,)>((vec![vec![1.0, 2.0], vec![3.0, 4.0], vec![5.0, 6.0]],)).unwrap();
    assert_eq!((nested.dtype().as_str(), nested.shape()), ("<f8", &[3, 2][..]));
    assert_eq!(nested.to_f64().unwrap(), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let nested = from_value::<NdArray>(to_value(vec![[1, 2], [3, 4]]).unwrap()).unwrap();
    assert_eq!((nested.shape(), nested.to_f64().unwrap()), (&[2, 2][..], vec![1.0, 2.0, 3.0, 4.0]));
    assert!(read::<(NdArray,)>((vec![vec![1.0], vec![2.0, 3.0]],)).is_err());
    assert!(read::<(NdArray,)>(((1.0, vec![2.0]),)).is_err());
    assert!(read::<(NdArray,)>(((vec![1.0], 2.0),)).is_err());
}

#[test]
fn credit_keeps_to_its_window() {
    let mut window = Window::default();
    assert_eq!((window.grant(), window.grant()), (2, 0));
    window.arrived(100);
    window.taken(100);
    assert_eq!(window.grant(), 31); // one is still coming
    let mut large = Window::default();
    large.grant();
    for _ in 0..2 {
        large.arrived(16 << 20);
    }
    assert_eq!(large.grant(), 0);
    large.taken(16 << 20);
    large.taken(16 << 20);
    assert_eq!((large.grant(), large.grant()), (1, 0));
}
