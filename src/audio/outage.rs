//! What to do while a device is lost: when to try again, and what to say of it; a pure core.

use std::time::{Duration, Instant};

const FIRST_RETRY: Duration = Duration::from_millis(500);
const LAST_RETRY: Duration = Duration::from_secs(4);

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
    },
}

impl Outage {
    /// Notes that the device is not there; whether that is news.
    pub(super) fn handle_loss(&mut self, now: Instant) -> bool {
        let (news, delay) = match *self {
            Self::None => (true, FIRST_RETRY),
            Self::Lost { delay, .. } => (false, (delay * 2).min(LAST_RETRY)),
        };
        *self = Self::Lost { retry: now + delay, delay };
        news
    }

    /// Notes that the device is there; whether that is news.
    pub(super) fn handle_return(&mut self) -> bool {
        matches!(std::mem::take(self), Self::Lost { .. })
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
        assert!(outage.handle_return() && !outage.handle_return());
        assert_eq!(outage.poll_timeout(), None);
    }
}
