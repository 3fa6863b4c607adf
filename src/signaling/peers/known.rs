//! Who need not be called when the daemon is back at a server that it lost: names are all that may be the same there.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::{CALL_STANDS, Link, Peer};

/// How long after a loss somebody is taken for who was there before.
const KNOWN_FOR: Duration = Duration::from_secs(5 * 60);
/// The most that are known.
const MOST_KNOWN: usize = 4096;

/// Those who were there when the connection to the server was lost, by their names, which may be the same.
#[derive(Debug, Default)]
pub(super) struct Known {
    names: BTreeMap<String, Vec<Was>>,
    count: usize,
}

/// How somebody was left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// With a picture.
    Served,
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
        let is_served = match &peer.link {
            Link::Agreed(_) | Link::Called { before: Some(_), .. } => true,
            // It may connect yet, if the peer's answer is being taken.
            Link::Called { before: None, .. } => peer.asked.is_some(),
            Link::None => false,
        };
        let again_at = peer.called_at.map(|at| at + CALL_STANDS).filter(|at| now < *at);
        let standing = match again_at {
            _ if is_served || peer.is_served => Standing::Served,
            Some(at) => Standing::Called(at),
            None => return,
        };
        if self.count < MOST_KNOWN {
            self.count += 1;
            self.names.entry(peer.name.clone()).or_default().push(Was { standing, until: now + KNOWN_FOR });
        }
    }

    /// Forgets those who did not come in time.
    pub(super) fn expire(&mut self, now: Instant) {
        self.names.retain(|_, all| {
            all.retain(|was| now < was.until);
            !all.is_empty()
        });
        self.count = self.names.values().map(Vec::len).sum();
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// How one of this name was left, once for each.
    pub(super) fn take(&mut self, name: &str, now: Instant) -> Option<Standing> {
        let all = self.names.get_mut(name)?;
        let was = all.pop()?;
        self.count -= 1;
        if all.is_empty() {
            self.names.remove(name);
        }
        (now < was.until).then_some(was.standing)
    }
}
