//! How the daemon signs in at a TURN server: names, passwords, and the keys made of them (RFC 8489, section 9.2).
//!
//! Secrets come from files, are read anew for each allocation, and never show in a log.

use std::time::Duration;

use rtc_crypto::{HashAlgorithm, RTCCrypto};

use crate::ice_server::{Account, AccountError, Credentials, Login};

/// Time-limited passwords last until the end of the next day: a daemon that comes back the same day signs in as the same user, and may take up its allocation.
const DAY: u64 = 86_400;

/// Reads the secret and makes of it what the server is told at `wall` (since the Unix epoch); `None` where it needs nothing.
///
/// # Errors
/// Where the file can't be read, or is none.
pub fn read(credentials: &Credentials, wall: Duration) -> Result<Option<Login>, AccountError> {
    let expiry = Duration::from_secs((wall.as_secs() / DAY + 2) * DAY);
    Ok(Account::open(credentials)?.login_until(expiry))
}

/// The key of a user's messages: MD5(user ":" realm ":" password).
pub fn long_term_key(user: &str, realm: &[u8], password: &str, crypto: &dyn RTCCrypto) -> Option<Vec<u8>> {
    let text = [user.as_bytes(), realm, password.as_bytes()].join(&b':');
    crypto.hash(HashAlgorithm::Md5, &text).ok().map(|hash| hash.to_vec())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn secrets_come_from_files_and_passwords_expire() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        let shared = Credentials::Shared { secret_file: path.clone() };
        let at = |seconds| read(&shared, Duration::from_secs(seconds));
        let error = at(0).unwrap_err().to_string();
        assert!(error.contains(&path.display().to_string()), "{error}");
        std::fs::write(&path, "north\n").unwrap();
        let login = at(1_700_000_000).unwrap().unwrap();
        assert_eq!(login.username, "1700092800");
        // openssl dgst -sha1 -hmac north -binary | base64
        assert_eq!(login.password, "hlPBC1qmUfvCkMvcTcWlbQEAS0Y=");
        assert!(!format!("{login:?}").contains("1700092800"), "a log would have it");
        let later = at(1_700_000_000 + 2 * DAY).unwrap().unwrap();
        assert!(later != login);
    }
}
