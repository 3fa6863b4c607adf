//! Whose an address is, and which TCP connections a session keeps.

use std::time::{Duration, Instant};

use super::Media;
use crate::id::SessionId;
use crate::session::engine::{Path, Protocol, Remote};

/// Addresses of one session: those of a few ICE generations; the first of more are forgotten.
pub(super) const MOST_ADDRESSES: usize = 64;
/// Connections of one session: viewers open one to each address that they are told.
pub(super) const MOST_STREAMS: usize = 4;
/// How long one stays that carries no media, once that goes over UDP.
pub(super) const SPARE_WAIT: Duration = Duration::from_secs(5);

/// An address where a session was heard.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known {
    /// The address.
    pub(super) remote: Remote,
    /// When it was first heard there, or went live.
    pub(super) since: Instant,
}

impl Media {
    /// Routes an address to a session; one where another session was just heard stays with that, so that a forged source takes nobody's datagrams away.
    pub(super) fn bind(&mut self, now: Instant, session: SessionId, remote: Remote) {
        let holder = self.by_address.get(&remote).filter(|holder| **holder != session);
        let holder = holder.and_then(|holder| self.routes.get(holder)?.viewer.as_ref());
        if !self.routes.contains_key(&session) || holder.is_some_and(|holder| holder.holds(now, remote)) {
            return;
        }
        if remote.protocol == Protocol::Tcp {
            self.sink.streams().keep_all_to(remote);
        }
        if let Some(old) = self.by_address.insert(remote, session).filter(|old| *old != session)
            && let Some(old) = self.routes.get_mut(&old)
        {
            old.addresses.retain(|known| known.remote != remote);
        }
        let Some(route) = self.routes.get_mut(&session) else { return };
        if route.addresses.iter().all(|known| known.remote != remote) {
            route.addresses.push(Known { remote, since: now });
        }
        let live = route.viewer.as_ref().map(|viewer| viewer.path());
        let mut given_up = spare(&route.addresses, live, now);
        if route.addresses.len() > MOST_ADDRESSES {
            let in_use = live.flatten().map(|path| path.end());
            given_up.extend(route.addresses.iter().map(|known| known.remote).find(|remote| Some(*remote) != in_use));
        }
        route.addresses.retain(|known| !given_up.contains(&known.remote));
        given_up.into_iter().for_each(|remote| self.release(session, remote));
    }

    /// Forgets that an address is a session's; a connection ends.
    pub(super) fn release(&mut self, session: SessionId, remote: Remote) {
        if self.by_address.get(&remote) == Some(&session) {
            self.by_address.remove(&remote);
            if remote.protocol == Protocol::Tcp {
                self.sink.streams().close_all_to(remote);
            }
        }
    }
}

/// The connections that a session has to give up; `live` is where its media goes, once it is connected.
fn spare(addresses: &[Known], live: Option<Option<Path>>, now: Instant) -> Vec<Remote> {
    let path = live.flatten();
    let is_spare =
        |known: &&Known| known.remote.protocol == Protocol::Tcp && path.is_none_or(|path| path.end() != known.remote);
    let streams: Vec<&Known> = addresses.iter().filter(is_spare).collect();
    let has_udp = path.is_some_and(|path| path.protocol == Protocol::Udp);
    let most = MOST_STREAMS - usize::from(path.is_some_and(|path| path.protocol == Protocol::Tcp));
    let excess = streams.len().saturating_sub(most);
    // Of a live session the first give way, which may be of a network that it has left; of one that joins the last, as any of the first may be nominated.
    let excessive = if live.is_some() { 0..excess } else { streams.len() - excess..streams.len() };
    let is_given_up = |n: usize, known: &Known| excessive.contains(&n) || (has_udp && now >= known.since + SPARE_WAIT);
    let given_up = streams.iter().enumerate().filter(|(n, known)| is_given_up(*n, known));
    given_up.map(|(_, known)| known.remote).collect()
}
