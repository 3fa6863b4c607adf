//! SRTCP of the receiving side (RFC 3711, section 3.4; RFC 7714, section 9): what a viewer reports, once it is proved to be the viewer's.
//!
//! rtc-srtp keeps a state for each SSRC that anything in a datagram claims, authentic or not, without a bound: here nothing is kept of what is not authentic.
//! With AES-GCM, datagrams are opened here; with the older profiles rtc-srtp opens what is authenticated here.

use rtc_crypto::{AeadAlgorithm, AeadCipher, HmacAlgorithm, Mac, RTCCrypto};
use rtc_shared::error::Error;
use rtc_srtp::config::SessionKeys;
use rtc_srtp::context::Context;
use rtc_srtp::protection_profile::ProtectionProfile;
use subtle::ConstantTimeEq;

use super::srtp::{GCM_TAG, derive};

/// Key derivation labels (RFC 3711, section 4.3.2).
const LABEL_RTCP_KEY: u8 = 3;
const LABEL_RTCP_AUTHENTICATION: u8 = 4;
const LABEL_RTCP_SALT: u8 = 5;
/// Bytes of the key and the tag of HMAC-SHA1-80.
const HMAC_KEY: usize = 20;
const HMAC_TAG: usize = 10;
/// Bytes of the first header and SSRC, which are never encrypted, and of the index with its flag.
const HEADER: usize = 8;
const INDEX: usize = 4;
/// Senders of RTCP on the other side that are heard: one for each of its streams.
const MOST_SENDERS: usize = 16;

/// Opens incoming RTCP.
pub struct Opener {
    cipher: Cipher,
    senders: Vec<Sender>,
    /// The compound packet that was opened last.
    plain: Vec<u8>,
}

enum Cipher {
    /// AEAD_AES_128_GCM and AEAD_AES_256_GCM.
    Gcm { cipher: Box<dyn AeadCipher>, salt: [u8; 12] },
    /// AES-CM with HMAC-SHA1.
    Other { context: Box<Context>, mac: Box<dyn Mac> },
}

/// The indices of one sender that came: the highest, and in `before` a bit for each of the 64 from it down.
struct Sender {
    ssrc: u32,
    highest: u32,
    before: u64,
}

impl Opener {
    /// Derives the session keys of the receiving side.
    /// # Errors
    /// Where the keys are not of the profile's length, or the system's cryptography fails.
    pub fn new(profile: ProtectionProfile, keys: &SessionKeys, crypto: &dyn RTCCrypto) -> Result<Self, Error> {
        let (key, salt) = (&keys.remote_master_key, &keys.remote_master_salt);
        let fail = |error: rtc_crypto::CryptoError| Error::Crypto(error.to_string());
        let gcm = |algorithm| -> Result<Cipher, rtc_crypto::CryptoError> {
            let session_key = derive(crypto, key, salt, LABEL_RTCP_KEY, key.len())?;
            let mut session_salt = [0; 12];
            session_salt.copy_from_slice(&derive(crypto, key, salt, LABEL_RTCP_SALT, 12)?);
            Ok(Cipher::Gcm { cipher: crypto.new_aead(algorithm, &session_key)?, salt: session_salt })
        };
        let cipher = match profile {
            ProtectionProfile::AeadAes128Gcm => gcm(AeadAlgorithm::Aes128Gcm).map_err(fail)?,
            ProtectionProfile::AeadAes256Gcm => gcm(AeadAlgorithm::Aes256Gcm).map_err(fail)?,
            _ => {
                let key_of_mac = derive(crypto, key, salt, LABEL_RTCP_AUTHENTICATION, HMAC_KEY).map_err(fail)?;
                let mac = crypto.new_hmac(HmacAlgorithm::Sha1, &key_of_mac).map_err(fail)?;
                Cipher::Other { context: Box::new(Context::new(key, salt, profile, None, None, crypto)?), mac }
            }
        };
        Ok(Self { cipher, senders: Vec::new(), plain: Vec::new() })
    }

    /// Opens a datagram; `None` unless it is authentic, encrypted and comes for the first time.
    pub fn open(&mut self, datagram: &[u8]) -> Option<&[u8]> {
        let tag_and_index = match self.cipher {
            Cipher::Gcm { .. } => GCM_TAG + INDEX,
            Cipher::Other { .. } => INDEX + HMAC_TAG,
        };
        let end = datagram.len().checked_sub(tag_and_index).filter(|end| *end >= HEADER)?;
        let word = |at: usize| datagram.get(at..at + 4)?.try_into().ok().map(u32::from_be_bytes);
        let ssrc = word(4)?;
        let at = if matches!(self.cipher, Cipher::Gcm { .. }) { datagram.len() - INDEX } else { end };
        let (encrypted, index) = (word(at)? >> 31 == 1, word(at)? & 0x7fff_ffff);
        let known = self.senders.iter().position(|sender| sender.ssrc == ssrc);
        let fresh = known.map_or(self.senders.len() < MOST_SENDERS, |known| self.senders[known].is_fresh(index));
        if !encrypted || !fresh {
            return None;
        }
        self.plain.clear();
        match &mut self.cipher {
            Cipher::Gcm { cipher, salt } => {
                // RFC 7714, section 9.1: 16 zero bits, SSRC, 16 zero bits, the index, exclusive-or the salt.
                let mut nonce = *salt;
                let place = |nonce: &mut [u8], value: u32| {
                    nonce.iter_mut().zip(value.to_be_bytes()).for_each(|(byte, part)| *byte ^= part);
                };
                place(&mut nonce[2..6], ssrc);
                place(&mut nonce[8..12], index);
                let mut associated = [0; HEADER + INDEX];
                associated[..HEADER].copy_from_slice(&datagram[..HEADER]);
                associated[HEADER..].copy_from_slice(&datagram[at..]);
                self.plain.extend_from_slice(&datagram[..end]);
                cipher.open_in_place(&nonce, &associated, &mut self.plain[HEADER..], &datagram[end..at]).ok()?;
            }
            Cipher::Other { context, mac } => {
                let (signed, tag) = datagram.split_at(end + INDEX);
                let mut expected = [0; 20];
                mac.sign(&[signed], &mut expected).ok()?;
                if !bool::from(expected[..HMAC_TAG].ct_eq(tag)) {
                    return None;
                }
                self.plain.extend_from_slice(&context.decrypt_rtcp(datagram).ok()?);
            }
        }
        match known {
            Some(known) => self.senders[known].note(index),
            None => self.senders.push(Sender { ssrc, highest: index, before: 1 }),
        }
        Some(&self.plain)
    }
}

impl Sender {
    fn is_fresh(&self, index: u32) -> bool {
        match self.highest.checked_sub(index) {
            None => true,
            Some(back) => back < 64 && self.before >> back & 1 == 0,
        }
    }

    fn note(&mut self, index: u32) {
        match index.checked_sub(self.highest) {
            Some(ahead) => {
                self.before = self.before.checked_shl(ahead).unwrap_or(0) | 1;
                self.highest = index;
            }
            None => self.before |= 1 << (self.highest - index),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const PROFILES: [(ProtectionProfile, u8, u8); 3] = [
        (ProtectionProfile::AeadAes128Gcm, 16, 12),
        (ProtectionProfile::AeadAes256Gcm, 32, 12),
        (ProtectionProfile::Aes128CmHmacSha1_80, 16, 14),
    ];

    /// An opener, and the independent sender whose datagrams it opens.
    fn pair((profile, key, salt): (ProtectionProfile, u8, u8)) -> (Opener, Context) {
        let provider = rtc_crypto::default_provider().unwrap();
        let keys = SessionKeys {
            remote_master_key: (0..key).collect(),
            remote_master_salt: (100..100 + salt).collect(),
            ..Default::default()
        };
        let opener = Opener::new(profile, &keys, provider.crypto()).unwrap();
        let (key, salt) = (&keys.remote_master_key, &keys.remote_master_salt);
        (opener, Context::new(key, salt, profile, None, None, provider.crypto()).unwrap())
    }

    fn report(ssrc: u32) -> Vec<u8> {
        let mut report = vec![0x81, 201, 0, 7];
        report.extend(ssrc.to_be_bytes());
        report.extend(0..24);
        report
    }

    #[test]
    fn what_an_independent_sender_protects_is_opened_once() {
        for profile in PROFILES {
            let (mut opener, mut sender) = pair(profile);
            let datagrams: Vec<_> = (0..200).map(|_| sender.encrypt_rtcp(&report(7)).unwrap()).collect();
            for pair in datagrams.chunks(2) {
                assert_eq!(opener.open(&pair[1]), Some(&report(7)[..]), "{profile:?}");
                assert_eq!(opener.open(&pair[0]), Some(&report(7)[..]), "out of order");
                assert!(opener.open(&pair[0]).is_none() && opener.open(&pair[1]).is_none(), "again");
            }
            assert!(opener.open(&datagrams[0]).is_none(), "long ago");
        }
    }

    #[test]
    fn what_is_not_authentic_leaves_nothing_behind() {
        for profile in PROFILES {
            let (mut opener, mut sender) = pair(profile);
            let good = sender.encrypt_rtcp(&report(7)).unwrap();
            for ssrc in 0..10_000u32 {
                let mut forged = good.to_vec();
                forged[4..8].copy_from_slice(&ssrc.to_be_bytes());
                assert!(ssrc == 7 || opener.open(&forged).is_none());
            }
            for at in 0..good.len() {
                let mut damaged = good.to_vec();
                damaged[at] ^= 0x10;
                assert!(opener.open(&damaged).is_none() && opener.open(&good[..at]).is_none(), "{profile:?} {at}");
            }
            assert!(opener.senders.is_empty());
            assert!(opener.open(&good).is_some());
            let heard = (100..1_000).filter(|n| opener.open(&sender.encrypt_rtcp(&report(*n)).unwrap()).is_some());
            assert_eq!(heard.count(), MOST_SENDERS - 1);
        }
    }
}
