//! When the portal may be asked again after a loss: silently each second, by a dialog at most once a minute. Pure.

use std::time::{Duration, Instant};

/// The pause between two tries that nobody sees.
pub(super) const RETRY: Duration = Duration::from_secs(1);
/// The pause between two dialogs.
const BETWEEN_DIALOGS: Duration = Duration::from_secs(60);

/// How a start of a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Pictures flow.
    Granted,
    /// The user has refused, or has not answered the dialog.
    Refused,
    /// It should have needed no dialog, but was not answered at once.
    Silent,
    /// It failed by itself, perhaps after a dialog was asked for.
    Failed {
        /// Whether a dialog was asked for.
        asked: bool,
    },
}

/// What is known of past tries.
#[derive(Debug)]
pub(super) struct Asking {
    /// No dialog before.
    dialog: Instant,
    /// Whether the kept token has led to a dialog, so that it is worth no more than none.
    is_spent: bool,
}

impl Asking {
    /// Begins with a session that was granted at `now`, perhaps by a dialog.
    pub(super) fn new(now: Instant) -> Self {
        Self { dialog: now, is_spent: false }
    }

    /// Whether a start with a token need not be answered by anybody.
    pub(super) fn is_silent(&self, has_token: bool) -> bool {
        has_token && !self.is_spent
    }

    /// Whether a start with, or without, a token is allowed.
    pub(super) fn may_start(&self, has_token: bool, now: Instant) -> bool {
        self.is_silent(has_token) || now >= self.dialog
    }

    /// Notes how a start that has just been made ended.
    pub(super) fn handle(&mut self, outcome: Outcome, had_token: bool, now: Instant) {
        match outcome {
            Outcome::Granted => *self = Self { dialog: now + BETWEEN_DIALOGS, is_spent: false },
            Outcome::Refused => *self = Self { dialog: now + BETWEEN_DIALOGS, is_spent: true },
            Outcome::Silent => self.is_spent = true,
            // It was the portal that failed, which tells nothing of the token.
            Outcome::Failed { .. } if had_token => self.is_spent = false,
            Outcome::Failed { asked: true } => self.dialog = now + BETWEEN_DIALOGS,
            Outcome::Failed { asked: false } => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_tried_each_second_until_it_leads_to_a_dialog() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut asking = Asking::new(start);
        for second in 0..120 {
            assert!(asking.may_start(true, at(second)));
            asking.handle(Outcome::Failed { asked: true }, true, at(second));
        }
        assert!(asking.may_start(true, at(120)));
        asking.handle(Outcome::Refused, true, at(120));
        assert!(!asking.may_start(true, at(121)) && !asking.may_start(false, at(179)));
        assert!(asking.may_start(true, at(180)) && asking.may_start(false, at(180)));
        asking.handle(Outcome::Granted, true, at(180));
        assert!(asking.may_start(true, at(181)));
    }

    #[test]
    fn a_token_that_is_not_answered_at_once_may_need_a_dialog() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut asking = Asking::new(start);
        asking.handle(Outcome::Granted, true, start);
        assert!(asking.is_silent(true) && !asking.is_silent(false));
        asking.handle(Outcome::Silent, true, at(10));
        assert!(!asking.is_silent(true) && !asking.may_start(true, at(11)) && asking.may_start(true, at(60)));
        asking.handle(Outcome::Failed { asked: true }, true, at(80));
        assert!(asking.is_silent(true), "the portal was started again meanwhile");
    }

    #[test]
    fn without_a_token_there_is_a_dialog_a_minute_at_most() {
        let start = Instant::now();
        let mut asking = Asking::new(start);
        let mut dialogs = Vec::new();
        for second in 0..300 {
            let now = start + Duration::from_secs(second);
            if asking.may_start(false, now) {
                dialogs.push(second);
                let outcome = if second % 2 == 0 { Outcome::Failed { asked: true } } else { Outcome::Refused };
                asking.handle(outcome, false, now);
            }
        }
        assert_eq!(dialogs, [0, 60, 120, 180, 240]);
        let mut asking = Asking::new(start);
        asking.handle(Outcome::Failed { asked: false }, false, start);
        assert!(asking.may_start(false, start), "what never came to a dialog is tried again");
    }
}
