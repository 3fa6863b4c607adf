//! The DTLS handshake of one session and the keys that come of it (RFC 6347, RFC 5764), on rtc-dtls.
//!
//! It says what is to be sent and what has come about; where records go is the engine's to know.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use rtc_dtls::config::{ClientAuthType, ConfigBuilder, ExtendedMasterSecretType, HandshakeConfig};
use rtc_dtls::endpoint::{Endpoint, EndpointEvent};
use rtc_dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use rtc_shared::TransportProtocol;
use rtc_shared::error::Error;
use rtc_srtp::config::{Config as SrtpConfig, LABEL_EXTRACTOR_DTLS_SRTP};
use rtc_srtp::context::Context;
use rtc_srtp::protection_profile::ProtectionProfile;

use super::RemoteTransport;
use super::hello::ClientHello;
use super::identity::{Identity, sha256};
use super::records::RecordFilter;
use super::srtcp::Opener;
use super::srtp::Sealer;

/// First retransmission of a handshake flight: a lost one must not cost the second of RFC 6347.
const FLIGHT_INTERVAL: Duration = Duration::from_millis(250);
/// The longest wait between two repeats.
const MOST_FLIGHT_INTERVAL: Duration = Duration::from_secs(4);
/// Records of a handshake that may be unreadable before it is given up.
const MOST_BAD_RECORDS: u32 = 16;

pub(super) const GCM: SrtpProtectionProfile = SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm;
pub(super) const CM: SrtpProtectionProfile = SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80;

/// One session's DTLS association.
pub(super) struct Handshake {
    dtls: Endpoint,
    /// Until it begins.
    role: Option<Role>,
    identity: Identity,
    filter: RecordFilter,
    bad_records: u32,
    /// When the next flight may be repeated, and how long to wait after it.
    next_flight: Instant,
    flight_wait: Duration,
}

/// How the handshake is to begin.
enum Role {
    /// By our ClientHello, once an address is validated.
    Client { config: Arc<HandshakeConfig> },
    /// By the viewer's, which says what it can do.
    Server { remote: Box<RemoteTransport>, hello: ClientHello },
}

/// What protects the media.
pub(super) struct Keys {
    /// Seals RTP.
    pub(super) sealer: Sealer,
    /// Protects the daemon's RTCP.
    pub(super) rtcp_out: Context,
    /// Opens the viewer's.
    pub(super) rtcp_in: Opener,
}

/// What a datagram did.
pub(super) enum Outcome {
    /// It had nothing that may be read.
    Ignored,
    /// It was read.
    Taken,
    /// It was the last of the handshake.
    Complete(Box<Keys>),
    /// The viewer said `close_notify`.
    Closed,
    /// The handshake can't be done.
    Failed(String),
}

/// The endpoint tells associations apart by address; a session has one, whatever path it takes.
pub(super) fn association() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 1))
}

impl Handshake {
    /// Prepares the handshake with the side that `remote` describes.
    pub(super) fn new(now: Instant, identity: &Identity, remote: &RemoteTransport) -> Result<Self, Error> {
        let role = if remote.dtls_client {
            Role::Client { config: Arc::new(config(identity, remote, &[GCM, CM])?) }
        } else {
            Role::Server { remote: Box::new(remote.clone()), hello: ClientHello::default() }
        };
        Ok(Self {
            dtls: Endpoint::new(association(), TransportProtocol::UDP, None),
            role: Some(role),
            identity: identity.clone(),
            filter: RecordFilter::default(),
            bad_records: 0,
            next_flight: now,
            flight_wait: FLIGHT_INTERVAL,
        })
    }

    /// Begins, where it is ours to begin and has not begun.
    pub(super) fn open(&mut self, now: Instant) -> Result<(), String> {
        let Some(Role::Client { config }) = &self.role else { return Ok(()) };
        let config = config.clone();
        self.role = None;
        self.dtls.connect(now, association(), config, None).map_err(|error| error.to_string())
    }

    /// Reads a datagram.
    pub(super) fn read(&mut self, now: Instant, data: &[u8], connected: bool) -> Outcome {
        let records = self.filter.pass(data, connected);
        if records.is_empty() {
            return Outcome::Ignored;
        }
        if self.role.is_some() {
            return self.expect_hello(now, &records);
        }
        self.read_records(now, records, connected)
    }

    /// Collects the viewer's ClientHello and begins by what it offers.
    fn expect_hello(&mut self, now: Instant, data: &[u8]) -> Outcome {
        let Some(Role::Server { remote, hello }) = &mut self.role else { return Outcome::Ignored };
        let Some(hello) = hello.handle(data) else { return Outcome::Taken };
        let profile = if hello.profiles.contains(&(GCM as u16)) { GCM } else { CM };
        match config(&self.identity, remote, &[profile]) {
            Ok(config) => self.dtls.set_server_config(Some(Arc::new(config))),
            Err(error) => return Outcome::Failed(error.to_string()),
        }
        self.role = None;
        let mut outcome = Outcome::Taken;
        for datagram in hello.datagrams {
            outcome = self.read_records(now, BytesMut::from(&datagram[..]), false);
        }
        outcome
    }

    fn read_records(&mut self, now: Instant, records: BytesMut, connected: bool) -> Outcome {
        match self.dtls.read(now, association(), None, records) {
            Ok(events) if events.iter().any(|event| matches!(event, EndpointEvent::PeerClosed)) => Outcome::Closed,
            Ok(events) if events.iter().any(|event| matches!(event, EndpointEvent::HandshakeComplete)) => self
                .keys()
                .map_or_else(|error| Outcome::Failed(error.to_string()), |keys| Outcome::Complete(Box::new(keys))),
            Ok(_) => Outcome::Taken,
            // Once connected, a bad record proves nothing: anybody can send one.
            Err(_) if connected => Outcome::Ignored,
            Err(error) => {
                // What can't be read is as if it had been lost (RFC 6347, section 4.1.2.7); a handshake that is over stays over.
                self.bad_records += 1;
                let over = matches!(error, Error::ErrNoMatchingCertificateFingerprint | Error::ErrInvalidFsmTransition);
                if over || self.bad_records > MOST_BAD_RECORDS {
                    Outcome::Failed(error.to_string())
                } else {
                    Outcome::Taken
                }
            }
        }
    }

    fn keys(&self) -> Result<Keys, Error> {
        let (profile, config) = self.session_keys()?;
        let (keys, crypto) = (&config.keys, self.identity.crypto.crypto());
        Ok(Keys {
            sealer: Sealer::new(profile, keys, crypto)?,
            rtcp_out: Context::new(&keys.local_master_key, &keys.local_master_salt, profile, None, None, crypto)?,
            rtcp_in: Opener::new(profile, keys, crypto)?,
        })
    }

    fn session_keys(&self) -> Result<(ProtectionProfile, SrtpConfig), Error> {
        let state = self.dtls.get_connection_state(association()).ok_or(Error::HandshakeInProgress)?;
        let profile = match state.srtp_protection_profile() {
            GCM => ProtectionProfile::AeadAes128Gcm,
            CM => ProtectionProfile::Aes128CmHmacSha1_80,
            _ => return Err(Error::Other("no SRTP profile was agreed on".to_owned())),
        };
        let mut config = SrtpConfig { profile, ..Default::default() };
        let material = state.export_keying_material(LABEL_EXTRACTOR_DTLS_SRTP, &[], config.keying_material_len())?;
        config.set_session_keys_from_keying_material(material.as_ref(), state.is_client())?;
        Ok((profile, config))
    }

    /// Opens the media that the other side sends, of which a daemon has none.
    #[cfg(test)]
    pub(super) fn receiver(&self) -> Result<Context, Error> {
        let (profile, config) = self.session_keys()?;
        let (key, salt) = (&config.keys.remote_master_key, &config.keys.remote_master_salt);
        Context::new(key, salt, profile, None, None, self.identity.crypto.crypto())
    }

    /// The next datagram to send.
    pub(super) fn poll_record(&mut self) -> Option<Vec<u8>> {
        self.dtls.poll_transmit().map(|record| record.message.to_vec())
    }

    /// When [`Handshake::handle_timeout`] wants to be called next.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.dtls.poll_timeout(&association()).map(|due| due.max(self.next_flight))
    }

    /// Repeats a flight that is due.
    ///
    /// rtc-dtls repeats seven times at one interval; doubled, the same number outlasts a phone's bad moment (RFC 6347, section 4.2.4.1).
    pub(super) fn handle_timeout(&mut self, now: Instant) -> Result<(), String> {
        if self.poll_timeout().is_none_or(|due| due > now) {
            return Ok(());
        }
        self.flight_wait = (self.flight_wait * 2).min(MOST_FLIGHT_INTERVAL);
        self.next_flight = now + self.flight_wait;
        self.dtls.handle_timeout(association(), now).map_err(|error| error.to_string())
    }

    /// Says goodbye; [`Handshake::poll_record`] has it.
    pub(super) fn close(&mut self, now: Instant) {
        // It only queues the alert; with no association there is nobody to tell.
        let _ = self.dtls.close(now);
    }

    /// Whether it has begun.
    #[cfg(test)]
    pub(super) fn begun(&self) -> bool {
        self.role.is_none()
    }
}

fn config(
    identity: &Identity,
    remote: &RemoteTransport,
    profiles: &[SrtpProtectionProfile],
) -> Result<HandshakeConfig, Error> {
    let (fingerprints, crypto) = (remote.fingerprints.clone(), identity.crypto.clone());
    ConfigBuilder::default()
        .with_crypto_provider(identity.crypto.clone())
        .with_certificates(vec![identity.certificate.clone()])
        .with_srtp_protection_profiles(profiles.to_vec())
        .with_client_auth(ClientAuthType::RequireAnyClientCert)
        // There is no chain to verify: the fingerprint of the offer is the proof (RFC 8827, section 6.5).
        .with_insecure_skip_verify(true)
        .with_verify_peer_certificate(Some(Arc::new(move |certificates: &[Vec<u8>], _: &[_]| {
            let hash = certificates.first().and_then(|der| sha256(crypto.as_ref(), der));
            match hash {
                Some(hash) if fingerprints.contains(&hash) => Ok(()),
                _ => Err(Error::ErrNoMatchingCertificateFingerprint),
            }
        })))
        .with_extended_master_secret(ExtendedMasterSecretType::Require)
        .with_flight_interval(FLIGHT_INTERVAL)
        .build(remote.dtls_client, None)
}
