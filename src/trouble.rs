//! Trouble that comes and passes: said once when it comes, and once when it has not come back for a while.
//!
//! [`Trouble`] is a pure core; [`Exhausted`] says what it decides of a listening socket.

use std::io;
use std::time::{Duration, Instant};

use tracing::{info, warn};

/// How long nothing may fail before trouble counts as passed.
const PROVEN: Duration = Duration::from_secs(3);

/// One kind of trouble.
#[derive(Debug, Default)]
pub struct Trouble(Option<Lasting>);

#[derive(Debug)]
struct Lasting {
    since: Instant,
    last: Instant,
    times: u64,
}

/// Trouble that has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Passed {
    /// From its first failure to its last.
    pub lasted: Duration,
    /// How often something failed.
    pub times: u64,
}

impl Trouble {
    /// Notes a failure; whether it is news.
    pub fn handle_failure(&mut self, now: Instant) -> bool {
        match &mut self.0 {
            Some(lasting) => {
                lasting.last = now;
                lasting.times += 1;
                false
            }
            none => {
                *none = Some(Lasting { since: now, last: now, times: 1 });
                true
            }
        }
    }

    /// When it has passed unless something fails again.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.0.as_ref().map(|lasting| lasting.last + PROVEN)
    }

    /// The trouble that has passed by now; told once.
    pub fn poll_passed(&mut self, now: Instant) -> Option<Passed> {
        let lasting = self.0.take_if(|lasting| now >= lasting.last + PROVEN)?;
        Some(Passed { lasted: lasting.last.saturating_duration_since(lasting.since), times: lasting.times })
    }
}

/// A listening socket for which the system has no further connections: descriptors or memory are used up.
#[derive(Debug)]
pub struct Exhausted {
    /// Whose connections they are.
    of: &'static str,
    trouble: Trouble,
}

impl Exhausted {
    /// All is well with the connections `of` somebody.
    pub fn new(of: &'static str) -> Self {
        Self { of, trouble: Trouble::default() }
    }

    /// Notes that the system gave none.
    pub fn note(&mut self, error: &io::Error) {
        if self.trouble.handle_failure(Instant::now()) {
            warn!(of = self.of, %error, "no further connection can be taken for now; what is connected goes on");
        }
    }

    /// When it is worth a [`Self::look`].
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.trouble.poll_timeout()
    }

    /// Says that connections are taken again where that is so by now.
    pub fn look(&mut self) {
        if let Some(Passed { lasted, times }) = self.trouble.poll_passed(Instant::now()) {
            info!(of = self.of, times, lasted_s = lasted.as_secs_f64(), "connections are taken again");
        }
    }
}

/// Waits until then; for ever where there is no such time.
pub async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_news_once_and_has_passed_once_nothing_failed_for_three_seconds() {
        let (mut trouble, start) = (Trouble::default(), Instant::now());
        let at = |millis| start + Duration::from_millis(millis);
        assert_eq!((trouble.poll_timeout(), trouble.poll_passed(start)), (None, None));
        assert!(trouble.handle_failure(start));
        assert!(!trouble.handle_failure(at(2_900)), "it came back before it had passed");
        assert_eq!(trouble.poll_passed(at(5_800)), None);
        assert_eq!(trouble.poll_timeout(), Some(at(5_900)));
        let lasted = Duration::from_millis(2_900);
        assert_eq!(trouble.poll_passed(at(5_900)), Some(Passed { lasted, times: 2 }));
        assert_eq!((trouble.poll_timeout(), trouble.poll_passed(at(9_000))), (None, None));
        assert!(trouble.handle_failure(at(9_000)), "the next one is another");
    }
}
