//! What of the broadcast's outputs operators are told. Pure.

use std::time::Duration;

use crate::control::wire::Event;
use crate::session::broadcast::Output;
use crate::signaling::{Caller, Refusal};

/// What happened; `None` where that is nobody's but the daemon's.
pub(super) fn event(output: &Output) -> Option<Event> {
    let ms = |time: &Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let place = |who: &Caller| (who.at.to_string(), who.name.clone());
    Some(match output {
        Output::Demand { codec, wanted } => Event::Encoder { codec: codec.to_string(), running: *wanted },
        Output::End { .. } => return None,
        Output::Came { number, who, took, watching } => {
            let (at, name) = place(who);
            Event::ViewerConnected { viewer: *number, at, name, took_ms: ms(took), watching: *watching }
        }
        Output::Left { number, who, why, after, watching } => {
            let ((at, name), why) = (place(who), why.to_string());
            Event::ViewerEnded { viewer: *number, at, name, why, after_ms: ms(after), watching: *watching }
        }
        Output::Failed { number, who, why } => {
            let (at, name) = place(who);
            Event::ViewerFailed { viewer: *number, at, name, why: why.to_string() }
        }
    })
}

/// That a viewer was not answered.
pub(super) fn refused(who: &Caller, why: &Refusal) -> Event {
    Event::ViewerRefused { at: who.at.to_string(), name: who.name.clone(), why: why.to_string() }
}
