//! The keyframe gate (rule 5): what all viewers ask for makes at most one keyframe a second per rung.
//!
//! Owns when a keyframe may be made, never which picture it is. A core: `now` is an argument.

use std::time::{Duration, Instant};

/// The least time from one keyframe to the next that is made on request.
pub const INTERVAL: Duration = Duration::from_secs(1);

/// Joins the keyframe requests of all viewers of a rung (RFC 4585, section 6.3.1; RFC 5104, section 4.3.1).
#[derive(Debug, Default)]
pub struct KeyframeGate {
    requested: Option<Instant>,
    made: Option<Instant>,
}

impl KeyframeGate {
    /// Makes an open gate that nobody has asked.
    pub fn new() -> Self {
        Self::default()
    }

    /// Remembers that at `asked` a viewer could not go on without a keyframe; served when the gate opens.
    ///
    /// A request from before the last keyframe was ready is served by that one.
    pub fn request(&mut self, asked: Instant) {
        if self.made.is_none_or(|made| asked > made) {
            self.requested.get_or_insert(asked);
        }
    }

    /// Whether the next picture is to be a keyframe because of a request; consumes the requests.
    pub fn poll(&mut self, now: Instant) -> bool {
        let due = self.requested.is_some() && self.is_open(now);
        if due {
            self.requested = None;
        }
        due
    }

    /// When a remembered request will be served; past where it can be served at once.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let requested = self.requested?;
        Some(self.made.map_or(requested, |made| requested.max(made + INTERVAL)))
    }

    /// Notes that a keyframe was made, asked for or not: it serves every request so far and closes the gate.
    pub fn made(&mut self, now: Instant) {
        self.requested = None;
        self.made = Some(now);
    }

    /// Whether a keyframe may be made now.
    pub fn is_open(&self, now: Instant) -> bool {
        self.made.is_none_or(|made| now >= made + INTERVAL)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_burst_of_requests_makes_one_keyframe_a_second() {
        let start = Instant::now();
        let mut gate = KeyframeGate::new();
        let mut made = Vec::new();
        for millisecond in 0..3_000 {
            let now = start + Duration::from_millis(millisecond);
            gate.request(now);
            if gate.poll(now) {
                gate.made(now);
                made.push(millisecond);
            }
        }
        assert_eq!(made, [0, 1_000, 2_000]);
    }

    #[test]
    fn a_request_in_the_closed_second_is_served_when_it_opens() {
        let start = Instant::now();
        let mut gate = KeyframeGate::new();
        gate.made(start);
        let asked = start + Duration::from_millis(300);
        gate.request(asked);
        assert!(!gate.poll(asked));
        assert_eq!(gate.poll_timeout(), Some(start + INTERVAL));
        assert!(gate.poll(start + INTERVAL));
        assert_eq!(gate.poll_timeout(), None);
    }

    #[test]
    fn a_keyframe_made_for_another_reason_serves_the_request() {
        let start = Instant::now();
        let mut gate = KeyframeGate::new();
        gate.request(start);
        gate.made(start);
        assert!(!gate.poll(start + INTERVAL) && gate.poll_timeout().is_none());
    }

    #[test]
    fn a_request_made_while_a_keyframe_was_being_encoded_is_served_by_it() {
        let start = Instant::now();
        let mut gate = KeyframeGate::new();
        gate.made(start + Duration::from_millis(30));
        gate.request(start + Duration::from_millis(10));
        assert!(!gate.poll(start + 2 * INTERVAL) && gate.poll_timeout().is_none());
        gate.request(start + Duration::from_millis(31));
        assert!(gate.poll(start + 2 * INTERVAL), "later ones are not lost");
    }

    #[test]
    fn an_open_gate_serves_at_once() {
        let now = Instant::now();
        let mut gate = KeyframeGate::new();
        assert!(!gate.poll(now), "nobody asked");
        gate.request(now);
        assert_eq!(gate.poll_timeout(), Some(now));
        assert!(gate.poll(now));
    }
}
