//! Connectivity checks of one generation of ICE (RFC 8445), on rtc-ice: one pair of credentials on each side, the addresses that they have shown, and the pair that was nominated.
//!
//! It never says where media goes: an engine has one generation, and a second during an ICE restart. A path is believed once a check of ours was answered on it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use rtc_crypto::RTCCryptoProvider;
use rtc_ice::agent::Agent;
use rtc_ice::candidate::{Candidate, unmarshal_candidate};
use rtc_shared::error::Error;
use rtc_shared::{TaggedBytesMut, TransportContext, TransportProtocol};
use sansio::Protocol as _;

use super::{Base, IceRole, LocalTransport, Path, Protocol, Remote, RemoteTransport, Transmit, stun};

mod agent;

pub(super) use agent::host_candidate;
use agent::{agent, base_of, protocol_of};

/// Time between rounds of connectivity checks (RFC 8445, section 14.2 asks for at least 5 ms a check).
pub(super) const CHECK_INTERVAL: Duration = Duration::from_millis(20);
/// Rounds at that interval; from then on it doubles, up to [`CONSENT_INTERVAL`].
const QUICK_ROUNDS: u32 = 8;
/// Once connected the agent only keeps consent alive (RFC 7675: every 4 to 6 s); it would wake five times a second.
pub(super) const CONSENT_INTERVAL: Duration = Duration::from_secs(2);
/// Candidates of one viewer that are taken: more would make the daemon send checks to addresses of somebody's choosing.
const MOST_CANDIDATES: usize = 24;
/// Addresses of one viewer that its checks have shown.
///
/// Each makes candidate pairs that rtc-ice goes through again and again; an address beyond them is not heard.
pub(super) const MOST_ADDRESSES: usize = 16;
/// Paths that are remembered as answered.
const MOST_ANSWERED: usize = 64;
/// Checks of ours that may be unanswered, and for how long.
const MOST_PENDING: usize = 1024;
const MOST_PATIENCE: Duration = Duration::from_secs(4);
/// Requests that wait for their reply.
const MOST_UNANSWERED: usize = 16;
/// Authentic requests in the same role as ours that are acted on.
const MOST_CONFLICTS: u32 = 8;
/// Datagrams that wait to be polled.
const MOST_WAITING: usize = 256;
/// After so much silence on the nominated pair the controlling side looks for another: two checks of consent are unanswered.
const MOST_SILENCE: Duration = Duration::from_secs(5);
/// After so much silence on the selected pair a viewer that speaks along another is followed there: browsers check and report several times in it.
pub(super) const MOVE_AFTER: Duration = Duration::from_secs(3);
/// The port whose datagrams rtc-ice takes for mDNS.
const MDNS_PORT: u16 = 5353;

/// One generation of ICE.
pub(super) struct Checks {
    agent: Agent,
    crypto: Arc<dyn RTCCryptoProvider>,
    local: LocalTransport,
    local_port: u16,
    remote_candidates: usize,
    conflicts: u32,
    /// Addresses of the viewer that an authentic message came from.
    validated: Vec<Remote>,
    /// Checks of ours that are not answered yet, oldest first.
    pending: VecDeque<Check>,
    /// Paths on which one was.
    answered: Vec<Path>,
    round_trip: Option<Duration>,
    /// What the viewer nominated, until a check of ours is answered there.
    nominated: Option<Path>,
    /// All that it nominated.
    nominations: Vec<Path>,
    /// Requests that rtc-ice has left without an answer, oldest first.
    unanswered: Vec<(Path, Vec<u8>)>,
    selected: Option<Path>,
    /// When something authentic last came along it.
    heard: Instant,
    /// The last round of checks and the next, and how many there have been since something came up.
    last_round: Instant,
    next_round: Instant,
    rounds: u32,
    transmits: VecDeque<Transmit>,
}

struct Check {
    id: [u8; 12],
    path: Path,
    at: Instant,
}

impl Checks {
    /// Prepares the daemon's side; nothing is sent or heard before [`Checks::start`].
    ///
    /// # Errors
    /// Where rtc-ice refuses the credentials or an address.
    pub(super) fn new(
        now: Instant,
        crypto: &Arc<dyn RTCCryptoProvider>,
        local: LocalTransport,
        bases: &[Base],
        role: IceRole,
    ) -> Result<Self, Error> {
        let agent = agent(now, crypto, &local, bases, role)?;
        Ok(Self {
            agent,
            crypto: crypto.clone(),
            local,
            local_port: bases.iter().find(|base| !base.is_relayed).map_or(0, |base| base.address.port()),
            remote_candidates: 0,
            conflicts: 0,
            validated: Vec::new(),
            pending: VecDeque::new(),
            answered: Vec::new(),
            round_trip: None,
            nominated: None,
            nominations: Vec::new(),
            unanswered: Vec::new(),
            selected: None,
            heard: now,
            last_round: now,
            next_round: now,
            rounds: 0,
            transmits: VecDeque::new(),
        })
    }

    /// Begins to check what `remote` lists, and to hear what comes with its credentials.
    ///
    /// # Errors
    /// Where the credentials are empty.
    pub(super) fn start(&mut self, now: Instant, remote: &RemoteTransport) -> Result<(), Error> {
        let controlling = self.role() == IceRole::Controlling;
        self.agent.start_connectivity_checks(now, controlling, remote.ufrag.clone(), remote.password.clone())?;
        for candidate in &remote.candidates {
            self.add_remote_candidate(candidate);
        }
        self.next_round = now;
        Ok(())
    }

    /// The present role: a conflict may have changed it.
    pub(super) fn role(&self) -> IceRole {
        if self.agent.role() { IceRole::Controlling } else { IceRole::Controlled }
    }

    /// Whether a check of ours was answered on any path: the other side can be reached, and knows us.
    pub(super) fn has_answer(&self) -> bool {
        !self.answered.is_empty()
    }

    /// The pair that is nominated and was answered.
    pub(super) fn selected(&self) -> Option<Path> {
        self.selected
    }

    /// What the last answered check took.
    pub(super) fn round_trip(&self) -> Option<Duration> {
        self.round_trip
    }

    /// Whether an authentic message came from there.
    pub(super) fn has_validated(&self, remote: Remote) -> bool {
        self.validated.contains(&remote)
    }

    /// Whether a STUN message is this generation's: by the daemon's `ice-ufrag`, or by a check that it answers.
    pub(super) fn concerns(&self, data: &[u8]) -> bool {
        if stun::is_request(data) {
            stun::local_ufrag(data) == Some(&self.local.ufrag)
        } else {
            self.pending.iter().any(|check| Some(&check.id) == stun::transaction(data))
        }
    }

    /// Whether the other side's generation of a trickled candidate (its `ufrag`, RFC 8838 section 11.1) is this one, or it doesn't say.
    pub(super) fn takes_candidate(&self, candidate: &str) -> bool {
        let mut fields = candidate.split_ascii_whitespace().skip_while(|field| *field != "ufrag").skip(1);
        let remote = self.agent.get_remote_credentials();
        fields.next().zip(remote).is_none_or(|(ufrag, remote)| remote.ufrag == ufrag)
    }

    /// Takes a STUN message; returns whether it was authentic.
    pub(super) fn handle(&mut self, now: Instant, path: Path, data: &[u8]) -> bool {
        // rtc-ice checks the integrity of these two classes only, and takes whatever comes from the port of mDNS for mDNS, unchecked.
        let request = stun::is_request(data);
        if !(request || stun::is_success(data)) || path.remote.port() == MDNS_PORT {
            return false;
        }
        let known = self.has_validated(path.end());
        if (!known && self.validated.len() >= MOST_ADDRESSES) || (request && !self.role_allows(data)) {
            return false;
        }
        let answers = |check: &Check| Some(&check.id) == stun::transaction(data) && check.path == path;
        if !request && !self.pending.iter().any(answers) {
            return false;
        }
        if !self.has_local(path) || !self.pass(now, path, data) {
            return false;
        }
        if !known {
            self.validated.push(path.end());
        }
        if let Some(check) = self.pending.iter().rposition(answers).filter(|_| !request) {
            let check = self.pending.remove(check);
            self.round_trip = check.map(|check| now.saturating_duration_since(check.at));
            if !self.answered.contains(&path) && self.answered.len() < MOST_ANSWERED {
                self.answered.push(path);
            }
            self.answer_again(now, path);
        }
        self.collect(now);
        if request && !self.has_replied(data) {
            if self.unanswered.len() >= MOST_UNANSWERED {
                self.unanswered.remove(0);
            }
            self.unanswered.push((path, data.to_vec()));
        }
        if !self.is_settled(false) {
            self.hurry();
        }
        self.follow_nomination(request && stun::nominates(data), path);
        self.note_life(now, path);
        if request && now >= self.heard + MOST_SILENCE && self.role() == IceRole::Controlling {
            self.look_again(now, path, data);
        }
        true
    }

    /// Takes word that something authentic came along `path`.
    ///
    /// A viewer may nominate all pairs at once and use the best of them, which need not be the last (RFC 5245, section 8.1.1.2, as aioice does): where the selected one is
    /// silent while it speaks along another that it nominated, and that a check of ours was answered on, that one is selected.
    pub(super) fn note_life(&mut self, now: Instant, path: Path) {
        if self.selected.is_none_or(|selected| selected == path) {
            self.heard = now;
        } else if self.role() == IceRole::Controlled
            && now >= self.heard + MOVE_AFTER
            && self.nominations.contains(&path)
            && self.answered.contains(&path)
        {
            (self.selected, self.nominated, self.heard) = (Some(path), None, now);
        }
    }

    /// Whether a reply to this request waits to be sent.
    fn has_replied(&self, request: &[u8]) -> bool {
        let replies = self.transmits.iter().filter(|transmit| stun::is_success(&transmit.data));
        replies.map(|transmit| stun::transaction(&transmit.data)).any(|id| id == stun::transaction(request))
    }

    /// Has rtc-ice reply to the requests that came along `path` before a check of ours was answered there.
    ///
    /// Its controlled side leaves a nominating request without a reply until then (RFC 8445, section 7.3, asks for one at once): a viewer that nominates with its first check
    /// would wait for its retransmission, which takes half a second.
    fn answer_again(&mut self, now: Instant, path: Path) {
        let unanswered = std::mem::take(&mut self.unanswered);
        let (due, others): (Vec<_>, Vec<_>) = unanswered.into_iter().partition(|(on, _)| *on == path);
        self.unanswered = others;
        for (path, request) in due {
            // What is refused now would have been before.
            let _ = self.pass(now, path, &request);
        }
    }

    /// Checks again with the same credentials, beginning where a request came from while the nominated pair is silent: a network address translator has another address for
    /// the viewer now. rtc-ice nominates once only, so that takes another agent; the selected path stays what it is until that has nominated.
    fn look_again(&mut self, now: Instant, path: Path, data: &[u8]) {
        let Some(remote) = self.agent.get_remote_credentials().cloned() else { return };
        let local = self.agent.get_local_candidates().iter();
        let bases: Vec<_> = local.filter_map(base_of).collect();
        let Ok(mut agent) = agent(now, &self.crypto, &self.local, &bases, IceRole::Controlling) else { return };
        if agent.start_connectivity_checks(now, true, remote.ufrag, remote.pwd).is_err() {
            return;
        }
        (self.agent, self.heard) = (agent, now);
        self.pending.clear();
        self.pass(now, path, data);
        self.collect(now);
        self.hurry();
    }

    /// The pair that the controlling side nominated last is the one, once a check of ours was answered there (RFC 8445, section 7.3.1.5).
    ///
    /// Without that proof a forged source would turn the stream on a stranger.
    fn follow_nomination(&mut self, nominates: bool, path: Path) {
        match self.role() {
            IceRole::Controlling => {
                let pair = self.agent.get_selected_candidate_pair();
                let pair = pair.map(|(local, remote)| Path {
                    protocol: protocol_of(local),
                    local: local.addr(),
                    remote: remote.addr(),
                });
                self.selected = pair.or(self.selected);
            }
            IceRole::Controlled => {
                if nominates {
                    if !self.nominations.contains(&path) && self.nominations.len() < MOST_ANSWERED {
                        self.nominations.push(path);
                    }
                    self.nominated = (self.selected != Some(path)).then_some(path);
                }
                if let Some(path) = self.nominated.take_if(|path| self.answered.contains(path)) {
                    self.selected = Some(path);
                }
            }
        }
    }

    /// Whether a request's role goes with ours, or is a conflict to be repaired.
    ///
    /// rtc-ice repairs conflicts (RFC 8445, section 7.3.1.1) before it checks integrity: so that is done here. Once a pair is nominated, roles stay.
    fn role_allows(&mut self, data: &[u8]) -> bool {
        let conflict = match self.role() {
            IceRole::Controlling => stun::is_of_the_controlling(data),
            IceRole::Controlled => stun::is_of_the_controlled(data),
        };
        if !conflict {
            return true;
        }
        if self.selected.is_some() || self.conflicts >= MOST_CONFLICTS {
            return false;
        }
        let authentic = stun::is_signed_by(data, self.local.password.as_bytes(), self.crypto.crypto());
        self.conflicts += u32::from(authentic);
        authentic
    }

    /// Whether a path begins at an address of the daemon's; one that came up after the start is as good as those in the answer: of a new interface, or where
    /// a connection was taken. rtc-ice has passive candidates from then on only, since it has nothing to check from them before.
    fn has_local(&mut self, path: Path) -> bool {
        let is_there =
            |candidate: &Candidate| candidate.addr() == path.local && protocol_of(candidate) == path.protocol;
        self.agent.get_local_candidates().iter().any(is_there)
            || (path.local.port() == self.local_port
                && host_candidate(path.local, path.protocol)
                    .and_then(|candidate| self.agent.add_local_candidate(candidate))
                    .is_ok())
    }

    fn pass(&mut self, now: Instant, path: Path, data: &[u8]) -> bool {
        let transport = TransportContext {
            local_addr: path.local,
            peer_addr: path.remote,
            ecn: None,
            transport_protocol: match path.protocol {
                Protocol::Udp => TransportProtocol::UDP,
                Protocol::Tcp => TransportProtocol::TCP,
            },
        };
        self.agent.handle_read(TaggedBytesMut { now, transport, message: BytesMut::from(data) }).is_ok()
    }

    #[cfg(test)]
    pub(super) fn credentials(&self) -> &LocalTransport {
        &self.local
    }

    #[cfg(test)]
    pub(super) fn count_addresses(&self) -> usize {
        self.agent.get_remote_candidates().len()
    }

    /// Takes a candidate of the other side; one that can't be understood or resolved is passed over.
    pub(super) fn add_remote_candidate(&mut self, candidate: &str) {
        // Names are left alone: the viewer's own checks show its address (mDNS). So are TCP candidates: active ones are for the viewer to connect from, and others would have the daemon connect.
        let text = candidate.strip_prefix("candidate:").unwrap_or(candidate);
        let mut fields = text.split_ascii_whitespace();
        let (transport, address) = (fields.nth(2).unwrap_or_default(), fields.nth(1).unwrap_or_default());
        if !transport.eq_ignore_ascii_case("udp") || address.parse::<std::net::IpAddr>().is_err() {
            return;
        }
        if self.remote_candidates >= MOST_CANDIDATES {
            return;
        }
        if let Ok(candidate) = unmarshal_candidate(text) {
            self.remote_candidates += 1;
            // What the agent refuses can't be paired; the viewer's other candidates go on.
            let _ = self.agent.add_remote_candidate(candidate);
            self.hurry();
        }
    }

    /// Does what is due; `connected` sessions only keep consent alive, but for pairs that are still to be nominated.
    pub(super) fn handle_timeout(&mut self, now: Instant, connected: bool) {
        if self.poll_timeout().is_none_or(|due| due > now) {
            return;
        }
        self.last_round = now;
        self.rounds = self.rounds.saturating_add(1);
        let doubled = CHECK_INTERVAL * (1 << self.rounds.saturating_sub(QUICK_ROUNDS).min(10));
        self.next_round =
            now + if self.is_settled(connected) { CONSENT_INTERVAL } else { doubled.min(CONSENT_INTERVAL) };
        // The only error is one of mDNS, which is off.
        let _ = self.agent.handle_timeout(now);
        self.collect(now);
    }

    /// Whether there is nothing to be found any more.
    fn is_settled(&self, connected: bool) -> bool {
        match self.role() {
            IceRole::Controlling => self.agent.get_selected_candidate_pair().is_some(),
            IceRole::Controlled => connected || self.selected.is_some(),
        }
    }

    /// When [`Checks::handle_timeout`] wants to be called next.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.agent.get_remote_credentials().map(|_| self.next_round)
    }

    /// The next datagram to send.
    pub(super) fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    /// Has the next round come soon, and others quickly after it.
    fn hurry(&mut self) {
        self.rounds = 0;
        self.next_round = self.next_round.min(self.last_round + CHECK_INTERVAL);
    }

    fn collect(&mut self, now: Instant) {
        while self.agent.poll_event().is_some() {}
        while self.pending.front().is_some_and(|check| now.saturating_duration_since(check.at) > MOST_PATIENCE) {
            self.pending.pop_front();
        }
        while let Some(message) = self.agent.poll_write() {
            let (local, remote) = (message.transport.local_addr, message.transport.peer_addr);
            let path = match message.transport.transport_protocol {
                TransportProtocol::TCP => Path::tcp(local, remote),
                _ => Path::udp(local, remote),
            };
            if self.transmits.len() >= MOST_WAITING {
                continue;
            }
            if let Some(id) = stun::transaction(&message.message).filter(|_| stun::is_request(&message.message)) {
                if self.pending.len() >= MOST_PENDING {
                    self.pending.pop_front();
                }
                self.pending.push_back(Check { id: *id, path, at: now });
            }
            self.transmits.push_back(Transmit { path, data: message.message.to_vec() });
        }
    }
}
