//! Streamed arguments, as handlers iterate over them.

use std::marker::PhantomData;

use serde::de::DeserializeOwned;

use crate::context::Context;
use crate::failure::{Code, Failure};
use crate::link::State;

/// The items of a streamed argument, in order. Nothing is let come before the first is asked for, and then at most
/// 32 items or 8 MiB ahead.
///
/// An item that is not a `T` is `invalid_argument`; a wait for an item that ends with the call fails as the call does.
/// Behind an error comes nothing more.
pub struct Input<T> {
    context: Context,
    over: bool,
    items: PhantomData<fn() -> T>,
}

enum Came {
    Item(Vec<u8>),
    End,
    Nothing,
}

impl<T> Input<T> {
    pub(crate) fn new(context: Context) -> Self {
        Input { context, over: false, items: PhantomData }
    }

    fn next_bytes(&self) -> Result<Option<Vec<u8>>, Failure> {
        let call = &self.context.call;
        let Some(id) = call.id else { return Err(cut()) };
        loop {
            let found = self.context.link.wait_for(call.deadline, |state| {
                call.check()?;
                look(state, id)
            })?;
            let Some((came, more)) = found else {
                call.check()?;
                continue;
            };
            if more > 0 {
                self.context.link.notify("$/input_credit", (id, more))?;
            }
            match came {
                Came::Item(item) => return Ok(Some(item)),
                Came::End => return Ok(None),
                Came::Nothing => {}
            }
        }
    }
}

impl<T: DeserializeOwned> Iterator for Input<T> {
    type Item = Result<T, Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.over {
            return None;
        }
        let item = match self.next_bytes() {
            Ok(None) => None,
            Ok(Some(bytes)) => Some(rmp_serde::from_slice(&bytes).map_err(|reason| {
                Failure::new(Code::InvalidArgument, format!("an item of the streamed argument: {reason}"))
            })),
            Err(failure) => Some(Err(failure)),
        };
        self.over = !matches!(item, Some(Ok(_)));
        item
    }
}

/// What there is for the handler, and how many more items may come because of it; none to wait.
fn look(state: &mut State, id: u64) -> Result<Option<(Came, u64)>, Failure> {
    let Some(inbox) = state.inboxes.get_mut(&id) else { return Err(cut()) };
    let came = match inbox.items.pop_front() {
        Some(item) => {
            inbox.window.taken(item.len());
            Came::Item(item)
        }
        None if inbox.ended => return Ok(Some((Came::End, 0))),
        None if state.ended => {
            let text = "the orchestrator went away within the streamed argument";
            return Err(Failure::new(Code::Unavailable, text));
        }
        None => Came::Nothing,
    };
    let wanted = if inbox.ended { 0 } else { inbox.window.grant() };
    let more = if state.session.give_input_credit(id, wanted) { wanted } else { 0 };
    match came {
        Came::Nothing if more == 0 => Ok(None),
        came => Ok(Some((came, more))),
    }
}

fn cut() -> Failure {
    Failure::new(Code::FailedPrecondition, "there is no streamed argument: the call has none, or was answered")
}
