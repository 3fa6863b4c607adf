//! RTCP of viewers: what authentic packets say, and that nothing else is opened.
//!
//! The first byte chooses the profile, the second what is damaged on the way; the rest is a compound packet.

use laterna::session::engine::Feedback;
use laterna::session::engine::feedback::parse;
use laterna::session::engine::srtcp::Opener;
use rtc_srtp::config::SessionKeys;
use rtc_srtp::context::Context;
use rtc_srtp::protection_profile::ProtectionProfile;

const PROFILES: [(ProtectionProfile, u8, u8); 3] = [
    (ProtectionProfile::AeadAes128Gcm, 16, 12),
    (ProtectionProfile::AeadAes256Gcm, 32, 12),
    (ProtectionProfile::Aes128CmHmacSha1_80, 16, 14),
];
/// Sequence numbers that one message of transport-wide feedback is read for at most.
const MOST_ARRIVED: usize = 8192;

pub fn run(data: &[u8]) {
    let [profile, damage, compound @ ..] = data else { return };
    let said = parse(compound);
    // The smallest thing that says something is a report block's part of a word; FIR has an entry in eight bytes.
    assert!(said.len() <= compound.len() / 4 + 1, "{} things said in {} bytes", said.len(), compound.len());
    for feedback in &said {
        match feedback {
            Feedback::Missing { sequences, .. } => assert!(sequences.len() <= compound.len() / 4 * 17),
            // Each has its delta.
            Feedback::Arrived(sequences) => assert!(sequences.len() <= MOST_ARRIVED.min(compound.len())),
            _ => {}
        }
    }
    protected(usize::from(*profile), *damage, compound, &said);
}

/// The packet as a viewer sends it: opened once, as it was, and never where a bit is another.
fn protected(profile: usize, damage: u8, compound: &[u8], said: &[Feedback]) {
    let (profile, key, salt) = PROFILES[profile % PROFILES.len()];
    let provider = rtc_crypto::default_provider().unwrap();
    let keys = SessionKeys {
        remote_master_key: (0..key).collect(),
        remote_master_salt: (100..100 + salt).collect(),
        ..Default::default()
    };
    let mut opener = Opener::new(profile, &keys, provider.crypto()).unwrap();
    assert!(opener.open(compound).is_none(), "opened what nobody has protected");
    let (key, salt) = (&keys.remote_master_key, &keys.remote_master_salt);
    let mut sender = Context::new(key, salt, profile, None, None, provider.crypto()).unwrap();
    // What has no header can't be protected.
    let Ok(datagram) = sender.encrypt_rtcp(compound) else { return };
    let mut damaged = datagram.to_vec();
    let at = usize::from(damage) % damaged.len();
    damaged[at] ^= 1 << (damage & 7);
    assert!(opener.open(&damaged).is_none(), "opened a packet whose byte {at} is another");
    let opened = opener.open(&datagram).unwrap_or_else(|| panic!("{profile:?}: an authentic packet is refused"));
    assert_eq!(opened, compound);
    assert_eq!(parse(opened), said);
    assert!(opener.open(&datagram).is_none(), "opened a packet twice");
}
