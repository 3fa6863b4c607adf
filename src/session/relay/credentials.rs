//! How the daemon signs in at a TURN server: names, passwords, and the keys made of them (RFC 8489, section 9.2; draft-uberti-behave-turn-rest-00).
//!
//! Secrets come from files, are read anew for each allocation, and never show in a log.

use std::fmt;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rtc_crypto::{HashAlgorithm, HmacAlgorithm, RTCCrypto};

use crate::ice_server::Credentials;

/// Most bytes of a file with a secret.
const MOST_SECRET: u64 = 4096;
/// Time-limited passwords last until the end of the next day: a daemon that comes back the same day signs in as the same user, and may take up its allocation.
const DAY: u64 = 86_400;

/// A user and a password.
#[derive(Clone, PartialEq, Eq)]
pub struct SignIn {
    /// The user.
    pub user: String,
    /// The password.
    pub password: String,
}

impl fmt::Debug for SignIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SignIn(..)")
    }
}

/// Why there are no credentials.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// The file can't be read.
    #[error("{path} can't be read: {error}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// There is nothing in it.
    #[error("{0} has no secret in its first line")]
    Empty(PathBuf),
    /// The crates refuse.
    #[error("this system has no HMAC-SHA1")]
    Crypto,
    /// The server needs none.
    #[error("the server has no credentials")]
    None,
}

/// Reads the secret and makes of it what the server is told at `wall` (since the Unix epoch).
///
/// # Errors
/// Where the file can't be read or is empty.
pub fn read(credentials: &Credentials, wall: Duration, crypto: &dyn RTCCrypto) -> Result<SignIn, CredentialsError> {
    match credentials {
        Credentials::None => Err(CredentialsError::None),
        Credentials::LongTerm { user, password_file } => {
            Ok(SignIn { user: user.clone(), password: secret(password_file)? })
        }
        Credentials::Shared { secret_file } => {
            let expiry = (wall.as_secs() / DAY + 2) * DAY;
            time_limited(&expiry.to_string(), &secret(secret_file)?, crypto).ok_or(CredentialsError::Crypto)
        }
    }
}

/// The time-limited credentials of `user`, which is `EXPIRY[:NAME]` in seconds since the Unix epoch: the password is base64(HMAC-SHA1(secret, user)).
pub fn time_limited(user: &str, secret: &str, crypto: &dyn RTCCrypto) -> Option<SignIn> {
    let mut tag = [0; 20];
    crypto.new_hmac(HmacAlgorithm::Sha1, secret.as_bytes()).ok()?.sign(&[user.as_bytes()], &mut tag).ok()?;
    Some(SignIn { user: user.to_owned(), password: base64(&tag) })
}

/// The key of a user's messages: MD5(user ":" realm ":" password).
pub fn long_term_key(user: &str, realm: &[u8], password: &str, crypto: &dyn RTCCrypto) -> Option<Vec<u8>> {
    let text = [user.as_bytes(), realm, password.as_bytes()].join(&b':');
    crypto.hash(HashAlgorithm::Md5, &text).ok().map(|hash| hash.to_vec())
}

/// The first line of a file.
fn secret(path: &Path) -> Result<String, CredentialsError> {
    let mut text = String::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(MOST_SECRET).read_to_string(&mut text));
    read.map_err(|error| CredentialsError::File { path: path.to_owned(), error })?;
    let first = text.lines().next().unwrap_or_default().trim();
    if first.is_empty() { Err(CredentialsError::Empty(path.to_owned())) } else { Ok(first.to_owned()) }
}

/// RFC 4648, section 4, with padding.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().enumerate().fold(0_u32, |bits, (i, byte)| bits | u32::from(*byte) << (16 - 8 * i));
        for i in 0..4 {
            let digit = char::from(ALPHABET[(bits >> (18 - 6 * i)) as usize & 63]);
            text.push(if i <= chunk.len() { digit } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn base64_is_that_of_the_rfc() {
        for (plain, coded) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("fooba", "Zm9vYmE=")]
        {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
        assert_eq!(base64(&[0xfb, 0xff, 0xfe]), "+//+");
    }

    #[test]
    fn secrets_come_from_files_and_passwords_expire() {
        let provider = rtc_crypto::default_provider().unwrap();
        let crypto = provider.crypto();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        let shared = Credentials::Shared { secret_file: path.clone() };
        let at = |seconds| read(&shared, Duration::from_secs(seconds), crypto);
        let error = at(0).unwrap_err().to_string();
        assert!(error.contains(&path.display().to_string()), "{error}");
        std::fs::write(&path, "\n").unwrap();
        assert!(at(0).unwrap_err().to_string().contains("no secret"));
        std::fs::write(&path, "north\n").unwrap();
        let sign_in = at(1_700_000_000).unwrap();
        assert_eq!(sign_in.user, "1700092800");
        // openssl dgst -sha1 -hmac north -binary | base64
        assert_eq!(sign_in.password, "hlPBC1qmUfvCkMvcTcWlbQEAS0Y=");
        assert!(!format!("{sign_in:?}").contains("1700092800"), "a log would have it");
        let later = at(1_700_000_000 + 2 * DAY).unwrap();
        assert_ne!(later, sign_in);
    }
}
