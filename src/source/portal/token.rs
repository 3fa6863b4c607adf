//! The restore token: what the portal hands out so that it need not ask again (`restore_token` of org.freedesktop.portal.ScreenCast).
//!
//! A token is good for one start, which hands out the next; so the file is written at each start. Whoever reads it gains nothing without
//! this user's session bus, but it is nobody else's business either.

use std::path::{Path, PathBuf};

use tracing::warn;

use crate::private_file;

/// The file's name in the state directory.
const NAME: &str = "portal-token";
/// No portal's token is longer.
const MOST: u64 = 4096;

/// Where the token is kept, and the token where that is nowhere.
#[derive(Debug)]
pub(super) struct Keeper {
    path: Option<PathBuf>,
    held: Option<String>,
}

impl Keeper {
    /// Keeps the token in a state directory, or for this run only.
    pub(super) fn new(state: Option<&Path>) -> Self {
        Self { path: state.map(|directory| directory.join(NAME)), held: None }
    }

    /// The token to start with; read anew, since another source may have started since.
    pub(super) fn token(&self) -> Option<String> {
        let Some(path) = &self.path else { return self.held.clone() };
        match private_file::read(path, MOST, "the portal's permission") {
            Ok(bytes) => bytes.and_then(parse),
            Err(error) => {
                warn!("{error}; the desktop may ask again which screen to share");
                None
            }
        }
    }

    /// Keeps what the last start handed out; none where the next start has to ask.
    pub(super) fn keep(&mut self, token: Option<String>) {
        self.held = token;
        let Some(path) = &self.path else { return };
        match &self.held {
            Some(token) => {
                if let Err(error) = private_file::replace(path, format!("{token}\n").as_bytes()) {
                    warn!("{error}; the desktop will ask again which screen to share");
                }
            }
            None => match std::fs::remove_file(path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    warn!(path = %path.display(), %error, "a permission that holds no more can't be removed");
                }
                _ => {}
            },
        }
    }
}

/// The token in a file's bytes: one line of printable characters.
fn parse(bytes: Vec<u8>) -> Option<String> {
    let text = String::from_utf8(bytes).ok()?;
    let token = text.trim();
    (!token.is_empty() && !token.contains(char::is_control)).then(|| token.to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_token_is_kept_for_the_next_run_and_its_successor_replaces_it() {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("state");
        let mut keeper = Keeper::new(Some(&state));
        assert_eq!(keeper.token(), None);
        keeper.keep(Some("3f-first".to_owned()));
        assert_eq!(Keeper::new(Some(&state)).token().as_deref(), Some("3f-first"));
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&state), mode(&state.join(NAME))), (0o700, 0o600));
        Keeper::new(Some(&state)).keep(Some("second".to_owned()));
        assert_eq!(keeper.token().as_deref(), Some("second"), "what another source kept");
        keeper.keep(None);
        assert_eq!(keeper.token(), None);
        assert!(!state.join(NAME).exists());
        keeper.keep(None);
    }

    #[test]
    fn without_a_state_directory_it_is_kept_for_the_run() {
        let mut keeper = Keeper::new(None);
        keeper.keep(Some("one".to_owned()));
        assert_eq!(keeper.token().as_deref(), Some("one"));
        assert_eq!(Keeper::new(None).token(), None);
    }

    #[test]
    fn what_is_no_token_is_none() {
        for bytes in [&b""[..], b" \n", b"a\nb", b"\xff\xfe", b"a\0b"] {
            assert_eq!(parse(bytes.to_vec()), None, "{bytes:?}");
        }
        assert_eq!(parse(b"abc\n".to_vec()).as_deref(), Some("abc"));
        let directory = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/etc/hostname", directory.path().join(NAME)).unwrap();
        assert_eq!(Keeper::new(Some(directory.path())).token(), None, "never through a link");
    }
}
