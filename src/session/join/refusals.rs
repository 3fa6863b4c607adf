//! Refusals as the log has them: the first of each kind at once, and how many they were once none has come for a while. Pure.

use std::collections::HashMap;
use std::mem::{Discriminant, discriminant};
use std::time::Instant;

use crate::signaling::Refusal;
use crate::trouble::{Passed, Trouble};

/// Those that last, by their kind: what the first was, and how many came.
#[derive(Debug, Default)]
pub(super) struct Refusals(HashMap<Discriminant<Refusal>, (String, Trouble)>);

impl Refusals {
    /// Notes a refusal; whether the log has none of its kind yet.
    pub(super) fn handle_refusal(&mut self, now: Instant, refusal: &Refusal) -> bool {
        let first = || (refusal.to_string(), Trouble::default());
        self.0.entry(discriminant(refusal)).or_insert_with(first).1.handle_failure(now)
    }

    /// When [`Refusals::poll_passed`] has something to tell unless further ones come.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.0.values().filter_map(|(_, trouble)| trouble.poll_timeout()).min()
    }

    /// Why viewers were refused until a while ago, and how many; told once.
    pub(super) fn poll_passed(&mut self, now: Instant) -> Option<(String, Passed)> {
        let (kind, passed) =
            self.0.iter_mut().find_map(|(kind, (_, trouble))| Some((*kind, trouble.poll_passed(now)?)))?;
        let (why, _) = self.0.remove(&kind)?;
        Some((why, passed))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_refusal_is_said_once_for_each_kind_and_counted_when_it_has_passed() {
        let (mut refusals, start) = (Refusals::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let full = Refusal::Full { limit: 2 };
        assert_eq!((refusals.poll_timeout(), refusals.poll_passed(start)), (None, None));
        assert!(refusals.handle_refusal(start, &full));
        assert!(!refusals.handle_refusal(at(1), &full));
        assert!(refusals.handle_refusal(at(2), &Refusal::Closing), "it is another kind");
        assert!(!refusals.handle_refusal(at(2), &Refusal::Full { limit: 3 }), "its first is in the log");
        assert_eq!(refusals.poll_timeout(), Some(at(5)));
        let mut passed: Vec<_> = std::iter::from_fn(|| refusals.poll_passed(at(5))).collect();
        passed.sort_by_key(|(_, passed)| passed.times);
        let expected = [(1, Refusal::Closing.to_string()), (3, full.to_string())];
        assert_eq!(passed.into_iter().map(|(why, passed)| (passed.times, why)).collect::<Vec<_>>(), expected);
        assert_eq!(refusals.poll_timeout(), None);
        assert!(refusals.handle_refusal(at(6), &full), "the next one is news");
    }
}
