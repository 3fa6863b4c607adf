//! One allocation at a TURN server (RFC 8656): from the first request to its loss, whoever it serves.
//!
//! A pure core. It has no way to begin anew: whoever made it makes another.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rtc_crypto::RTCCryptoProvider;

use super::credentials::long_term_key;
use super::peers::{Carriage, Peers, Wish};
use super::probe::{PAUSE, Probe};
use super::request::{Due, Request};
use super::wire::{
    self, ALLOCATE, CHANNEL_BIND, CREATE_PERMISSION, Class, DATA, Envelope, Message, REFRESH, Writer, attribute,
};
use super::{Draw, Event, Lost};
use crate::ice_server::Login;

/// How long an allocation is asked for.
const LIFETIME: u32 = 600;
/// How long before its end it is renewed; half of its life where that is shorter.
const MARGIN: Duration = Duration::from_secs(90);
/// Requests that wait for responses; beyond them permissions and channels wait for the next packet.
const MOST_PENDING: usize = 512;
/// Fresh nonces of one request in a row.
const MOST_CHALLENGES: u32 = 3;
/// REQUESTED-TRANSPORT: UDP (RFC 8656, section 18.7).
const UDP: [u8; 4] = [17, 0, 0, 0];

/// What a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Allocate,
    /// Gives back what a former run of the daemon left at the same port.
    Clear,
    Refresh,
    Wish(Wish),
}

#[derive(Debug)]
struct Pending {
    purpose: Purpose,
    request: Request,
    challenges: u32,
}

/// What the server wants messages signed with.
#[derive(Debug)]
struct Challenge {
    realm: Vec<u8>,
    nonce: Vec<u8>,
    key: Vec<u8>,
}

#[derive(Debug)]
enum Phase {
    /// Not granted yet; whether what was left there was cleared already.
    Asking { cleared: bool },
    /// It is there.
    Standing { relayed: SocketAddr, seen: Option<SocketAddr>, refresh: Option<Instant> },
    /// It is lost or given back.
    Over,
}

/// An allocation, or the attempt to have one.
pub struct Allocation {
    crypto: Arc<dyn RTCCryptoProvider>,
    draw: Draw,
    on_stream: bool,
    login: Login,
    challenge: Option<Challenge>,
    phase: Phase,
    /// Keeps the NAT's binding, and shows that the server is there.
    probe: Probe,
    peers: Peers,
    pending: Vec<Pending>,
    /// When something is due; never later than that is.
    due: Instant,
    transmits: VecDeque<Vec<u8>>,
    events: VecDeque<Event>,
}

impl Allocation {
    /// Asks for an allocation, by datagrams or on a stream.
    pub fn new(now: Instant, crypto: Arc<dyn RTCCryptoProvider>, login: Login, on_stream: bool, draw: Draw) -> Self {
        let mut allocation = Self {
            crypto,
            draw,
            on_stream,
            login,
            challenge: None,
            phase: Phase::Asking { cleared: false },
            probe: Probe::new(now + PAUSE, on_stream, draw),
            peers: Peers::default(),
            pending: Vec::new(),
            due: now,
            transmits: VecDeque::new(),
            events: VecDeque::new(),
        };
        allocation.ask(now, Purpose::Allocate, 0);
        allocation
    }

    /// Its address, once it is there.
    pub fn relayed(&self) -> Option<SocketAddr> {
        match self.phase {
            Phase::Standing { relayed, .. } => Some(relayed),
            Phase::Asking { .. } | Phase::Over => None,
        }
    }

    /// What goes around a payload of `length` bytes to a peer, and whether that is a channel; `None` where it can't be sent.
    pub fn wrap(&mut self, now: Instant, peer: SocketAddr, length: usize) -> Option<(Envelope, bool)> {
        let relayed = self.relayed()?;
        // A relay of IPv4 carries nothing to IPv6, and says so to each request.
        if relayed.is_ipv4() != peer.is_ipv4() {
            return None;
        }
        match self.peers.carriage(now, peer) {
            Carriage::Channel(number) => Some((Envelope::channel(number, length, self.on_stream), true)),
            Carriage::Indication(wish) => {
                wish.into_iter().for_each(|wish| self.wish(now, wish));
                Some((Envelope::indication(peer, length, &(self.draw)()), false))
            }
            Carriage::Forbidden => None,
        }
    }

    /// Wants a channel to a peer: it gets more than checks.
    pub fn want_channel(&mut self, now: Instant, peer: SocketAddr) {
        if self.relayed().is_some()
            && let Some(wish) = self.peers.want_channel(now, peer)
        {
            self.wish(now, wish);
        }
    }

    /// Who sent what a message of the server carries, and where in it that is; `None` where it carries nothing.
    pub fn unwrap(&mut self, now: Instant, data: &[u8]) -> Option<(SocketAddr, Range<usize>)> {
        self.relayed()?;
        if let Some((number, range)) = wire::channel_data(data) {
            return Some((self.peers.peer_of(now, number)?, range));
        }
        let message = Message::parse(data).filter(|m| m.class == Class::Indication && m.method == DATA)?;
        Some((message.address(attribute::XOR_PEER_ADDRESS)?, message.range(attribute::DATA)?))
    }

    /// Takes a response; returns whether it was one to a request of this allocation.
    pub fn handle_message(&mut self, now: Instant, message: &Message<'_>) -> bool {
        if let Some(seen) = self.probe.handle_message(now, message) {
            seen.into_iter().for_each(|event| self.handle_seen(event));
            return true;
        }
        let Some(at) = self.pending.iter().position(|pending| message.is_of(&pending.request.transaction)) else {
            return false;
        };
        match message.class {
            Class::Success => {
                // A server that was never asked for a signature has none either.
                let key = self.challenge.as_ref().map(|challenge| &challenge.key);
                if key.is_none_or(|key| message.is_signed_by(key, self.crypto.crypto())) {
                    let purpose = self.pending.swap_remove(at).purpose;
                    self.handle_success(now, purpose, message);
                }
            }
            Class::Error => {
                let pending = self.pending.swap_remove(at);
                self.handle_error(now, &pending, message);
            }
            Class::Request | Class::Indication => {}
        }
        self.due = now;
        true
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        if now < self.due || matches!(self.phase, Phase::Over) {
            return;
        }
        let mut failed = Vec::new();
        let transmits = &mut self.transmits;
        self.pending.retain_mut(|pending| match pending.request.handle_timeout(now) {
            Due::Later => true,
            Due::Again => {
                transmits.push_back(pending.request.bytes.clone());
                true
            }
            Due::Failed => {
                failed.push(pending.purpose);
                false
            }
        });
        for purpose in failed {
            match purpose {
                Purpose::Wish(wish) => self.peers.handle_unanswered(now, wish),
                Purpose::Allocate | Purpose::Clear | Purpose::Refresh => return self.lose(Lost::NoAnswer),
            }
        }
        if let Phase::Standing { refresh, .. } = &mut self.phase {
            if refresh.take_if(|due| now >= *due).is_some() {
                self.ask(now, Purpose::Refresh, 0);
            }
            match self.probe.handle_timeout(now) {
                Ok(question) => self.transmits.extend(question),
                Err(lost) => return self.lose(lost),
            }
            for wish in self.peers.handle_timeout(now) {
                self.wish(now, wish);
            }
        }
        self.due = self.next_due(now);
    }

    /// When [`Self::handle_timeout`] wants to be called next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        (!matches!(self.phase, Phase::Over)).then_some(self.due)
    }

    /// Gives the allocation back.
    pub fn close(&mut self, now: Instant) {
        if matches!(self.phase, Phase::Standing { .. }) {
            self.ask(now, Purpose::Clear, 0);
        }
        self.phase = Phase::Over;
        self.pending.clear();
    }

    /// Whether a message to the server waits to be polled.
    pub fn has_transmits(&self) -> bool {
        !self.transmits.is_empty()
    }

    /// The next message to the server.
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.transmits.pop_front()
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    fn handle_seen(&mut self, event: Event) {
        if let (Event::Seen(now_seen), Phase::Standing { seen: Some(seen), .. }) = (event, &self.phase)
            && now_seen != *seen
        {
            // The allocation is bound to the address that the server saw (RFC 8656, section 3): nothing reaches it from another.
            self.lose(Lost::Moved);
        }
    }

    fn handle_success(&mut self, now: Instant, purpose: Purpose, message: &Message<'_>) {
        let lifetime = Duration::from_secs(message.number(attribute::LIFETIME).unwrap_or(LIFETIME).into());
        let next_refresh = Some(now + lifetime.saturating_sub(MARGIN).max(lifetime / 2));
        match purpose {
            Purpose::Allocate => {
                let Some(relayed) = message.address(attribute::XOR_RELAYED_ADDRESS) else {
                    return self.lose(Lost::Refused { code: 0, reason: "no relayed address".to_owned() });
                };
                let seen = message.address(attribute::XOR_MAPPED_ADDRESS);
                self.phase = Phase::Standing { relayed, seen, refresh: next_refresh };
                self.events.extend(seen.map(Event::Seen));
                self.events.push_back(Event::Relayed(relayed));
            }
            Purpose::Clear => self.ask(now, Purpose::Allocate, 0),
            Purpose::Refresh => {
                if let Phase::Standing { refresh, .. } = &mut self.phase {
                    *refresh = next_refresh;
                }
            }
            Purpose::Wish(wish) => self.peers.handle_granted(now, wish),
        }
    }

    fn handle_error(&mut self, now: Instant, pending: &Pending, message: &Message<'_>) {
        let (code, reason) = message.error();
        let again = pending.challenges + 1;
        match (code, pending.purpose) {
            (401, purpose) if self.challenge.is_none() && self.take_challenge(message) => self.ask(now, purpose, again),
            (438, purpose) if again <= MOST_CHALLENGES && self.take_challenge(message) => self.ask(now, purpose, again),
            (401, _) => self.lose(Lost::Credentials),
            (437, Purpose::Allocate) if matches!(self.phase, Phase::Asking { cleared: false }) => {
                self.phase = Phase::Asking { cleared: true };
                self.ask(now, Purpose::Clear, 0);
            }
            // Whatever was there: it is not ours to clear, or is gone.
            (_, Purpose::Clear) => self.ask(now, Purpose::Allocate, 0),
            (437, Purpose::Refresh | Purpose::Wish(_)) => self.lose(Lost::Gone),
            (_, Purpose::Allocate | Purpose::Refresh) => self.lose(Lost::Refused { code, reason }),
            (_, Purpose::Wish(wish)) => {
                tracing::debug!(code, reason, "a relay refuses to carry packets of an address");
                self.peers.handle_refused(now, wish);
            }
        }
    }

    fn take_challenge(&mut self, message: &Message<'_>) -> bool {
        let Some(nonce) = message.attribute(attribute::NONCE) else { return false };
        let known = self.challenge.as_ref().map(|challenge| challenge.realm.as_slice());
        let Some(realm) = message.attribute(attribute::REALM).or(known) else { return false };
        let Login { username, password } = &self.login;
        let Some(key) = long_term_key(username, realm, password, self.crypto.crypto()) else { return false };
        self.challenge = Some(Challenge { realm: realm.to_vec(), nonce: nonce.to_vec(), key });
        true
    }

    fn wish(&mut self, now: Instant, wish: Wish) {
        if self.pending.len() < MOST_PENDING {
            self.ask(now, Purpose::Wish(wish), 0);
        } else {
            self.peers.handle_unanswered(now, wish);
        }
    }

    fn ask(&mut self, now: Instant, purpose: Purpose, challenges: u32) {
        let transaction = (self.draw)();
        let request = |method| Writer::new(Class::Request, method, &transaction);
        let with_lifetime = |writer: Writer, lifetime: u32| writer.with(attribute::LIFETIME, &lifetime.to_be_bytes());
        let message = match purpose {
            Purpose::Allocate => with_lifetime(request(ALLOCATE).with(attribute::REQUESTED_TRANSPORT, &UDP), LIFETIME),
            Purpose::Clear => with_lifetime(request(REFRESH), 0),
            Purpose::Refresh => with_lifetime(request(REFRESH), LIFETIME),
            // The port is not looked at.
            Purpose::Wish(Wish::Permission(ip)) => {
                request(CREATE_PERMISSION).with_address(attribute::XOR_PEER_ADDRESS, SocketAddr::new(ip, 0))
            }
            Purpose::Wish(Wish::Channel(peer, number)) => {
                let [n0, n1] = number.to_be_bytes();
                let channel = request(CHANNEL_BIND).with(attribute::CHANNEL_NUMBER, &[n0, n1, 0, 0]);
                channel.with_address(attribute::XOR_PEER_ADDRESS, peer)
            }
        };
        let message = match &self.challenge {
            None => message,
            Some(Challenge { realm, nonce, key }) => message
                .with(attribute::USERNAME, self.login.username.as_bytes())
                .with(attribute::REALM, realm)
                .with(attribute::NONCE, nonce)
                .signed(key, self.crypto.crypto()),
        };
        let bytes = message.into_bytes();
        self.transmits.push_back(bytes.clone());
        let request = Request::new(now, transaction, bytes, self.on_stream);
        self.due = self.due.min(request.due());
        self.pending.push(Pending { purpose, request, challenges });
    }

    fn lose(&mut self, lost: Lost) {
        if !matches!(self.phase, Phase::Over) {
            self.phase = Phase::Over;
            self.pending.clear();
            self.events.push_back(Event::Lost(lost));
        }
    }

    fn next_due(&self, now: Instant) -> Instant {
        let pending = self.pending.iter().map(|pending| pending.request.due());
        let standing = match self.phase {
            Phase::Standing { refresh, .. } => {
                [refresh, Some(self.probe.poll_timeout()), self.peers.poll_timeout()].into_iter().flatten().min()
            }
            Phase::Asking { .. } | Phase::Over => None,
        };
        pending.chain(standing).min().unwrap_or(now + Duration::from_secs(LIFETIME.into()))
    }
}

#[cfg(test)]
mod tests;
