//! What to do while a device is lost: when to try again, and what to say of it; a pure core.

use std::time::{Duration, Instant};

const FIRST_RETRY: Duration = Duration::from_millis(500);
const LAST_RETRY: Duration = Duration::from_secs(4);
/// How long a device that was opened again must work before it counts as back.
const PROVEN: Duration = Duration::from_secs(2);

/// Whether the device is there.
#[derive(Debug, Default)]
pub(super) enum Outage {
    /// It is, or was not missed yet.
    #[default]
    None,
    /// It was lost.
    Lost {
        /// When to try again.
        retry: Instant,
        /// How long was waited for that.
        delay: Duration,
        /// When it was opened again, if it was.
        opened: Option<Instant>,
    },
}

impl Outage {
    /// Notes that the device is not there; whether that is news.
    pub(super) fn handle_loss(&mut self, now: Instant) -> bool {
        let (news, delay) = match *self {
            Self::None => (true, FIRST_RETRY),
            Self::Lost { delay, .. } => (false, (delay * 2).min(LAST_RETRY)),
        };
        *self = Self::Lost { retry: now + delay, delay, opened: None };
        news
    }

    /// Notes that the device is open again, which is no proof that it works.
    pub(super) fn handle_opened(&mut self, now: Instant) {
        if let Self::Lost { opened, .. } = self {
            *opened = Some(now);
        }
    }

    /// Notes that the device gave a block; whether it is news that it is back.
    pub(super) fn handle_block(&mut self, now: Instant) -> bool {
        let back = matches!(*self, Self::Lost { opened: Some(opened), .. } if now >= opened + PROVEN);
        if back {
            *self = Self::None;
        }
        back
    }

    /// When to try again, if not at once.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        match self {
            Self::None => None,
            Self::Lost { retry, .. } => Some(*retry),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_is_news_once_and_retried_ever_more_slowly_up_to_four_seconds() {
        let (mut outage, mut now) = (Outage::default(), Instant::now());
        assert!(outage.handle_loss(now));
        let mut waited = Vec::new();
        for _ in 0..6 {
            let retry = outage.poll_timeout().unwrap_or(now);
            waited.push((retry - now).as_millis());
            now = retry;
            assert!(!outage.handle_loss(now));
        }
        assert_eq!(waited, [500, 1000, 2000, 4000, 4000, 4000]);
        outage.handle_opened(now);
        assert!(!outage.handle_block(now), "it is back before it has shown that it works");
        assert!(outage.handle_block(now + PROVEN) && !outage.handle_block(now + PROVEN));
        assert_eq!(outage.poll_timeout(), None);
    }

    #[test]
    fn a_device_that_fails_right_after_it_was_opened_was_never_back() {
        let (mut outage, mut now) = (Outage::default(), Instant::now());
        assert!(outage.handle_loss(now));
        let mut waited = Vec::new();
        for _ in 0..6 {
            let retry = outage.poll_timeout().unwrap_or(now);
            waited.push((retry - now).as_millis());
            now = retry;
            outage.handle_opened(now);
            assert!(!outage.handle_block(now) && !outage.handle_loss(now));
        }
        assert_eq!(waited, [500, 1000, 2000, 4000, 4000, 4000]);
    }
}
