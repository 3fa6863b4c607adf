//! Signing in at TURN servers: passwords that last, and those that are made of a shared secret and expire
//! (draft-uberti-behave-turn-rest-00).
//!
//! Owns the secrets once they are read; the only file access is [`Account::open`]. What it gives never shows in a log.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ring::hmac;

use super::{Credentials, IceServer};
use crate::private_file::read_plain;

/// How long a password lasts that is made of a shared secret: longer than any lesson, and relays refresh their allocations by it.
const LIFETIME: Duration = Duration::from_secs(12 * 3600);
/// The most that a file of a password or a secret has.
const MOST_BYTES: u64 = 4096;

/// How to sign in at one server, its secret read.
#[derive(Clone, PartialEq, Eq)]
pub enum Account {
    /// Not at all.
    None,
    /// By a name and a password that last.
    LongTerm(Login),
    /// By passwords made of this secret.
    Shared(String),
}

/// A name and its password.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// The name.
    pub username: String,
    /// The password.
    pub password: String,
}

/// Why a file gives no password or secret.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// The system refused to read it.
    #[error("{path} can't be read: {error}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// It has no one line of text.
    #[error("{path} has to be one line with the {wanted}, at most {MOST_BYTES} bytes, and is not")]
    NotALine {
        /// The file.
        path: PathBuf,
        /// Password or secret.
        wanted: &'static str,
    },
}

impl Account {
    /// Reads what `credentials` point to.
    ///
    /// # Errors
    /// Where a file can't be read, or is not one line of text.
    pub fn open(credentials: &Credentials) -> Result<Self, AccountError> {
        Ok(match credentials {
            Credentials::None => Self::None,
            Credentials::Told(login) => Self::LongTerm(login.clone()),
            Credentials::LongTerm { user, password_file } => {
                Self::LongTerm(Login { username: user.clone(), password: line_of(password_file, "password")? })
            }
            Credentials::Shared { secret_file } => Self::Shared(line_of(secret_file, "secret")?),
        })
    }

    /// What to sign in with at `now`, the wall time since the Unix epoch; `None` where nobody has to.
    pub fn login(&self, now: Duration) -> Option<Login> {
        self.login_until(now + LIFETIME)
    }

    /// What to sign in with until `expiry`, a time since the Unix epoch, where passwords expire.
    pub fn login_until(&self, expiry: Duration) -> Option<Login> {
        match self {
            Self::None => None,
            Self::LongTerm(login) => Some(login.clone()),
            Self::Shared(secret) => {
                let username = expiry.as_secs().to_string();
                let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret.as_bytes());
                let password = BASE64_STANDARD.encode(hmac::sign(&key, username.as_bytes()));
                Some(Login { username, password })
            }
        }
    }
}

/// The one line of a file, without the spaces around it.
fn line_of(path: &Path, wanted: &'static str) -> Result<String, AccountError> {
    let unreadable = |error| AccountError::Unreadable { path: path.to_owned(), error };
    let not_a_line = || AccountError::NotALine { path: path.to_owned(), wanted };
    let bytes = match read_plain(path, MOST_BYTES) {
        Err(error) if error.kind() == io::ErrorKind::FileTooLarge => return Err(not_a_line()),
        read => read.map_err(unreadable)?,
    };
    let text = std::str::from_utf8(&bytes).map_err(|_| not_a_line())?.trim();
    if text.is_empty() || text.chars().any(char::is_control) {
        return Err(not_a_line());
    }
    Ok(text.to_owned())
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::LongTerm(_) => "LongTerm(…)",
            Self::Shared(_) => "Shared(…)",
        })
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Login(…)")
    }
}

/// The servers that viewers and the daemon use, with how to sign in at each; clones share them.
#[derive(Debug, Clone, Default)]
pub struct IceServers(Arc<[(IceServer, Account)]>);

impl IceServers {
    /// Reads the secrets of `servers`.
    ///
    /// # Errors
    /// Where one of them can't be read.
    pub fn open(servers: &[IceServer]) -> Result<Self, AccountError> {
        let open = |server: &IceServer| Ok((server.clone(), Account::open(&server.credentials)?));
        servers.iter().map(open).collect::<Result<Arc<_>, _>>().map(Self)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Each server, and how to sign in at it.
    pub fn iter(&self) -> impl Iterator<Item = &(IceServer, Account)> {
        self.0.iter()
    }

    /// The values of `Link` headers that tell them to a viewer (RFC 9725, section 4.6), with passwords as they are at `now`.
    pub fn links(&self, now: Duration) -> Vec<String> {
        let quoted = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
        let link = |(server, account): &(IceServer, Account)| {
            let link = format!("<{}>; rel=\"ice-server\"", server.url());
            match account.login(now) {
                None => link,
                Some(Login { username, password }) => {
                    let (username, credential) = (quoted(&username), quoted(&password));
                    format!(
                        "{link}; username=\"{username}\"; credential=\"{credential}\"; credential-type=\"password\""
                    )
                }
            }
        };
        self.0.iter().map(link).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn file(dir: &tempfile::TempDir, name: &str, content: &[u8]) -> String {
        let path = dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.display().to_string()
    }

    fn open(url: &str) -> Result<IceServers, AccountError> {
        IceServers::open(&[IceServer::parse(url).unwrap()])
    }

    #[test]
    fn a_shared_secret_gives_passwords_that_expire() {
        let dir = tempfile::tempdir().unwrap();
        let secret = file(&dir, "secret", b"north\n");
        let servers = open(&format!("turn:relay.example.org?secret-file={secret}")).unwrap();
        let login = |seconds| servers.iter().next().unwrap().1.login(Duration::from_secs(seconds)).unwrap();
        // By `printf 1700043200 | openssl dgst -sha1 -hmac north -binary | base64`.
        let first = login(1_700_000_000);
        assert_eq!((first.username.as_str(), first.password.as_str()), ("1700043200", "PSvXQwCT00HksjK8g6LOQFVjgO8="));
        assert_ne!(login(1_700_000_001), first);
        assert!(!format!("{servers:?} {first:?}").contains("north") && !format!("{first:?}").contains(&first.password));
    }

    #[test]
    fn viewers_are_told_of_servers_by_links() {
        let dir = tempfile::tempdir().unwrap();
        let password = file(&dir, "password", b"  a\"b\\c \n");
        let urls = ["stun:stun.example.org", &format!("turns:relay.example.org?user=me&password-file={password}")];
        let servers: Vec<_> = urls.iter().map(|url| IceServer::parse(url).unwrap()).collect();
        let links = IceServers::open(&servers).unwrap().links(Duration::ZERO);
        assert_eq!(
            links,
            [
                "<stun:stun.example.org:3478>; rel=\"ice-server\"".to_owned(),
                "<turns:relay.example.org:5349?transport=tcp>; rel=\"ice-server\"; username=\"me\"; \
                 credential=\"a\\\"b\\\\c\"; credential-type=\"password\""
                    .to_owned(),
            ]
        );
        assert!(IceServers::default().links(Duration::ZERO).is_empty());
    }

    #[test]
    fn what_is_no_secret_is_refused_with_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("none").display().to_string();
        let long = [b'x'; 5000];
        let bad = [&b""[..], b" \n", b"two\nlines", b"\xff\xfe", &long];
        let files = bad.iter().enumerate().map(|(n, content)| file(&dir, &n.to_string(), content)).chain([missing]);
        for path in files {
            let error = open(&format!("turn:relay?secret-file={path}")).unwrap_err().to_string();
            assert!(error.contains(&path), "{error}");
        }
    }
}
