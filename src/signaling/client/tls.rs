//! TLS towards servers: the system's certificates, and those of a file beside them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file can't be read, or is none of certificates.
    #[error("the certificates of {path} can't be read: {why}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The crate refuses.
    #[error("TLS can't be set up: {0}")]
    Setup(#[from] rustls::Error),
}

/// How servers are trusted: by the system's certificates and, where there is one, by those of a PEM file.
///
/// # Errors
/// Where the file can't be read. A system without certificates trusts nobody, which the first connection says.
pub fn client(ca_file: Option<&Path>) -> Result<Arc<ClientConfig>, TlsError> {
    let mut roots = RootCertStore::empty();
    let system = rustls_native_certs::load_native_certs();
    let (trusted, _) = roots.add_parsable_certificates(system.certs);
    tracing::debug!(trusted, errors = system.errors.len(), "the system's certificates");
    if let Some(path) = ca_file {
        let error = |why: String| TlsError::File { path: path.to_owned(), why };
        let mut count = 0;
        for certificate in CertificateDer::pem_file_iter(path).map_err(|e| error(e.to_string()))? {
            roots.add(certificate.map_err(|e| error(e.to_string()))?).map_err(|e| error(e.to_string()))?;
            count += 1;
        }
        if count == 0 {
            return Err(error("it has no certificate; PEM is expected".to_owned()));
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_file_without_certificates_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ca.pem");
        for content in [None, Some(""), Some("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")] {
            if let Some(content) = content {
                std::fs::write(&path, content).unwrap();
            }
            let error = client(Some(&path)).unwrap_err().to_string();
            assert!(error.contains(&path.display().to_string()), "{error}");
        }
        assert!(client(None).is_ok());
    }
}
