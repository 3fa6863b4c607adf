//! [`RtcEngine`]: rtc-ice, rtc-dtls and rtc-srtp composed for a viewer that is only sent to.
//!
//! It keeps what those crates are good at (checks and their validation, the handshake, the ciphers' keys) and decides itself where packets go:
//! rtc-ice never leaves the first pair that was nominated, but a phone that changes from Wi-Fi to mobile does.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

pub use super::LocalTransport;
use super::checks::Checks;
use super::handshake::{Handshake, Keys, Outcome};
use super::identity::Identity;
use super::{
    Base, Engine, EngineEnd, EngineEvent, IceRole, Path, Remote, RemoteTransport, Transmit, TransportError, feedback,
};

/// Events and datagrams that wait to be polled.
const MOST_WAITING: usize = 256;
/// ICE restarts within [`RESTARTS_WITHIN`]: each makes checks to every candidate.
const MOST_RESTARTS: u32 = 8;
const RESTARTS_WITHIN: Duration = Duration::from_secs(10);

/// The engine of one session.
pub struct RtcEngine {
    identity: Identity,
    /// The credentials that the path was found with.
    checks: Checks,
    /// Those of an ICE restart, until a pair of theirs is nominated.
    fresh: Option<Checks>,
    /// What was told of the other side last, and the handshake with it; from [`Engine::start`] on.
    remote: Option<RemoteTransport>,
    handshake: Option<Handshake>,
    phase: Phase,
    /// Where media goes.
    path: Option<Path>,
    /// Where the handshake goes meanwhile.
    dtls_path: Option<Path>,
    /// Since when restarts are counted, and how many there were.
    restarts: (Instant, u32),
    transmits: VecDeque<Transmit>,
    events: VecDeque<EngineEvent>,
}

enum Phase {
    /// No check has been answered yet.
    Checking,
    /// An address is validated, the handshake runs.
    Handshaking,
    /// Media may flow.
    Connected(Box<Keys>),
    /// It is over.
    Ended,
}

impl RtcEngine {
    /// Makes the daemon's side of a connection, reachable at `bases`; [`Engine::start`] tells it of the other.
    ///
    /// # Errors
    /// Where an address is refused by the crates.
    pub fn new(
        now: Instant,
        identity: &Identity,
        bases: &[Base],
        role: IceRole,
    ) -> Result<(Self, LocalTransport), TransportError> {
        let local = LocalTransport::random();
        Ok((Self::with_credentials(now, identity, bases, local.clone(), role)?, local))
    }

    /// The same, with credentials that were drawn before.
    ///
    /// # Errors
    /// Where an address is refused by the crates.
    pub fn with_credentials(
        now: Instant,
        identity: &Identity,
        bases: &[Base],
        local: LocalTransport,
        role: IceRole,
    ) -> Result<Self, TransportError> {
        let checks = Checks::new(now, &identity.crypto, local, bases, role).map_err(unusable)?;
        Ok(Self {
            identity: identity.clone(),
            checks,
            fresh: None,
            remote: None,
            handshake: None,
            phase: Phase::Checking,
            path: None,
            dtls_path: None,
            restarts: (now, 0),
            transmits: VecDeque::new(),
            events: VecDeque::new(),
        })
    }

    #[cfg(test)]
    pub(in crate::session) fn set_path(&mut self, path: Path) {
        self.path = Some(path);
    }

    fn handle_stun(&mut self, now: Instant, path: Path, data: &[u8]) -> bool {
        let checks = match &mut self.fresh {
            Some(fresh) if fresh.concerns(data) => fresh,
            _ => &mut self.checks,
        };
        let authentic = !matches!(self.phase, Phase::Ended) && checks.handle(now, path, data);
        if !authentic {
            return false;
        }
        self.events.push_back(EngineEvent::Address(path.end()));
        if matches!(self.phase, Phase::Checking) {
            self.phase = Phase::Handshaking;
            self.dtls_path = Some(path);
        }
        self.follow_checks();
        // Who has only checked us may not have heard from us yet, and drops a ClientHello from an address that it does not know.
        if self.checks.has_answer()
            && let Some(Err(why)) = self.handshake.as_mut().map(|handshake| handshake.open(now))
        {
            self.end(EngineEnd::Handshake(why));
        }
        self.collect_records();
        self.is_current(path)
    }

    /// Sends what checks want sent, and goes where they lead: a restart that found a path takes the place of what was before.
    fn follow_checks(&mut self) {
        for checks in [Some(&mut self.checks), self.fresh.as_mut()].into_iter().flatten() {
            while let Some(transmit) = checks.poll_transmit() {
                if self.transmits.len() < MOST_WAITING {
                    self.transmits.push_back(transmit);
                }
            }
        }
        if let Some(fresh) = self.fresh.take_if(|fresh| fresh.selected().is_some()) {
            self.checks = fresh;
        }
        self.path = self.checks.selected().or(self.path);
    }

    /// Whether what comes along `path` shows that the viewer is there (RFC 7675: consent is for one pair).
    fn is_current(&self, path: Path) -> bool {
        self.path.is_none_or(|current| current == path)
    }

    fn has_validated(&self, remote: Remote) -> bool {
        self.checks.has_validated(remote) || self.fresh.as_ref().is_some_and(|fresh| fresh.has_validated(remote))
    }

    fn handle_dtls(&mut self, now: Instant, path: Path, data: &[u8]) -> bool {
        if matches!(self.phase, Phase::Checking | Phase::Ended) || !self.has_validated(path.end()) {
            return false;
        }
        let connected = matches!(self.phase, Phase::Connected(_));
        let Some(handshake) = &mut self.handshake else { return false };
        let outcome = handshake.read(now, data, connected);
        if !connected && !matches!(outcome, Outcome::Ignored) {
            self.dtls_path = Some(path);
        }
        self.collect_records();
        let meant = match outcome {
            Outcome::Ignored => false,
            // Once connected, reading proves nothing: anybody can send a record.
            Outcome::Taken => !connected,
            Outcome::Complete(_) | Outcome::Closed | Outcome::Failed(_) => true,
        };
        match outcome {
            Outcome::Ignored | Outcome::Taken => {}
            Outcome::Complete(keys) => {
                self.phase = Phase::Connected(keys);
                // The handshake went there and back along this path: it serves until one is nominated.
                self.path = self.path.or(self.dtls_path);
                self.events.push_back(EngineEvent::Connected);
            }
            Outcome::Closed => self.end(EngineEnd::ClosedByPeer),
            Outcome::Failed(why) => self.end(EngineEnd::Handshake(why)),
        }
        meant && self.is_current(path)
    }

    fn handle_rtcp(&mut self, now: Instant, path: Path, data: &[u8]) -> bool {
        let Phase::Connected(keys) = &mut self.phase else { return false };
        let Some(plain) = keys.rtcp_in.open(data) else { return false };
        for feedback in feedback::parse(plain) {
            if self.events.len() < MOST_WAITING {
                self.events.push_back(EngineEvent::Feedback(feedback));
            }
        }
        self.checks.note_life(now, path);
        self.follow_checks();
        self.is_current(path)
    }

    fn end(&mut self, end: EngineEnd) {
        if !matches!(self.phase, Phase::Ended) {
            self.phase = Phase::Ended;
            self.events.push_back(EngineEvent::Ended(end));
        }
    }

    fn collect_records(&mut self) {
        while let Some(record) = self.handshake.as_mut().and_then(Handshake::poll_record) {
            if let (Some(path), true) = (self.path.or(self.dtls_path), self.transmits.len() < MOST_WAITING) {
                self.transmits.push_back(Transmit { path, data: record });
            }
        }
    }
}

impl Engine for RtcEngine {
    fn start(&mut self, now: Instant, remote: &RemoteTransport) -> Result<(), TransportError> {
        if self.remote.is_some() {
            return Err(TransportError::AlreadyStarted);
        }
        self.handshake = Some(Handshake::new(now, &self.identity, remote).map_err(unusable)?);
        self.checks.start(now, remote).map_err(unusable)?;
        self.remote = Some(remote.clone());
        Ok(())
    }

    fn restart(
        &mut self,
        now: Instant,
        remote: &RemoteTransport,
        local: LocalTransport,
        bases: &[Base],
    ) -> Result<(), TransportError> {
        let before = self.remote.as_ref().filter(|_| !matches!(self.phase, Phase::Ended));
        let before = before.ok_or(TransportError::NotRunning)?;
        if !remote.has_certificate_of(before) {
            return Err(TransportError::OtherCertificate);
        }
        if remote.ufrag == before.ufrag && remote.password == before.password {
            return Err(TransportError::SameCredentials);
        }
        let (since, count) = self.restarts;
        let (since, count) = if now >= since + RESTARTS_WITHIN { (now, 0) } else { (since, count) };
        if count >= MOST_RESTARTS {
            return Err(TransportError::TooManyRestarts(RESTARTS_WITHIN));
        }
        let mut fresh = Checks::new(now, &self.identity.crypto, local, bases, self.checks.role()).map_err(unusable)?;
        fresh.start(now, remote).map_err(unusable)?;
        self.restarts = (since, count + 1);
        self.remote = Some(remote.clone());
        self.fresh = Some(fresh);
        Ok(())
    }

    fn handle_datagram(&mut self, now: Instant, path: Path, data: &[u8]) -> bool {
        // RFC 7983: the first byte tells the protocols apart; 192 to 223 in the second is RTCP (RFC 5761).
        match data {
            [0..=3, ..] => self.handle_stun(now, path, data),
            [20..=63, ..] => self.handle_dtls(now, path, data),
            [128..=191, 192..=223, ..] => self.handle_rtcp(now, path, data),
            _ => false,
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        let connected = matches!(self.phase, Phase::Connected(_));
        if matches!(self.phase, Phase::Ended) {
            return;
        }
        self.checks.handle_timeout(now, connected);
        if let Some(fresh) = &mut self.fresh {
            fresh.handle_timeout(now, false);
        }
        self.follow_checks();
        if matches!(self.phase, Phase::Handshaking) {
            if let Some(Err(why)) = self.handshake.as_mut().map(|handshake| handshake.handle_timeout(now)) {
                self.end(EngineEnd::Handshake(why));
            }
            self.collect_records();
        }
    }

    fn poll_timeout(&mut self) -> Option<Instant> {
        let handshake = match self.phase {
            Phase::Ended => return None,
            Phase::Handshaking => self.handshake.as_ref().and_then(Handshake::poll_timeout),
            Phase::Checking | Phase::Connected(_) => None,
        };
        let fresh = self.fresh.as_ref().and_then(Checks::poll_timeout);
        [self.checks.poll_timeout(), fresh, handshake].into_iter().flatten().min()
    }

    fn add_remote_candidate(&mut self, candidate: &str) {
        match &mut self.fresh {
            Some(fresh) if fresh.takes_candidate(candidate) => fresh.add_remote_candidate(candidate),
            _ if self.checks.takes_candidate(candidate) => self.checks.add_remote_candidate(candidate),
            _ => {}
        }
    }

    fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    fn poll_event(&mut self) -> Option<EngineEvent> {
        self.events.pop_front()
    }

    fn path(&self) -> Option<Path> {
        self.path
    }

    fn round_trip(&self, _: Instant) -> Option<Duration> {
        self.checks.round_trip()
    }

    fn tag_length(&self) -> usize {
        match &self.phase {
            Phase::Connected(keys) => keys.sealer.tag_length(),
            _ => 16,
        }
    }

    fn seal(&mut self, packet: &mut [u8], header_length: usize, index: u64) -> bool {
        match &mut self.phase {
            Phase::Connected(keys) => keys.sealer.seal(packet, header_length, index),
            _ => false,
        }
    }

    fn protect_rtcp(&mut self, packet: &[u8]) -> Option<Vec<u8>> {
        match &mut self.phase {
            Phase::Connected(keys) => keys.rtcp_out.encrypt_rtcp(packet).ok().map(|bytes| bytes.to_vec()),
            _ => None,
        }
    }

    fn close(&mut self, now: Instant) {
        if let Some(handshake) = &mut self.handshake {
            handshake.close(now);
        }
        self.collect_records();
        self.phase = Phase::Ended;
    }
}

fn unusable(error: rtc_shared::error::Error) -> TransportError {
    TransportError::Unusable(error.to_string())
}

const _: () = {
    const fn is_send<T: Send>() {}
    is_send::<RtcEngine>();
};

#[cfg(test)]
mod restart_tests;
#[cfg(test)]
mod tests;
