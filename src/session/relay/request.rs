//! A request to a STUN or TURN server that waits for its response (RFC 8489, section 6.2.1).

use std::time::{Duration, Instant};

use super::wire::Transaction;

/// When a datagram is repeated first; the pauses double.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// How often a datagram is sent.
const MOST_SENDS: u32 = 5;
/// How long a response is waited for where the stream repeats by itself.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a request wants now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// To wait.
    Later,
    /// To be sent again.
    Again,
    /// Nothing more: no response came.
    Failed,
}

/// A request that was sent.
#[derive(Debug)]
pub struct Request {
    /// Its name, which the response bears.
    pub transaction: Transaction,
    /// The message.
    pub bytes: Vec<u8>,
    on_stream: bool,
    sends: u32,
    due: Instant,
}

impl Request {
    /// Notes that a request is sent now, by datagram or on a stream.
    pub fn new(now: Instant, transaction: Transaction, bytes: Vec<u8>, on_stream: bool) -> Self {
        Self { transaction, bytes, on_stream, sends: 1, due: now + if on_stream { PATIENCE } else { FIRST_PAUSE } }
    }

    /// When it wants something.
    pub fn due(&self) -> Instant {
        self.due
    }

    /// What it wants; [`Due::Again`] is to be done at once.
    pub fn handle_timeout(&mut self, now: Instant) -> Due {
        if now < self.due {
            return Due::Later;
        }
        if self.on_stream || self.sends >= MOST_SENDS {
            return Due::Failed;
        }
        self.due = now + FIRST_PAUSE * (1 << self.sends.min(MOST_SENDS - 2));
        self.sends += 1;
        Due::Again
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_is_sent_five_times_and_then_given_up() {
        let start = Instant::now();
        let mut request = Request::new(start, [0; 12], Vec::new(), false);
        let mut sent = vec![0];
        let failed = loop {
            let due = request.due();
            assert_eq!(request.handle_timeout(due - Duration::from_millis(1)), Due::Later);
            match request.handle_timeout(due) {
                Due::Again => sent.push((due - start).as_millis()),
                _ => break (due - start).as_millis(),
            }
        };
        assert_eq!((sent, failed), (vec![0, 500, 1500, 3500, 7500], 11500));
        let mut request = Request::new(start, [0; 12], Vec::new(), true);
        assert_eq!(request.handle_timeout(start + PATIENCE), Due::Failed);
    }
}
