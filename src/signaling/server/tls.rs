//! TLS for HTTP: the daemon's certificate, also one that was renewed while the daemon runs, and the handshake of each connection.

use std::fmt;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use ring::digest;
use rustls::ServerConfig;
use rustls::client::verify_server_name;
use rustls::crypto::ring as provider;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::stream::SharedStream;
use crate::private_file::{self, FileError, read_plain};

#[cfg(test)]
mod tests;

/// How often the files are looked at for a renewed certificate.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// The most that the file of a certificate of ours has.
const MOST_BYTES: u64 = 64 << 10;
/// The first byte of a TLS connection: a handshake record (RFC 8446, section 5.1).
const HANDSHAKE: u8 = 22;
/// How many years a certificate of ours is for.
const YEARS: i32 = 10;
/// The mean length of a year in seconds.
const YEAR: u64 = 31_556_952;

/// Where the certificate and its key are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificates, the server's first (PEM).
    pub certificate: PathBuf,
    /// The key (PEM); it may be the same file.
    pub key: PathBuf,
}

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file of certificates has none, or can't be read.
    #[error("the certificate {}: {why}", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The same of the key.
    #[error("the key {}: {why}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The file of a certificate that signs itself can't be read or made.
    #[error("the certificate {0}")]
    File(#[from] FileError),
    /// Something is refused by the crates.
    #[error("TLS can't be set up: {0}")]
    Setup(String),
}

/// The certificate that connections get now; clones share it.
#[derive(Debug, Clone)]
pub struct Tls {
    acceptor: Arc<ServerConfig>,
    current: Arc<Current>,
    /// None of a certificate that lasts for this run.
    files: Option<TlsFiles>,
}

#[derive(Debug)]
struct Current(RwLock<Arc<CertifiedKey>>);

impl Current {
    fn key(&self) -> Arc<CertifiedKey> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.key())
    }
}

impl Tls {
    /// Reads a certificate and its key.
    ///
    /// # Errors
    /// Where they can't be read, or don't belong together.
    pub fn open(files: TlsFiles) -> Result<Self, TlsError> {
        Self::new(load(&files)?, Some(files))
    }

    fn new(key: CertifiedKey, files: Option<TlsFiles>) -> Result<Self, TlsError> {
        let current = Arc::new(Current(RwLock::new(Arc::new(key))));
        let provider = Arc::new(provider::default_provider());
        let setup = |error: rustls::Error| TlsError::Setup(error.to_string());
        let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let mut config = builder.map_err(setup)?.with_no_client_auth().with_cert_resolver(current.clone());
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { acceptor: Arc::new(config), current, files })
    }

    /// Reads a certificate that signs itself from one file with its key, or makes the file (0600) for `names` at `wall`, the time since the Unix epoch.
    ///
    /// # Errors
    /// Where the file can be neither read nor made, or has something else in it.
    pub fn self_signed(path: &Path, names: Vec<String>, wall: Duration) -> Result<Self, TlsError> {
        if private_file::read(path, MOST_BYTES, "the key of the web page")?.is_none() {
            // Where somebody else made it in between, theirs counts.
            private_file::create(path, sign(names, wall)?.as_bytes())?;
        }
        Self::open(TlsFiles { certificate: path.to_owned(), key: path.to_owned() })
    }

    /// The same, for this run only.
    ///
    /// # Errors
    /// Where the crates refuse.
    pub fn passing(names: Vec<String>, wall: Duration) -> Result<Self, TlsError> {
        let pem = sign(names, wall)?;
        let files = TlsFiles { certificate: PathBuf::new(), key: PathBuf::new() };
        Self::new(parse(&files, pem.as_bytes(), pem.as_bytes())?, None)
    }

    /// The SHA-256 of the present certificate, as browsers show it.
    pub fn fingerprint(&self) -> String {
        let key = self.current.key();
        let hash = key.cert.first().map(|der| digest::digest(&digest::SHA256, der));
        let bytes = hash.iter().flat_map(|hash| hash.as_ref()).map(|byte| format!("{byte:02X}"));
        bytes.collect::<Vec<_>>().join(":")
    }

    /// Whether the present certificate is for the name of a `Host` header.
    pub fn is_for(&self, host: &str) -> bool {
        let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
        let key = self.current.key();
        let parsed = key.cert.first().and_then(|der| ParsedCertificate::try_from(der).ok());
        let name = ServerName::try_from(name).ok();
        parsed.zip(name).is_some_and(|(parsed, name)| verify_server_name(&parsed, &name).is_ok())
    }

    /// Takes a renewed certificate whenever the files change, ; one that can't be used is said once, and the former goes on.
    pub async fn keep_fresh(self) {
        let Some(files) = &self.files else { return };
        let mut seen = state(files);
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        loop {
            ticks.tick().await;
            self.look(files, &mut seen);
        }
    }

    /// Takes what the files have where they aren't what was `seen`.
    fn look(&self, files: &TlsFiles, seen: &mut [Option<FileState>; 2]) {
        let now = state(files);
        if now == *seen {
            return;
        }
        *seen = now;
        match load(files) {
            Ok(key) => {
                *self.current.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(key);
                tracing::info!(fingerprint = self.fingerprint(), "the certificate was renewed");
            }
            Err(error) => tracing::warn!(%error, "the renewed certificate is not used; the former one goes on"),
        }
    }

    /// Does the handshake of a connection; `None` where it was no TLS, which is answered with what to do.
    pub(super) async fn accept(&self, stream: SharedStream) -> io::Result<Option<TlsStream<SharedStream>>> {
        if stream.first_byte().await? != HANDSHAKE {
            stream.say(
                b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 47\r\n\
                  Connection: close\r\n\r\nthis port speaks TLS: open it by https instead\n",
            );
            stream.drain().await;
            return Ok(None);
        }
        TlsAcceptor::from(self.acceptor.clone()).accept(stream).await.map(Some)
    }
}

/// What of a file changes when it is written or replaced.
type FileState = (u64, u64, i64, i64, u64);

fn state(files: &TlsFiles) -> [Option<FileState>; 2] {
    let of = |found: Metadata| (found.dev(), found.ino(), found.mtime(), found.mtime_nsec(), found.size());
    [&files.certificate, &files.key].map(|path| fs::metadata(path).ok().map(of))
}

fn load(files: &TlsFiles) -> Result<CertifiedKey, TlsError> {
    let TlsFiles { certificate, key } = files;
    let chain = read_plain(certificate, MOST_BYTES).map_err(|error| files.bad_certificate(&error))?;
    let key = read_plain(key, MOST_BYTES).map_err(|error| files.bad_key(&error))?;
    parse(files, &chain, &key)
}

/// Reads what the files have.
fn parse(files: &TlsFiles, chain: &[u8], key: &[u8]) -> Result<CertifiedKey, TlsError> {
    let chain = CertificateDer::pem_slice_iter(chain).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|error| files.bad_certificate(&error))?;
    if chain.is_empty() {
        return Err(files.bad_certificate(&"it has no certificate; PEM is expected"));
    }
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| match error {
        pem::Error::NoItemsFound => files.bad_key(&"it has no key; PEM without a password is expected"),
        other => files.bad_key(&other),
    })?;
    CertifiedKey::from_der(chain, key, &provider::default_provider()).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            files.bad_key(&format!("it is not that of the certificate {}", files.certificate.display()))
        }
        rustls::Error::InvalidCertificate(_) => files.bad_certificate(&"what is in it is no certificate"),
        other => files.bad_key(&other),
    })
}

impl TlsFiles {
    fn bad_certificate(&self, why: &dyn fmt::Display) -> TlsError {
        TlsError::Certificate { path: self.certificate.clone(), why: why.to_string() }
    }

    fn bad_key(&self, why: &dyn fmt::Display) -> TlsError {
        TlsError::Key { path: self.key.clone(), why: why.to_string() }
    }
}

/// Makes a certificate that signs itself, with its key, as PEM.
fn sign(names: Vec<String>, wall: Duration) -> Result<String, TlsError> {
    let failed = |error: rcgen::Error| TlsError::Setup(error.to_string());
    let mut params = rcgen::CertificateParams::new(names).map_err(failed)?;
    params.distinguished_name.push(rcgen::DnType::CommonName, "laterna");
    let year = 1970 + i32::try_from(wall.as_secs() / YEAR).unwrap_or_default();
    // A clock that is behind makes it no certificate of the future.
    params.not_before = rcgen::date_time_ymd(year - 1, 1, 1);
    params.not_after = rcgen::date_time_ymd(year + YEARS, 1, 1);
    let key = rcgen::KeyPair::generate().map_err(failed)?;
    let certificate = params.self_signed(&key).map_err(failed)?;
    Ok(certificate.pem() + &key.serialize_pem())
}
