//! The worker's account of the conversation: which requests are open each way, and how many items each may still pass.
//!
//! It does no I/O and knows no threads: messages in, what they mean out, or what is wrong with them.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use crate::failure::Failure;
use crate::hello::Hello;
use crate::message::{elements, integer, invalid, Message, MAX_ID};
use crate::meta::Meta;
use crate::violation::{broken, Fault, Violation};

/// What a message means for the worker. Ranges are of the message's payload.
#[derive(Debug)]
pub enum Event {
    Hello {
        id: u64,
        hello: Box<Hello>,
    },
    Request {
        id: u64,
        method: String,
        params: Range<usize>,
        meta: Meta,
    },
    Cast {
        method: String,
        params: Range<usize>,
        meta: Meta,
    },
    Answer {
        id: u64,
        error: Option<Failure>,
        result: Range<usize>,
    },
    Cancel(u64),
    Credit,
    /// An item of a streamed argument, and its bytes.
    Input(u64, Vec<u8>),
    InputEnd(u64),
    Stop,
    Ignored,
}

#[derive(PartialEq)]
enum Phase {
    New,
    Greeting,
    Ready,
}

/// One request's streams: how many items may still go, and how many come; none where there is no such stream.
#[derive(Default)]
struct Streams {
    credit: Option<u64>,
    input: Option<u64>,
}

pub struct Session {
    phase: Phase,
    agreed: Option<Hello>,
    open: HashMap<u64, Streams>,
    asked: HashSet<u64>,
    next_id: u64,
}

impl Default for Session {
    fn default() -> Self {
        Self::new()
    }
}

impl Session {
    pub fn new() -> Self {
        Session { phase: Phase::New, agreed: None, open: HashMap::new(), asked: HashSet::new(), next_id: 0 }
    }

    /// Whether both sides have this feature; none before the handshake is done.
    pub fn agrees(&self, feature: &str) -> bool {
        self.phase == Phase::Ready && self.agreed.as_ref().is_some_and(|hello| hello.agrees(feature))
    }

    // What the orchestrator sends.

    pub fn receive(&mut self, message: Message, payload: &[u8]) -> Result<Event, Violation> {
        match message {
            Message::Request { id, method, params, meta } => {
                if self.open.contains_key(&id) {
                    return broken(Fault::DuplicateId, format!("request id {id} is still open"));
                }
                if method == "$/hello" {
                    return self.receive_hello(id, &payload[params]);
                }
                if self.phase != Phase::Ready {
                    return broken(Fault::HandshakeExpected, format!("{method} before the handshake was done"));
                }
                let meta = self.agreed_meta(&payload[meta])?;
                let streams = Streams { credit: meta.credit, input: meta.input.then_some(0) };
                self.open.insert(id, streams);
                Ok(Event::Request { id, method, params, meta })
            }
            Message::Response { id, error, result } => {
                self.check_asked(id, "an answer")?;
                self.asked.remove(&id);
                Ok(Event::Answer { id, error, result })
            }
            Message::Notification { method, params, meta } => {
                if self.phase != Phase::Ready {
                    return broken(Fault::HandshakeExpected, format!("{method} before the handshake was done"));
                }
                if method.starts_with("$/") {
                    return self.receive_control(&method, &payload[params]);
                }
                Ok(Event::Cast { method, params, meta: Meta::parse(&payload[meta])? })
            }
        }
    }

    fn receive_hello(&mut self, id: u64, params: &[u8]) -> Result<Event, Violation> {
        if self.phase != Phase::New {
            return broken(Fault::HandshakeExpected, "a second $/hello");
        }
        let hello = Box::new(Hello::parse(params)?);
        self.phase = Phase::Greeting;
        self.open.insert(id, Streams::default());
        Ok(Event::Hello { id, hello })
    }

    /// Meta without what uses a feature that was not agreed.
    fn agreed_meta(&self, bytes: &[u8]) -> Result<Meta, Violation> {
        let mut meta = Meta::parse(bytes)?;
        meta.credit = meta.credit.filter(|_| self.agrees("stream"));
        meta.batch = meta.batch.filter(|_| self.agrees("batch"));
        meta.input &= self.agrees("input");
        Ok(meta)
    }

    fn receive_control(&mut self, method: &str, params: &[u8]) -> Result<Event, Violation> {
        let params = elements(params).unwrap_or_default();
        let number = |index: usize, least: u64| match params.get(index).and_then(|bytes| integer(bytes)) {
            Some(number) if (least..=MAX_ID).contains(&number) => Ok(number),
            _ => invalid(format!("{method}: its element {index} is an integer from {least}")),
        };
        match method {
            "$/cancel" => Ok(match number(0, 0)? {
                id if self.open.contains_key(&id) => Event::Cancel(id),
                _ => Event::Ignored,
            }),
            "$/credit" => {
                let (id, more) = (number(0, 0)?, number(1, 1)?);
                Ok(match self.open.get_mut(&id).and_then(|streams| streams.credit.as_mut()) {
                    Some(credit) => {
                        *credit = credit.saturating_add(more);
                        Event::Credit
                    }
                    None => Event::Ignored,
                })
            }
            "$/input" => match params.get(1) {
                Some(item) => self.receive_input(number(0, 0)?, item),
                None => invalid("$/input is [id, value]"),
            },
            "$/input_end" => {
                let id = number(0, 0)?;
                let ended = self.open.get_mut(&id).and_then(|streams| streams.input.take());
                Ok(ended.map_or(Event::Ignored, |_| Event::InputEnd(id)))
            }
            "$/item" => {
                let id = number(0, 0)?;
                self.check_asked(id, "an item")?;
                broken(Fault::CreditExceeded, format!("an item for request {id}, which asked for no stream"))
            }
            "$/stop" => match params.first().map(|reason| reason[0]) {
                None | Some(0xa0..=0xbf | 0xc0 | 0xc4..=0xc6 | 0xd9..=0xdb) => Ok(Event::Stop),
                Some(_) => invalid("the reason in $/stop is a string"),
            },
            _ => Ok(Event::Ignored),
        }
    }

    fn receive_input(&mut self, id: u64, item: &[u8]) -> Result<Event, Violation> {
        let Some(streams) = self.open.get_mut(&id) else {
            return Ok(Event::Ignored); // it crossed the answer
        };
        match streams.input.as_mut() {
            Some(left) if *left > 0 => {
                *left -= 1;
                Ok(Event::Input(id, item.to_vec()))
            }
            _ => {
                broken(Fault::CreditExceeded, format!("an item of request {id}'s streamed argument beyond its credit"))
            }
        }
    }

    fn check_asked(&self, id: u64, what: &str) -> Result<(), Violation> {
        if self.asked.contains(&id) {
            Ok(())
        } else if id < self.next_id {
            broken(Fault::AnsweredTwice, format!("{what} for request {id}, which was answered already"))
        } else {
            broken(Fault::UnknownId, format!("{what} for request {id}, which was never made"))
        }
    }

    // What the worker sends.

    /// The handshake is done: `$/hello` is being answered.
    pub fn greeted(&mut self, id: u64, hello: Hello) {
        self.open.remove(&id);
        self.agreed = Some(hello);
        self.phase = Phase::Ready;
    }

    /// A request is being answered. Whether it was open.
    pub fn answered(&mut self, id: u64) -> bool {
        self.open.remove(&id).is_some()
    }

    /// Uses up the credit for one item. Whether there was any.
    pub fn use_credit(&mut self, id: u64) -> bool {
        match self.open.get_mut(&id).and_then(|streams| streams.credit.as_mut()) {
            Some(credit) if *credit > 0 => {
                *credit -= 1;
                true
            }
            _ => false,
        }
    }

    /// Lets so many more items of a streamed argument come. Whether it has not ended yet, so that this can be sent.
    pub fn give_input_credit(&mut self, id: u64, more: u64) -> bool {
        match self.open.get_mut(&id).and_then(|streams| streams.input.as_mut()) {
            Some(left) => {
                *left += more;
                true
            }
            None => false,
        }
    }

    /// The id for a request of the worker's own; none before the handshake is done.
    pub fn ask(&mut self) -> Option<u64> {
        if self.phase != Phase::Ready {
            return None;
        }
        let id = self.next_id;
        self.next_id += 1;
        self.asked.insert(id);
        Some(id)
    }
}
