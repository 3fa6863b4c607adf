//! Who need not be called when the daemon is back at a server that it lost: names are all that may be the same there.
//!
//! Pages may come back later than the daemon, so they are awaited for a while after its first list. Whoever is recognised has its session again, but where
//! its name says little: a goodbye must not end another's picture.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::{Agreed, BACK_WITHIN, CALL_STANDS, Peer};

/// How long after a loss somebody is taken for who was there before.
const KNOWN_FOR: Duration = Duration::from_secs(5 * 60);
/// The most that are known.
const MOST_KNOWN: usize = 4096;

/// Those who were there when the connection to the server was lost, by their names, which may be the same.
#[derive(Debug, Default)]
pub(super) struct Known {
    names: BTreeMap<String, Vec<Was>>,
    count: usize,
    /// When all are forgotten, while the daemon is signed in.
    forget_at: Option<Instant>,
}

/// How somebody was left.
#[derive(Debug)]
pub(super) enum Standing {
    /// With a picture, by what is agreed, where it is clear whose that is.
    Served(Option<Agreed>),
    /// With an offer that nobody hears the answer to: another may follow then.
    Called(Instant),
}

#[derive(Debug)]
struct Was {
    standing: Standing,
    until: Instant,
}

impl Known {
    /// Keeps a peer in mind that is there when the connection is lost.
    pub(super) fn add(&mut self, peer: &Peer, now: Instant) {
        let agreed = peer.outlasting();
        let again_at = peer.called_at.map(|at| at + CALL_STANDS).filter(|at| now < *at);
        let standing = match again_at {
            _ if agreed.is_some() || peer.is_served => Standing::Served(agreed.filter(|_| !peer.name.is_empty())),
            Some(at) => Standing::Called(at),
            None => return,
        };
        if self.count < MOST_KNOWN {
            self.count += 1;
            let all = self.names.entry(peer.name.clone()).or_default();
            all.push(Was { standing, until: now + KNOWN_FOR });
            // Which of them comes back under the name can't be told.
            if all.len() > 1 {
                for was in all {
                    if let Standing::Served(agreed) = &mut was.standing {
                        *agreed = None;
                    }
                }
            }
        }
    }

    /// Notes that the server is lost: who has not come back since it was lost before is awaited again, but for those whose time is over.
    pub(super) fn handle_lost(&mut self, now: Instant) {
        self.handle_timeout(now);
        self.forget_at = None;
        self.names.retain(|_, all| {
            all.retain(|was| now < was.until);
            !all.is_empty()
        });
        self.count = self.names.values().map(Vec::len).sum();
    }

    /// Notes that the daemon has the server's first list, and knows who of them was faster.
    pub(super) fn handle_listed(&mut self, now: Instant) {
        if self.count > 0 {
            self.forget_at = Some(now + BACK_WITHIN);
        }
    }

    /// Forgets all whose time to come back is over.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if self.forget_at.is_some_and(|at| at <= now) {
            *self = Self::default();
        }
    }

    /// When [`Self::handle_timeout`] is due.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.forget_at
    }

    /// How one of this name was left, once for each.
    pub(super) fn take(&mut self, name: &str, now: Instant) -> Option<Standing> {
        self.handle_timeout(now);
        let all = self.names.get_mut(name)?;
        let was = all.pop()?;
        self.count -= 1;
        if all.is_empty() {
            self.names.remove(name);
        }
        if self.count == 0 {
            self.forget_at = None;
        }
        (now < was.until).then_some(was.standing)
    }
}
