//! The daemon as a member of a server of this protocol that others run: libwebrtc's `peerconnection_server` or one that looks like it.
//!
//! A pure core: it says which requests to make ([`Request`]), takes what came of them, and carries on a talk with each peer by [`Peers`]. An id that
//! the server does not know any more, or may not know any more as a connection was lost, is never used again: the daemon signs in anew. Then nobody's
//! picture ends, as it does not where a server says that a peer left: it does not tell who signed out from who was slow.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use super::message;
use crate::id::{PeerId, SessionId};
use crate::signaling::client::Standing;
use crate::signaling::client::backoff::Backoff;
use crate::signaling::peers::{self, AskId, CallError, CallPolicy, Outcome, Peers, Useless};
use crate::signaling::words::{Kind, Word};

pub mod list;
mod outbox;
mod request;
#[cfg(test)]
mod tests;

use outbox::Outbox;
pub use request::{Failure, MOST_REPLY, Reply, Request, RequestId, Response};

/// The most bytes of a peer's message, as in the room.
const MOST_MESSAGE: usize = 64 << 10;
/// The most peers, as in the room; who comes after them is not heard.
const MOST_PEERS: usize = 4096;
/// A wait that brought nothing is followed by the next so long after it began, lest the server is asked in a circle.
const FRUITLESS_WAIT: Duration = Duration::from_millis(500);
/// So many lists may come at once that say nothing new; then there is a pause before each next wait.
const MOST_IDLE: u32 = 20;
/// What comes so soon after it was waited for may have been queued.
const AT_ONCE: Duration = Duration::from_millis(500);
/// Between two offers to one peer: a page that takes each as a new beginning must have answered the first.
const BETWEEN_OFFERS: Duration = Duration::from_secs(3);

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// The server is asked; what comes of it comes back by [`Client::handle_reply`].
    Send(RequestId, Request),
    /// What comes of a request matters no more: it need not go on.
    Abandon(RequestId),
    /// Something for the broadcast: a question, a candidate, a goodbye. Words for peers have become requests.
    Broadcast(peers::Output),
    /// The daemon has become a member.
    SignedIn {
        /// The name that the server lists.
        name: String,
        /// Its id.
        id: PeerId,
    },
    /// The daemon is no member, for this reason, and was one or has tried to become one for the first time.
    Away(String),
}

/// The daemon at one server.
pub struct Client {
    name: String,
    peers: Peers,
    standing: Standing,
    state: State,
    /// Whom [`Self::peers`] has.
    members: BTreeSet<PeerId>,
    /// When those had the daemon's last offer who were there when the server was lost, by their names.
    offered_before: BTreeMap<String, Instant>,
    backoff: Backoff,
    random: Box<dyn FnMut() -> u32 + Send>,
    requests: u64,
    outputs: VecDeque<Output>,
    lost: u64,
}

enum State {
    /// It will try to sign in.
    Away { retry_at: Instant },
    /// It has asked to come in, and perhaps means to leave at once.
    SigningIn { request: RequestId, is_leaving: bool },
    /// It is a member.
    SignedIn(Membership),
    /// It has asked to leave.
    SigningOut(RequestId),
    /// It has left.
    Over,
}

/// What lasts as long as an id.
struct Membership {
    id: PeerId,
    /// The daemon's name as the server lists it.
    name: Vec<u8>,
    wait: Wait,
    /// How many lists came at once and said nothing new, since there was something new.
    idle: u32,
    outbox: Outbox,
    /// When peers got the daemon's last offer.
    offered: BTreeMap<PeerId, Instant>,
}

/// How a list came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum List {
    /// With the sign-in.
    First,
    /// It was there when it was asked for; some servers send the last of those first.
    Queued,
    /// It came to a wait that hung.
    Fresh,
}

enum Wait {
    Hanging { request: RequestId, since: Instant },
    Pausing { until: Instant },
}

impl Client {
    /// Signs in under `name` as soon as it is told the time, and calls by `call`; `sessions` draws fresh ids, `random` what makes pauses uneven.
    pub fn new(
        name: &str,
        call: CallPolicy,
        sessions: impl FnMut() -> SessionId + Send + 'static,
        random: impl FnMut() -> u32 + Send + 'static,
        now: Instant,
    ) -> Self {
        Self {
            name: name.to_owned(),
            peers: Peers::new(call, sessions),
            standing: Standing::Connecting,
            state: State::Away { retry_at: now },
            members: BTreeSet::new(),
            offered_before: BTreeMap::new(),
            backoff: Backoff::default(),
            random: Box::new(random),
            requests: 0,
            outputs: VecDeque::new(),
            lost: 0,
        }
    }

    /// How the daemon stands with the server.
    pub fn standing(&self) -> &Standing {
        &self.standing
    }

    /// The talks with those who are there.
    pub fn peers(&self) -> &Peers {
        &self.peers
    }

    /// How many messages to peers are lost, as the server took them not or too slowly.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Whether the daemon has left.
    pub fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }

    /// Takes what came of a request.
    pub fn handle_reply(&mut self, request: RequestId, reply: Reply, now: Instant) {
        match &self.state {
            State::SigningIn { request: open, is_leaving } if *open == request => {
                let is_leaving = *is_leaving;
                self.handle_signed_in(reply, is_leaving, now);
            }
            State::SigningOut(open) if *open == request => self.state = State::Over,
            State::SignedIn(membership) => match (&membership.wait, membership.outbox.target(request)) {
                (&Wait::Hanging { request: open, since }, _) if open == request => {
                    self.handle_waited(reply, since, now);
                }
                (_, Some(to)) => self.handle_posted(to, reply, now),
                // It was to a peer that is gone.
                (_, None) => {}
            },
            // It belongs to an id that is gone.
            State::SigningIn { .. } | State::SigningOut(_) | State::Away { .. } | State::Over => {}
        }
    }

    /// Takes the broadcast's word on a question.
    pub fn handle_outcome(&mut self, ask: AskId, outcome: Outcome) {
        self.peers.handle_outcome(ask, outcome);
    }

    /// Offers to a peer, by the operator's word.
    ///
    /// # Errors
    /// Where it can't be called now.
    pub fn call(&mut self, peer: PeerId, now: Instant) -> Result<(), CallError> {
        if let State::SignedIn(Membership { offered, .. }) = &self.state
            && offered.get(&peer).is_some_and(|at| now < *at + BETWEEN_OFFERS)
        {
            return Err(CallError::Busy);
        }
        self.peers.call(peer, now)
    }

    /// Leaves; [`Self::is_over`] once the server has said so.
    pub fn sign_out(&mut self) {
        self.state = match std::mem::replace(&mut self.state, State::Over) {
            State::SignedIn(membership) => State::SigningOut(self.send(Request::SignOut(membership.id))),
            State::SigningIn { request, .. } => State::SigningIn { request, is_leaving: true },
            State::SigningOut(request) => State::SigningOut(request),
            State::Away { .. } | State::Over => State::Over,
        };
    }

    /// Goes on under this name, for which it signs out and in again, and calls by this policy. What is connected goes on.
    pub fn set_terms(&mut self, name: &str, call: CallPolicy, now: Instant) {
        self.peers.set_call(call, now);
        if name == self.name {
            return;
        }
        name.clone_into(&mut self.name);
        if let State::SignedIn(membership) = &self.state {
            let id = membership.id;
            self.leave_membership(now);
            // Nobody waits for the reply.
            self.send(Request::SignOut(id));
            self.state = State::Away { retry_at: now };
        }
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        match &mut self.state {
            State::Away { retry_at } if *retry_at <= now => {
                let request = self.send(Request::SignIn);
                self.state = State::SigningIn { request, is_leaving: false };
            }
            State::SignedIn(membership) => {
                membership.outbox.handle_timeout(now);
                if matches!(membership.wait, Wait::Pausing { until } if until <= now) {
                    self.wait(now);
                }
                self.peers.handle_timeout(now);
            }
            State::Away { .. } | State::SigningIn { .. } | State::SigningOut(_) | State::Over => {}
        }
    }

    /// When [`Self::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match &self.state {
            State::Away { retry_at } => Some(*retry_at),
            State::SignedIn(membership) => {
                let wait = match membership.wait {
                    Wait::Pausing { until } => Some(until),
                    Wait::Hanging { .. } => None,
                };
                wait.into_iter().chain(membership.outbox.poll_timeout()).chain(self.peers.poll_timeout()).min()
            }
            State::SigningIn { .. } | State::SigningOut(_) | State::Over => None,
        }
    }

    /// What is to be done next.
    pub fn poll_output(&mut self) -> Option<Output> {
        loop {
            if let Some(output) = self.outputs.pop_front() {
                return Some(output);
            }
            match self.peers.poll_output() {
                Some(peers::Output::Say { to, word }) => self.say(to, &word),
                Some(peers::Output::Withdraw { to }) => {
                    if let State::SignedIn(membership) = &mut self.state {
                        membership.outbox.withdraw(to);
                    }
                }
                Some(output) => return Some(Output::Broadcast(output)),
                None => break,
            }
        }
        let State::SignedIn(membership) = &mut self.state else { return None };
        let (request, to, body) = membership.outbox.poll(|| next(&mut self.requests))?;
        Some(Output::Send(request, Request::Message { from: membership.id, to, body }))
    }

    fn handle_signed_in(&mut self, reply: Reply, is_leaving: bool, now: Instant) {
        let added = match reply {
            Ok(response) if response.is_success() => match response.pragma {
                Some(id) => Ok((id, response.body.unwrap_or_default())),
                None => Err("its reply has no Pragma with the daemon's id: it does not speak this protocol".to_owned()),
            },
            Ok(response) => Err(request::refused(&response)),
            Err(failure) => Err(failure.why),
        };
        let (id, body) = match added {
            Ok((id, _)) if is_leaving => {
                self.state = State::SigningOut(self.send(Request::SignOut(id)));
                return;
            }
            Err(_) if is_leaving => {
                self.state = State::Over;
                return;
            }
            Ok(added) => added,
            Err(why) => {
                self.handle_lost(why, now);
                return;
            }
        };
        let own = list::members(&body).find(|member| member.id == id);
        let name = own.map_or_else(|| self.name.as_bytes().to_vec(), |own| own.name.to_vec());
        let shown = String::from_utf8_lossy(&name).into_owned();
        self.backoff.handle_signed_in(now);
        self.standing = Standing::SignedIn(shown.clone());
        self.outputs.push_back(Output::SignedIn { name: shown, id });
        let (outbox, offered) = (Outbox::default(), BTreeMap::new());
        self.state =
            State::SignedIn(Membership { id, name, wait: Wait::Pausing { until: now }, idle: 0, outbox, offered });
        self.wait(now);
        self.handle_list(&body, List::First, now);
        self.peers.handle_listed(now);
    }

    fn handle_waited(&mut self, reply: Reply, since: Instant, now: Instant) {
        let State::SignedIn(membership) = &mut self.state else { return };
        let own = membership.id;
        let response = match reply {
            Ok(response) => response,
            Err(failure) => return self.handle_lost(failure.why, now),
        };
        let is_empty = response.body.as_ref().is_some_and(Vec::is_empty);
        match (response.status, response.pragma) {
            (200, Some(from)) if from != own || !is_empty => {
                if membership.idle < MOST_IDLE {
                    // The next wait goes first: what the server has in the meantime is not to find nobody.
                    self.wait(now);
                } else {
                    membership.wait = Wait::Pausing { until: now + FRUITLESS_WAIT };
                }
                if from == own {
                    let list = if now < since + AT_ONCE { List::Queued } else { List::Fresh };
                    let is_new = self.handle_list(&response.body.unwrap_or_default(), list, now);
                    self.note_list(is_new || list == List::Fresh);
                } else {
                    self.note_list(true);
                    self.handle_message(from, response.body, now);
                }
            }
            (200, None) if !is_empty => {
                let why = "its reply to a wait names no sender (Pragma): it does not speak this protocol";
                self.handle_lost(why.to_owned(), now);
            }
            // Nothing has come, or something between here and the server has lost patience.
            (200 | 204 | 408 | 504, _) => {
                membership.wait = Wait::Pausing { until: since + FRUITLESS_WAIT };
                self.handle_timeout(now);
            }
            (404 | 410 | 500, _) => self.handle_unknown(now),
            (status, _) => self.handle_lost(format!("it replied {status} to a wait"), now),
        }
    }

    /// Takes who is there: all, where the daemon is among them, else those who came and went. Returns whether that is anything new.
    fn handle_list(&mut self, body: &[u8], kind: List, now: Instant) -> bool {
        let State::SignedIn(membership) = &self.state else { return false };
        let mut is_new = false;
        let (own, name) = (membership.id, membership.name.clone());
        let is_all = kind == List::First || list::members(body).any(|member| member.id == own);
        let mut listed = BTreeSet::from([own]);
        for member in list::members(body).filter(|member| member.id != own) {
            if !is_all && !member.flag {
                is_new |= self.handle_left(member.id);
                continue;
            }
            listed.insert(member.id);
            if self.members.contains(&member.id) {
                is_new |= self.peers.name(member.id) != String::from_utf8_lossy(member.name);
                self.peers.handle_renamed(member.id, member.name);
            } else if member.name != name && member.name != self.name.as_bytes() {
                is_new |= self.handle_joined(member.id, member.name, now);
            }
        }
        if is_all {
            // A list that was queued may be older than the last one, from before the newest came.
            let newest = if kind == List::Queued { listed.last().copied() } else { None };
            let is_gone = |peer: &&PeerId| newest.is_none_or(|newest| **peer < newest);
            let gone: Vec<_> = self.members.difference(&listed).filter(is_gone).copied().collect();
            for peer in gone {
                is_new |= self.handle_left(peer);
            }
        }
        is_new
    }

    fn note_list(&mut self, is_new: bool) {
        if let State::SignedIn(membership) = &mut self.state {
            membership.idle = if is_new { 0 } else { membership.idle.saturating_add(1) };
        }
    }

    fn handle_joined(&mut self, peer: PeerId, name: &[u8], now: Instant) -> bool {
        if self.members.len() >= MOST_PEERS {
            tracing::debug!(%peer, most = MOST_PEERS, "a peer is not heard: there are too many");
            return false;
        }
        tracing::debug!(%peer, peers = self.members.len() + 1, "a peer is at the server");
        self.members.insert(peer);
        self.peers.handle_joined(peer, name, now);
        if let State::SignedIn(membership) = &mut self.state
            && let Some(at) = self.offered_before.get(self.peers.name(peer))
        {
            membership.offered.insert(peer, *at);
        }
        true
    }

    fn handle_left(&mut self, peer: PeerId) -> bool {
        if !self.members.remove(&peer) {
            return false;
        }
        tracing::debug!(%peer, peers = self.members.len(), "a peer has left the server");
        self.peers.handle_dropped(peer);
        if let State::SignedIn(membership) = &mut self.state {
            membership.outbox.remove(peer);
            membership.offered.remove(&peer);
        }
        true
    }

    fn handle_message(&mut self, from: PeerId, body: Option<Vec<u8>>, now: Instant) {
        // Some servers tell the last first: who speaks is there, whatever list is still to come, and is no remainder of a daemon that crashed.
        if !self.members.contains(&from) && !self.handle_joined(from, b"", now) {
            return;
        }
        let word = match body {
            Some(body) if body.len() <= MOST_MESSAGE => message::parse(&body),
            Some(_) | None => Err(Useless::Unknown),
        };
        match word {
            Ok(word) => self.peers.handle_word(from, word),
            Err(why) => self.peers.handle_useless(from, why),
        }
    }

    fn handle_posted(&mut self, to: PeerId, reply: Reply, now: Instant) {
        let State::SignedIn(membership) = &mut self.state else { return };
        let is_again = match reply {
            Ok(response) if response.is_success() => {
                if membership.outbox.handle_done(to) {
                    membership.offered.insert(to, now);
                }
                return;
            }
            Ok(response) if response.is_gone() => {
                self.handle_left(to);
                return;
            }
            Ok(response) if response.is_sorry() => return self.handle_unknown(now),
            Ok(response) => response.status == 429 || response.status >= 500,
            Err(failure) => !failure.was_sent,
        };
        if is_again && membership.outbox.handle_failed(to, now) {
            return;
        }
        if !is_again {
            membership.outbox.handle_done(to);
        }
        self.lost += 1;
    }

    /// Notes that the server does not know the daemon's id.
    fn handle_unknown(&mut self, now: Instant) {
        self.handle_lost("it does not know the daemon any more".to_owned(), now);
    }

    /// Notes that the daemon is no member, or may be none: all that was known there is forgotten, what is connected goes on.
    fn handle_lost(&mut self, why: String, now: Instant) {
        self.leave_membership(now);
        let random = (self.random)();
        self.state = State::Away { retry_at: now + self.backoff.handle_lost(now, random) };
        if !matches!(self.standing, Standing::Away(_)) {
            self.outputs.push_back(Output::Away(why.clone()));
        }
        self.standing = Standing::Away(why);
    }

    /// Forgets who is there, and what hangs.
    fn leave_membership(&mut self, now: Instant) {
        self.offered_before.retain(|_, at| now < *at + BETWEEN_OFFERS);
        if let State::SignedIn(membership) = &self.state {
            let fresh = membership.offered.iter().filter(|(_, at)| now < **at + BETWEEN_OFFERS);
            self.offered_before.extend(fresh.map(|(peer, at)| (self.peers.name(*peer).to_owned(), *at)));
        }
        self.members.clear();
        self.peers.handle_lost(now);
        if let State::SignedIn(Membership { wait: Wait::Hanging { request, .. }, .. }) = &self.state {
            self.outputs.push_back(Output::Abandon(*request));
        }
    }

    fn say(&mut self, to: PeerId, word: &Word) {
        let State::SignedIn(membership) = &mut self.state else { return };
        let Some(body) = message::write(word) else { return };
        let is_offer = matches!(word, Word::Description { kind: Kind::Offer, .. });
        self.lost += membership.outbox.push(to, body, is_offer);
    }

    fn wait(&mut self, now: Instant) {
        let State::SignedIn(membership) = &mut self.state else { return };
        let request = next(&mut self.requests);
        membership.wait = Wait::Hanging { request, since: now };
        self.outputs.push_back(Output::Send(request, Request::Wait(membership.id)));
    }

    fn send(&mut self, request: Request) -> RequestId {
        let id = next(&mut self.requests);
        self.outputs.push_back(Output::Send(id, request));
        id
    }
}

fn next(requests: &mut u64) -> RequestId {
    *requests += 1;
    RequestId(*requests)
}
