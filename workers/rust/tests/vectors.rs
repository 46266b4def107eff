//! The protocol's vectors: what each stream of bytes must give, and how each conversation must end.

use std::path::Path;

use rmpv::Value;
use serde_json::Value as Json;

use crate::encode::{append, append_plain, Place};
use crate::frame::{append_frame, FrameDecoder, DEFAULT_MAX_FRAME};
use crate::layout;
use crate::message::Message;
use crate::scan::Rules;
use crate::session::{Event, Session};
use crate::violation::{Fault, Violation};

const RULES: Rules = Rules { ndarray: true, sending: false };

fn vectors(file: &str, key: &str) -> Vec<Json> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../protocol/vectors").join(file);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut reader = serde_json::Deserializer::from_str(&text);
    reader.disable_recursion_limit(); // one of them is nested 128 deep
    let all: Json = serde::Deserialize::deserialize(&mut reader).expect("the vectors are JSON");
    all[key].as_array().expect("a list of vectors").clone()
}

fn bytes_of(hex: &str) -> Vec<u8> {
    (0..hex.len() / 2).map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).expect("hex")).collect()
}

/// The value that a vector writes as JSON.
fn value_of(json: &Json) -> Value {
    let tagged = match json {
        Json::Object(tagged) => tagged.iter().next().expect("a tag"),
        Json::Array(items) => return Value::Array(items.iter().map(value_of).collect()),
        Json::Number(number) => return number.as_u64().map_or_else(|| number.as_i64().unwrap().into(), Value::from),
        Json::String(text) => return text.as_str().into(),
        Json::Bool(truth) => return (*truth).into(),
        Json::Null => return Value::Nil,
    };
    let text = tagged.1.as_str().unwrap_or_default();
    match tagged.0.as_str() {
        "int" => text.parse::<u64>().map_or_else(|_| text.parse::<i64>().unwrap().into(), Value::from),
        "float" => text.parse::<f64>().unwrap().into(),
        "bin" => bytes_of(text).into(),
        "map" => {
            let pairs = tagged.1.as_array().unwrap().iter();
            Value::Map(pairs.map(|pair| (value_of(&pair[0]), value_of(&pair[1]))).collect())
        }
        "ext" => Value::Ext(tagged.1[0].as_i64().unwrap() as i8, bytes_of(tagged.1[1].as_str().unwrap())),
        "timestamp" => Value::Ext(-1, timestamp(tagged.1[0].as_i64().unwrap(), tagged.1[1].as_u64().unwrap() as u32)),
        "ndarray" => Value::Ext(1, array(tagged.1)),
        tag => panic!("a tag {tag:?}, which this test does not know"),
    }
}

fn timestamp(seconds: i64, nanoseconds: u32) -> Vec<u8> {
    match u64::try_from(seconds) {
        Ok(seconds) if nanoseconds == 0 && seconds < 1 << 32 => (seconds as u32).to_be_bytes().to_vec(),
        Ok(seconds) if seconds < 1 << 34 => (u64::from(nanoseconds) << 34 | seconds).to_be_bytes().to_vec(),
        _ => [&nanoseconds.to_be_bytes()[..], &seconds.to_be_bytes()].concat(),
    }
}

fn array(json: &Json) -> Vec<u8> {
    let mut content = Vec::new();
    append_plain(&mut content, &Value::Array(vec![value_of(&json["dtype"]), value_of(&json["shape"])])).unwrap();
    content.extend(bytes_of(json["hex"].as_str().unwrap()));
    content
}

/// A message as the array that it travels as.
fn message_of(json: &Json) -> Value {
    let field = |name: &str| value_of(&json[name]);
    let mut parts = match json["type"].as_str().unwrap() {
        "request" => vec![0.into(), field("id"), field("method"), field("params")],
        "response" => vec![1.into(), field("id"), field("error"), field("result")],
        _ => vec![2.into(), field("method"), field("params")],
    };
    parts.extend(Some(field("meta")).filter(|meta| !meta.is_nil()));
    Value::Array(parts)
}

/// Everything in a stream that is fed in pieces of this size.
fn decode(vector: &Json, piece: usize) -> (Vec<Vec<u8>>, Option<Violation>) {
    let stream = bytes_of(vector["hex"].as_str().unwrap());
    let mut decoder = FrameDecoder::new(vector["max_frame"].as_u64().map_or(DEFAULT_MAX_FRAME, |size| size as usize));
    let mut payloads = Vec::new();
    for mut piece in stream.chunks(piece) {
        while !piece.is_empty() {
            decoder.read_from(&mut piece).unwrap();
        }
        if let Err(violation) = take(&mut decoder, &mut payloads) {
            return (payloads, Some(violation));
        }
    }
    let cut = if vector["eof"] == true { decoder.finish().err() } else { None };
    (payloads, cut)
}

fn take(decoder: &mut FrameDecoder, payloads: &mut Vec<Vec<u8>>) -> Result<(), Violation> {
    while let Some(frame) = decoder.next_frame()? {
        let payload = decoder.payload(frame);
        Message::parse(payload, RULES)?;
        payloads.push(payload.to_vec());
    }
    Ok(())
}

/// Whether a payload is this message: its first elements, and meta, are equal, where a bin may stand for a string.
fn is_message(payload: &[u8], expected: &Json) -> bool {
    let Ok(Value::Array(mut found)) = rmpv::decode::read_value(&mut &payload[..]) else { return false };
    let Value::Array(mut wanted) = message_of(expected) else { return false };
    let most = if expected["type"] == "notification" { 4 } else { 5 };
    found.truncate(most);
    wanted.resize(most, Value::Nil);
    found.resize(most, Value::Nil);
    if matches!(&found[most - 1], Value::Map(pairs) if pairs.is_empty()) {
        found[most - 1] = Value::Nil;
    }
    found.iter().zip(&wanted).all(|(found, wanted)| same(found, wanted))
}

fn same(found: &Value, wanted: &Value) -> bool {
    match (found, wanted) {
        (Value::F32(found), Value::F64(wanted)) => f64::from(*found) == *wanted,
        (Value::F64(found), Value::F64(wanted)) => {
            found.to_bits() == wanted.to_bits() || found.is_nan() && wanted.is_nan()
        }
        (Value::Binary(found), Value::String(wanted)) => found == wanted.as_bytes(),
        (Value::Array(found), Value::Array(wanted)) => {
            found.len() == wanted.len() && found.iter().zip(wanted).all(|(found, wanted)| same(found, wanted))
        }
        (Value::Map(found), Value::Map(wanted)) => {
            let equal = |((a, b), (c, d)): (&(Value, Value), &(Value, Value))| same(a, c) && same(b, d);
            found.len() == wanted.len() && found.iter().zip(wanted).all(equal)
        }
        (Value::Ext(1, found), Value::Ext(1, wanted)) => {
            let (a, b) = (layout::read(found).unwrap(), layout::read(wanted).unwrap());
            a.dtype == b.dtype && a.shape == b.shape && found[a.start..] == wanted[b.start..]
        }
        _ => found == wanted,
    }
}

#[test]
fn streams_of_bytes_give_what_the_vectors_say() {
    let mut tried = 0;
    for vector in vectors("frames.json", "vectors").iter().filter(|vector| vector["segments"].is_null()) {
        for piece in [1, 3, usize::MAX] {
            let name = &vector["name"];
            let (payloads, fault) = decode(vector, piece);
            // What was printed is the other side's affair: a worker's input is nobody's standard output.
            let expected = vector["error"].as_str().map(|name| name.replace("StdoutPolluted", "FrameTooLarge"));
            assert_eq!(fault.as_ref().map(|fault| format!("{:?}", fault.fault)), expected, "{name}: {fault:?}");
            let none = Vec::new();
            let messages = vector["messages"].as_array().unwrap_or(&none);
            assert_eq!(payloads.len(), messages.len(), "{name}");
            for (payload, message) in payloads.iter().zip(messages) {
                assert!(is_message(payload, message), "{name}: {payload:02x?} is not {message}");
            }
        }
        tried += 1;
    }
    assert!(tried > 200, "only {tried} vectors were found");
}

#[test]
fn messages_are_encoded_as_the_vectors_say() {
    let mut tried = 0;
    for vector in vectors("frames.json", "vectors").iter().filter(|vector| vector["encode"] == true) {
        let mut stream = Vec::new();
        for message in vector["messages"].as_array().unwrap() {
            let place = Place { ndarray: true, depth: 0 };
            append_frame(&mut stream, |out| append(out, &message_of(message), place)).unwrap();
        }
        assert_eq!(stream, bytes_of(vector["hex"].as_str().unwrap()), "{}", vector["name"]);
        tried += 1;
    }
    assert!(tried > 100, "only {tried} vectors were found");
}

/// The worker's side of a conversation.
#[derive(Default)]
struct Conversation {
    session: Session,
    hello: Option<crate::hello::Hello>,
    unexpected: Option<String>,
}

impl Conversation {
    fn receive(&mut self, payload: &[u8], ignored: bool) -> Result<(), Violation> {
        let rules = Rules { ndarray: self.session.agrees("ndarray"), sending: false };
        let event = self.session.receive(Message::parse(payload, rules)?, payload)?;
        if ignored != matches!(event, Event::Ignored) {
            self.unexpected = Some(format!("{event:?}"));
        }
        if let Event::Hello { hello, .. } = event {
            self.hello = Some(*hello);
        }
        Ok(())
    }

    /// What the worker says, which its account must allow.
    fn send(&mut self, message: &Json) {
        let session = &mut self.session;
        let (first, second) = (message["params"][0].as_u64(), message["params"][1].as_u64());
        let allowed = match (message["type"].as_str().unwrap(), message["method"].as_str().unwrap_or_default()) {
            ("response", _) => match self.hello.take() {
                Some(hello) => {
                    session.greeted(message["id"].as_u64().unwrap(), hello);
                    true
                }
                None => session.answered(message["id"].as_u64().unwrap()),
            },
            ("request", _) => session.ask() == message["id"].as_u64(),
            (_, "$/item") => session.use_credit(first.unwrap()),
            (_, "$/input_credit") => session.give_input_credit(first.unwrap(), second.unwrap()),
            _ => true,
        };
        assert!(allowed, "the worker may say {message}");
    }
}

#[test]
fn conversations_end_as_the_vectors_say() {
    let mut tried = 0;
    for vector in vectors("sessions.json", "conversations").iter().filter(|vector| vector["side"] != "orchestrator") {
        let name = vector["name"].as_str().unwrap();
        if name == "stream-from-another-service" {
            continue; // this SDK's own calls ask for no streams
        }
        let mut conversation = Conversation::default();
        let mut fault = None;
        for step in vector["steps"].as_array().unwrap() {
            if step["from"] == "worker" {
                conversation.send(&step["message"]);
                continue;
            }
            assert!(fault.is_none(), "{name}: {fault:?} came too early");
            let mut payload = Vec::new();
            append_plain(&mut payload, &message_of(&step["message"])).unwrap();
            fault = conversation.receive(&payload, step["ignored"] == true).err();
        }
        let outcome = fault.as_ref().map_or("ok".to_owned(), |fault| format!("{:?}", fault.fault));
        assert_eq!(outcome, vector["outcome"].as_str().unwrap(), "{name}: {fault:?}");
        assert_eq!(conversation.unexpected, None, "{name}");
        tried += 1;
    }
    assert!(tried > 50, "only {tried} conversations were found");
}

#[test]
fn what_cannot_be_sent_is_refused_and_leaves_nothing() {
    let place = Place { ndarray: false, depth: 1 };
    let nested = (0..130).fold(Value::Nil, |inner, _| Value::Array(vec![inner]));
    let float_key = Value::Map(vec![(1.5.into(), Value::Nil)]);
    for value in [
        nested,
        float_key,
        Value::Ext(5, vec![0]),
        Value::Ext(
            1,
            array(&serde_json::json!({
                "dtype": "|u1", "shape": [1], "hex": "00"
            })),
        ),
    ] {
        let mut out = vec![7];
        let failure = append(&mut out, &value, place).expect_err("it must not be sent");
        assert_eq!(failure.code.as_str(), "internal");
        assert_eq!(out, [7]);
    }
}

#[test]
fn a_violation_is_named_as_in_the_specification() {
    assert_eq!(Violation::new(Fault::EmptyFrame, "why").to_string(), "EmptyFrame: why");
}
