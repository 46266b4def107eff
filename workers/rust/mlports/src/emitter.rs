//! Streamed answers: items go out as the caller's credit allows.

use serde::Serialize;

use crate::context::Context;
use crate::encode::{append, append_array_len, Place};
use crate::failure::{Code, Failure};

/// Where a streaming handler puts its items.
pub struct Emitter<'a> {
    context: &'a Context,
    to: To,
}

enum To {
    /// A caller that gives credit, and the request's id.
    Stream(u64),
    /// A caller that wants all items as one array, or a cast's nobody.
    List { bytes: Vec<u8>, count: usize },
}

impl<'a> Emitter<'a> {
    pub(crate) fn new(context: &'a Context) -> Self {
        let to = match (context.call.id, context.call.meta.credit) {
            (Some(id), Some(_)) => To::Stream(id),
            _ => To::List { bytes: Vec::new(), count: 0 },
        };
        Emitter { context, to }
    }

    /// Sends an item; waits while the caller takes no more. Fails when the call was cancelled or its deadline passed,
    /// and when the item cannot be sent: pass that on with `?`.
    pub fn send<T: Serialize>(&mut self, item: T) -> Result<(), Failure> {
        self.context.check()?;
        let ndarray = self.context.takes_arrays();
        match &mut self.to {
            To::List { bytes, count } => {
                append(bytes, &item, Place { ndarray, depth: 4 })?;
                *count += 1;
                Ok(())
            }
            To::Stream(id) => {
                let id = *id;
                let mut bytes = Vec::new();
                append(&mut bytes, &item, Place { ndarray, depth: 2 })?;
                self.context.link.check_size(bytes.len() + 24)?; // what is around it takes no more
                self.wait_for_credit(id)?;
                self.context.link.send_item(id, &bytes);
                Ok(())
            }
        }
    }

    fn wait_for_credit(&self, id: u64) -> Result<(), Failure> {
        let call = &self.context.call;
        let given = self.context.link.wait_for(call.deadline, |state| {
            call.check()?;
            if state.ended {
                return Err(Failure::new(Code::Unavailable, "the orchestrator went away within the stream"));
            }
            Ok(state.session.use_credit(id).then_some(()))
        })?;
        match given {
            Some(()) => Ok(()),
            None => call.check(),
        }
    }

    /// All the items as an array, where the caller did not ask for a stream.
    pub(crate) fn collected(self) -> Option<Vec<u8>> {
        match self.to {
            To::Stream(_) => None,
            To::List { bytes, count } => {
                let mut array = Vec::with_capacity(bytes.len() + 5);
                append_array_len(&mut array, count);
                array.extend_from_slice(&bytes);
                Some(array)
            }
        }
    }
}
