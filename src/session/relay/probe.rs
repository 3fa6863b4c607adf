//! What a STUN server sees of this machine's address, asked again and again (RFC 8489, section 7.1): it keeps a NAT's binding, and shows that the server is there.

use std::time::{Duration, Instant};

use super::request::{Due, Request};
use super::wire::{BINDING, Class, Message, Writer, attribute};
use super::{Draw, Event, Lost};

/// Time between two questions: NATs keep UDP bindings for half a minute and more (RFC 4787, section 4.3; RFC 8445, section 11).
pub const PAUSE: Duration = Duration::from_secs(20);

/// The questions to one server, none of them signed.
#[derive(Debug)]
pub struct Probe {
    draw: Draw,
    on_stream: bool,
    asked: Option<Request>,
    next: Instant,
}

impl Probe {
    /// Makes a probe that asks first at `first`.
    pub fn new(first: Instant, on_stream: bool, draw: Draw) -> Self {
        Self { draw, on_stream, asked: None, next: first }
    }

    /// Takes a message; `None` where it is no answer to this, else what is new: any answer shows that the server is there.
    pub fn handle_message(&mut self, now: Instant, message: &Message<'_>) -> Option<Option<Event>> {
        let answers = message.method == BINDING && matches!(message.class, Class::Success | Class::Error);
        self.asked.take_if(|asked| answers && message.is_of(&asked.transaction))?;
        self.next = now + PAUSE;
        let seen = message.address(attribute::XOR_MAPPED_ADDRESS).filter(|_| message.class == Class::Success);
        Some(seen.map(Event::Seen))
    }

    /// What is to be sent now, or that no answer came.
    ///
    /// # Errors
    /// Where the server does not answer.
    pub fn handle_timeout(&mut self, now: Instant) -> Result<Option<Vec<u8>>, Lost> {
        match self.asked.as_mut().map(|asked| (asked.handle_timeout(now), asked)) {
            Some((Due::Later, _)) => Ok(None),
            Some((Due::Again, asked)) => Ok(Some(asked.bytes.clone())),
            Some((Due::Failed, _)) => Err(Lost::NoAnswer),
            None if now < self.next => Ok(None),
            None => {
                let transaction = (self.draw)();
                let bytes = Writer::new(Class::Request, BINDING, &transaction).into_bytes();
                self.asked = Some(Request::new(now, transaction, bytes.clone(), self.on_stream));
                Ok(Some(bytes))
            }
        }
    }

    /// When [`Self::handle_timeout`] wants to be called next.
    pub fn poll_timeout(&self) -> Instant {
        self.asked.as_ref().map_or(self.next, Request::due)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_address_is_asked_for_until_it_comes_and_again_later() {
        let start = Instant::now();
        let mut probe = Probe::new(start, false, crate::id::random_bytes);
        let seen = "203.0.113.9:4711".parse().unwrap();
        for round in 0..3_u32 {
            let now = start + PAUSE * round;
            assert_eq!(probe.poll_timeout(), now);
            let question = probe.handle_timeout(now).unwrap().unwrap();
            let transaction = *question[8..].first_chunk().unwrap();
            let answer = |class, transaction| {
                Writer::new(class, BINDING, transaction).with_address(attribute::XOR_MAPPED_ADDRESS, seen).into_bytes()
            };
            for (class, transaction) in [(Class::Success, &[0; 12]), (Class::Indication, &transaction)] {
                let strange = answer(class, transaction);
                assert!(probe.handle_message(now, &Message::parse(&strange).unwrap()).is_none());
            }
            let answer = answer(Class::Success, &transaction);
            let message = Message::parse(&answer).unwrap();
            assert_eq!(probe.handle_message(now, &message), Some(Some(Event::Seen(seen))));
            assert!(probe.handle_message(now, &message).is_none(), "once");
        }
        let lost = std::iter::from_fn(|| {
            let now = probe.poll_timeout();
            probe.handle_timeout(now).err().map_or(Some(None), |lost| Some(Some(lost)))
        });
        assert_eq!(lost.take(6).last(), Some(Some(Lost::NoAnswer)));
    }
}
