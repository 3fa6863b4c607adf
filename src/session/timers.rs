//! When each session is to be looked at next, without going through all of them at each wake.
//!
//! A pure core.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::time::Instant;

use crate::id::SessionId;

/// The deadlines of sessions: at most one each.
#[derive(Debug, Default)]
pub struct Timers {
    /// Among them those that were replaced since: only what `due` says counts.
    heap: BinaryHeap<Reverse<(Instant, SessionId)>>,
    due: HashMap<SessionId, Instant>,
}

impl Timers {
    /// Has a session looked at by `at` at the latest: a later deadline does not replace an earlier one.
    ///
    /// Deadlines mostly move away while media flows: looking once too often is cheaper than noting each move.
    pub fn set(&mut self, session: SessionId, at: Instant) {
        if self.due.get(&session).is_some_and(|due| *due <= at) {
            return;
        }
        self.due.insert(session, at);
        self.heap.push(Reverse((at, session)));
    }

    /// Forgets a session.
    pub fn remove(&mut self, session: SessionId) {
        self.due.remove(&session);
    }

    /// Takes out the next session whose deadline has come.
    pub fn pop(&mut self, now: Instant) -> Option<SessionId> {
        while let Some(Reverse((at, session))) = self.heap.peek().copied() {
            let counts = self.due.get(&session) == Some(&at);
            if counts && at > now {
                return None;
            }
            self.heap.pop();
            if counts {
                self.due.remove(&session);
                return Some(session);
            }
        }
        None
    }

    /// The next deadline, or an earlier one that was replaced.
    pub fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn sessions_come_out_once_in_order_and_the_earlier_deadline_counts() {
        let now = Instant::now();
        let at = |ms| now + Duration::from_millis(ms);
        let id = |n| SessionId::from_bytes([n; 16]);
        let mut timers = Timers::default();
        for (session, ms) in [(1, 30), (2, 10), (1, 20), (3, 5), (2, 50), (3, 40)] {
            timers.set(id(session), at(ms));
        }
        timers.remove(id(3));
        assert_eq!(timers.pop(at(9)), None);
        assert_eq!(timers.next(), Some(at(10)));
        assert_eq!((timers.pop(at(60)), timers.pop(at(60))), (Some(id(2)), Some(id(1))));
        assert_eq!((timers.pop(at(60)), timers.next()), (None, None));
        timers.set(id(3), at(70));
        assert_eq!(timers.pop(at(70)), Some(id(3)), "who was forgotten may come again");
    }
}
