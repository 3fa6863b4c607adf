//! SRTP of the sending side, in place (RFC 3711, RFC 7714).
//!
//! With AES-GCM, which browsers agree to, packets are sealed where they stand in the batch buffer; the older profiles go through rtc-srtp, which copies.
//! One owner: RTP of a session is only ever sealed here, RTCP only by rtc-srtp (the session keys of the two differ).

use rtc_crypto::{AeadAlgorithm, AeadCipher, BlockCipherAlgorithm, RTCCrypto};
use rtc_srtp::config::SessionKeys;
use rtc_srtp::context::Context;
use rtc_srtp::protection_profile::ProtectionProfile;

/// Bytes of an AES-GCM tag (RFC 7714, section 5.2).
pub(super) const GCM_TAG: usize = 16;
/// Key derivation labels (RFC 3711, section 4.3.2).
const LABEL_RTP_KEY: u8 = 0;
const LABEL_RTP_SALT: u8 = 2;

/// Seals outgoing RTP.
pub(super) enum Sealer {
    /// AEAD_AES_128_GCM and AEAD_AES_256_GCM.
    Gcm { cipher: Box<dyn AeadCipher>, salt: [u8; 12] },
    /// AES-CM with HMAC-SHA1.
    Other { context: Box<Context>, tag: usize },
}

impl Sealer {
    /// Derives the session keys of the sending side.
    pub(super) fn new(
        profile: ProtectionProfile,
        keys: &SessionKeys,
        crypto: &dyn RTCCrypto,
    ) -> Result<Self, rtc_shared::error::Error> {
        let (key, salt) = (&keys.local_master_key, &keys.local_master_salt);
        let algorithm = match profile {
            ProtectionProfile::AeadAes128Gcm => AeadAlgorithm::Aes128Gcm,
            ProtectionProfile::AeadAes256Gcm => AeadAlgorithm::Aes256Gcm,
            _ => {
                let context = Box::new(Context::new(key, salt, profile, None, None, crypto)?);
                return Ok(Self::Other { context, tag: profile.rtp_auth_tag_len() });
            }
        };
        let fail = |error: rtc_crypto::CryptoError| rtc_shared::error::Error::Crypto(error.to_string());
        let session_key = derive(crypto, key, salt, LABEL_RTP_KEY, key.len()).map_err(fail)?;
        let session_salt = derive(crypto, key, salt, LABEL_RTP_SALT, 12).map_err(fail)?;
        let cipher = crypto.new_aead(algorithm, &session_key).map_err(fail)?;
        let mut salt = [0; 12];
        salt.copy_from_slice(&session_salt);
        Ok(Self::Gcm { cipher, salt })
    }

    /// Bytes added to each packet.
    pub(super) fn tag_length(&self) -> usize {
        match self {
            Self::Gcm { .. } => GCM_TAG,
            Self::Other { tag, .. } => *tag,
        }
    }

    /// Seals `packet` (header, payload, spare bytes for the tag) whose 48-bit index is `index`.
    pub(super) fn seal(&mut self, packet: &mut [u8], header_length: usize, index: u64) -> bool {
        let tag_length = self.tag_length();
        if packet.len() < header_length + tag_length || header_length < 12 {
            return false;
        }
        let end = packet.len() - tag_length;
        match self {
            Self::Gcm { cipher, salt } => {
                // RFC 7714, section 8.1: 16 zero bits, SSRC, ROC and sequence number, exclusive-or the salt.
                let mut nonce = *salt;
                for (byte, ssrc) in nonce[2..6].iter_mut().zip(&packet[8..12]) {
                    *byte ^= ssrc;
                }
                for (byte, part) in nonce[6..12].iter_mut().zip(&index.to_be_bytes()[2..8]) {
                    *byte ^= part;
                }
                let (header, rest) = packet.split_at_mut(header_length);
                let (payload, tag) = rest.split_at_mut(end - header_length);
                cipher.seal_in_place(&nonce, header, payload, tag).is_ok()
            }
            Self::Other { context, .. } => match context.encrypt_rtp(&packet[..end]) {
                Ok(sealed) if sealed.len() == packet.len() => {
                    packet.copy_from_slice(&sealed);
                    true
                }
                _ => false,
            },
        }
    }
}

/// The AES-CM key derivation (RFC 3711, section 4.3.3; RFC 7714, section 11 for 96-bit salts and 256-bit keys), rate 0.
pub(super) fn derive(
    crypto: &dyn RTCCrypto,
    master_key: &[u8],
    master_salt: &[u8],
    label: u8,
    length: usize,
) -> Result<Vec<u8>, rtc_crypto::CryptoError> {
    let algorithm = if master_key.len() == 32 { BlockCipherAlgorithm::Aes256 } else { BlockCipherAlgorithm::Aes128 };
    let mut start = [0u8; 16];
    for (byte, salt) in start.iter_mut().zip(master_salt) {
        *byte = *salt;
    }
    start[7] ^= label;
    let mut out = Vec::with_capacity(length + 15);
    let mut counter: u16 = 0;
    while out.len() < length {
        let mut block = start;
        block[14..16].copy_from_slice(&counter.to_be_bytes());
        crypto.block_encrypt(algorithm, master_key, &mut block)?;
        out.extend_from_slice(&block);
        counter += 1;
    }
    out.truncate(length);
    Ok(out)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// What we seal, rtc-srtp opens: for each profile, over a rollover of the sequence number.
    #[test]
    fn sealed_packets_are_opened_by_an_independent_receiver() {
        let provider = rtc_crypto::default_provider().unwrap();
        let profiles = [
            (ProtectionProfile::AeadAes128Gcm, 16, 12),
            (ProtectionProfile::AeadAes256Gcm, 32, 12),
            (ProtectionProfile::Aes128CmHmacSha1_80, 16, 14),
        ];
        for (profile, key, salt) in profiles {
            let keys = SessionKeys {
                local_master_key: (0..key).collect(),
                local_master_salt: (100..100 + salt).collect(),
                ..Default::default()
            };
            let mut sealer = Sealer::new(profile, &keys, provider.crypto()).unwrap();
            let (key, salt) = (&keys.local_master_key, &keys.local_master_salt);
            let mut receiver = Context::new(key, salt, profile, None, None, provider.crypto()).unwrap();
            for index in 65_530u64..65_545 {
                let mut packet = vec![0x80, 96];
                packet.extend((index as u16).to_be_bytes());
                packet.extend(1_000u32.to_be_bytes());
                packet.extend(0xdead_beef_u32.to_be_bytes());
                packet.extend(b"picture");
                let plain = packet.clone();
                packet.resize(packet.len() + sealer.tag_length(), 0);
                assert!(sealer.seal(&mut packet, 12, index));
                assert_eq!(&receiver.decrypt_rtp(&packet).unwrap()[..], &plain[..], "{profile:?} {index}");
            }
        }
    }

    /// Prints what sealing in place costs beside rtc-srtp's own way, which copies (ARCHITECTURE.md, decision 1).
    #[test]
    #[ignore = "a measurement, not a check"]
    fn cost_of_sealing() {
        let provider = rtc_crypto::default_provider().unwrap();
        let keys = SessionKeys { local_master_key: vec![1; 16], local_master_salt: vec![2; 12], ..Default::default() };
        let profile = ProtectionProfile::AeadAes128Gcm;
        let mut sealer = Sealer::new(profile, &keys, provider.crypto()).unwrap();
        let (key, salt) = (&keys.local_master_key, &keys.local_master_salt);
        let mut context = Context::new(key, salt, profile, None, None, provider.crypto()).unwrap();
        let mut packet = vec![0u8; 1200];
        packet[0] = 0x80;
        const COUNT: u64 = 200_000;
        let begun = std::time::Instant::now();
        for index in 0..COUNT {
            packet[2..4].copy_from_slice(&(index as u16).to_be_bytes());
            assert!(sealer.seal(&mut packet, 12, index));
        }
        let own = begun.elapsed();
        let begun = std::time::Instant::now();
        let mut out = vec![0u8; 1200];
        for index in 0..COUNT {
            packet[2..4].copy_from_slice(&(index as u16).to_be_bytes());
            out.copy_from_slice(&context.encrypt_rtp(&packet[..1184]).unwrap());
        }
        let theirs = begun.elapsed();
        eprintln!("in place {:?} a packet, by copying {:?}", own / COUNT as u32, theirs / COUNT as u32);
    }
}
