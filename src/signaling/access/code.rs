//! The access code: its form, its file and the directory of the daemon's state.
//!
//! The code is ten lower-case base32 characters (RFC 4648, section 6): 50 bits. It is kept in a file that only its owner reads.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use subtle::ConstantTimeEq;

use crate::id::random_base32;
use crate::private_file::{self, FileError};

/// Characters of a code.
const LENGTH: usize = 10;
/// Characters of a token.
const TOKEN_LEAST: usize = 16;
const TOKEN_MOST: usize = 256;

/// What a viewer shows to be let in. Its text is a secret: `Debug` doesn't write it.
#[derive(Clone, PartialEq, Eq)]
pub struct Code(String);

/// What an operator's program shows. Its text is a secret: `Debug` doesn't write it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

/// Why the code's file can't be used.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// It can't be read or made; the daemon can run with a code for this run.
    #[error(transparent)]
    File(#[from] FileError),
    /// There is no such file, and none is made.
    #[error("{}: no such file; make it, readable by the daemon's user alone", path.display())]
    Absent {
        /// The file asked for.
        path: PathBuf,
    },
    /// The file of a token holds something else.
    #[error("{}: expected {TOKEN_LEAST} to {TOKEN_MOST} characters without spaces on one line, found {found}", path.display())]
    NoToken {
        /// The file asked for.
        path: PathBuf,
        /// What is there instead, without telling it.
        found: String,
    },
    /// The file holds something else.
    #[error(
        "access code {}: expected ten characters of a-z and 2-7, found {found}; write a code into it, or name another file",
        path.display()
    )]
    Content {
        /// The file asked for.
        path: PathBuf,
        /// What is there instead, without telling it.
        found: String,
    },
}

impl Code {
    /// Draws a fresh code.
    pub fn random() -> Self {
        Self(random_base32(LENGTH))
    }

    /// Parses a code; `None` for anything but ten lower-case base32 characters.
    pub fn parse(text: &str) -> Option<Self> {
        let fits = text.len() == LENGTH && text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'2'..=b'7'));
        fits.then(|| Self(text.to_owned()))
    }

    /// The code's text, for the address that is printed.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Compares in a time that doesn't depend on where the texts differ.
    pub fn matches(&self, text: &str) -> bool {
        self.0.as_bytes().ct_eq(text.as_bytes()).into()
    }

    /// Reads the code of the file `path`, or makes the file (0600, in directories of 0700) with a fresh one.
    ///
    /// # Errors
    /// [`AccessError::File`] where it can be neither read nor made, [`AccessError::Content`] where it holds something else.
    pub fn load_or_create(path: &Path) -> Result<Self, AccessError> {
        match Self::load(path)? {
            Some(code) => Ok(code),
            None => match Self::create(path)? {
                Some(code) => Ok(code),
                // Somebody else made it in between: theirs counts.
                None => Self::load(path)?.ok_or_else(|| {
                    let error = io::ErrorKind::NotFound.into();
                    FileError::Io { path: path.to_owned(), what: "it comes and goes", error }.into()
                }),
            },
        }
    }

    /// Reads the code of a file that must be there.
    ///
    /// # Errors
    /// As [`Code::load_or_create`], and where there is none.
    pub fn read(path: &Path) -> Result<Self, AccessError> {
        Self::load(path)?.ok_or_else(|| AccessError::Absent { path: path.to_owned() })
    }

    /// Reads the file; `None` where there is none.
    fn load(path: &Path) -> Result<Option<Self>, AccessError> {
        let Some(line) = read_line(path, 64, "the access code")? else { return Ok(None) };
        match Self::parse(&line) {
            Some(code) => Ok(Some(code)),
            None => Err(AccessError::Content { path: path.to_owned(), found: describe(&line) }),
        }
    }

    /// Makes the file whole or not at all; `None` where it exists by now.
    fn create(path: &Path) -> Result<Option<Self>, AccessError> {
        let code = Self::random();
        let is_ours = private_file::create(path, format!("{}\n", code.reveal()).as_bytes())?;
        Ok(is_ours.then_some(code))
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Code(..)")
    }
}

impl Token {
    /// Reads the token of the file `path`, which must be there.
    ///
    /// # Errors
    /// Where it is not, can't be read, or holds something else.
    pub fn read(path: &Path) -> Result<Self, AccessError> {
        let line = read_line(path, TOKEN_MOST as u64 + 64, "the token")?;
        let line = line.ok_or_else(|| AccessError::Absent { path: path.to_owned() })?;
        let fits = (TOKEN_LEAST..=TOKEN_MOST).contains(&line.len()) && line.bytes().all(|byte| byte.is_ascii_graphic());
        if !fits {
            return Err(AccessError::NoToken {
                path: path.to_owned(),
                found: format!("{} others", line.chars().count()),
            });
        }
        Ok(Self(line))
    }

    /// Compares in a time that doesn't depend on where the texts differ.
    pub fn matches(&self, text: &str) -> bool {
        self.0.as_bytes().ct_eq(text.as_bytes()).into()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// The content of a file of one line, which holds `what`; `None` where there is none.
fn read_line(path: &Path, most: u64, what: &str) -> Result<Option<String>, FileError> {
    let Some(bytes) = private_file::read(path, most, what)? else { return Ok(None) };
    let text = String::from_utf8_lossy(&bytes);
    let line = text.strip_suffix('\n').map_or(&*text, |line| line.strip_suffix('\r').unwrap_or(line));
    Ok(Some(line.to_owned()))
}

fn describe(content: &str) -> String {
    match content.chars().count() {
        0 => "nothing".to_owned(),
        LENGTH => "ten others".to_owned(),
        count => format!("{count} characters"),
    }
}

/// The daemon's state directory by the environment: `$STATE_DIRECTORY`, else `$XDG_STATE_HOME/laterna`, else
/// `~/.local/state/laterna`; `None` where none of them is set.
pub fn state_dir() -> Option<PathBuf> {
    state_dir_of(|name| std::env::var_os(name))
}

pub(super) fn state_dir_of(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let absolute = |value: OsString| Some(PathBuf::from(value)).filter(|path| path.is_absolute());
    // The service manager joins several directories by colons.
    let of_service = variable("STATE_DIRECTORY").and_then(|list| {
        let first = std::os::unix::ffi::OsStrExt::as_bytes(&*list).split(|b| *b == b':').next()?.to_owned();
        absolute(std::os::unix::ffi::OsStringExt::from_vec(first))
    });
    of_service
        .or_else(|| variable("XDG_STATE_HOME").and_then(absolute).map(|home| home.join("laterna")))
        .or_else(|| variable("HOME").and_then(absolute).map(|home| home.join(".local/state/laterna")))
}
