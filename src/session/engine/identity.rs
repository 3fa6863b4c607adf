//! The daemon's DTLS identity: one self-signed certificate for the life of the process, made at its start.

use std::sync::Arc;

use rtc_crypto::{HashAlgorithm, RTCCryptoProvider};
use rtc_dtls::crypto::Certificate;

/// A certificate with its key, and the crypto that all engines use.
#[derive(Clone)]
pub struct Identity {
    pub(super) crypto: Arc<dyn RTCCryptoProvider>,
    pub(super) certificate: Certificate,
    fingerprint: [u8; 32],
}

/// Why no identity could be made.
#[derive(Debug, thiserror::Error)]
#[error("no DTLS certificate could be made: {0}")]
pub struct IdentityError(String);

impl Identity {
    /// Makes a fresh ECDSA P-256 certificate.
    ///
    /// # Errors
    /// Where the system's cryptography fails.
    pub fn generate() -> Result<Self, IdentityError> {
        let fail = |error: &dyn std::fmt::Display| IdentityError(error.to_string());
        let crypto = rtc_crypto::default_provider().map_err(|error| fail(&error))?;
        let certificate = Certificate::generate_self_signed(vec!["laterna".to_owned()], crypto.crypto())
            .map_err(|error| fail(&error))?;
        let der = certificate.certificate.first().ok_or_else(|| fail(&"no certificate"))?;
        let fingerprint = sha256(crypto.as_ref(), der).ok_or_else(|| fail(&"no SHA-256"))?;
        Ok(Self { crypto, certificate, fingerprint })
    }

    /// The crypto that all engines use.
    pub fn crypto(&self) -> Arc<dyn RTCCryptoProvider> {
        self.crypto.clone()
    }

    /// The SHA-256 of the certificate (RFC 8122).
    pub fn fingerprint(&self) -> [u8; 32] {
        self.fingerprint
    }
}

/// The SHA-256 of `data`.
pub(super) fn sha256(crypto: &dyn RTCCryptoProvider, data: &[u8]) -> Option<[u8; 32]> {
    crypto.crypto().hash(HashAlgorithm::Sha256, data).ok()?.try_into().ok()
}
