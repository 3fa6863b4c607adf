//! The bearer token for a server (RFC 6750), read from `?token-file=`: a secret, which no log and no error shows.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use reqwest::header::HeaderValue;

/// The longest token, and some space around it.
const MOST_BYTES: u64 = 8192;

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file can't be read.
    #[error("the token file {path} can't be read: {error}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// It holds something else.
    #[error("the token file {path} holds no token: one line of visible ASCII is expected")]
    Content {
        /// The file.
        path: PathBuf,
    },
}

/// Reads the token in `path`, as the value of the header `Authorization` that has it. It blocks.
///
/// # Errors
/// Where the file can't be read or holds none.
pub(super) fn bearer(path: &Path) -> Result<HeaderValue, TokenError> {
    let unreadable = |error| TokenError::File { path: path.to_owned(), error };
    let none = || TokenError::Content { path: path.to_owned() };
    // A pipe or a device may never end.
    let about = std::fs::metadata(path).map_err(unreadable)?;
    if !about.is_file() || about.len() > MOST_BYTES {
        return Err(none());
    }
    let mut text = String::new();
    let file = std::fs::File::open(path);
    file.and_then(|file| file.take(MOST_BYTES).read_to_string(&mut text)).map_err(unreadable)?;
    let token = text.trim();
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(none());
    }
    let mut header = HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| none())?;
    header.set_sensitive(true);
    Ok(header)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_token_is_one_line_and_no_error_shows_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        assert!(matches!(bearer(&path), Err(TokenError::File { .. })));
        std::fs::write(&path, " s3cret~+/=\n").unwrap();
        let header = bearer(&path).unwrap();
        assert!(header == "Bearer s3cret~+/=" && !format!("{header:?}").contains("s3cret"));
        assert!(matches!(bearer(directory.path()), Err(TokenError::Content { .. })));
        for bad in ["", "\n", "s3cret s3cret", "s3cret\r\nX-Header: 1", "s3crét"] {
            std::fs::write(&path, bad).unwrap();
            let error = bearer(&path).unwrap_err().to_string();
            assert!(error.contains("token file") && !error.contains("s3cr"), "{error}");
        }
    }
}
