//! The access code: its form, its file and the directory of the daemon's state.
//!
//! The code is ten lower-case base32 characters (RFC 4648, section 6): 50 bits. It is kept in a file that only its owner reads.

use std::ffi::OsString;
use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use subtle::ConstantTimeEq;

use crate::id::random_base32;

/// Characters of a code.
const LENGTH: usize = 10;

/// What a viewer shows to be let in. Its text is a secret: `Debug` doesn't write it.
#[derive(Clone, PartialEq, Eq)]
pub struct Code(String);

/// Why the code's file can't be used.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// The operating system refuses something; the daemon can run with a code for this run.
    #[error("access code {}: {what}: {error}", path.display())]
    Io {
        /// The file asked for.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// What the system said.
        error: io::Error,
    },
    /// The file is a symbolic link or no file at all.
    #[error("access code {}: found {found} where a plain file must be; name a file, which is made with a fresh code if it is absent", path.display())]
    NotAFile {
        /// The file asked for.
        path: PathBuf,
        /// What is there instead.
        found: &'static str,
    },
    /// The file holds something else.
    #[error(
        "access code {}: expected ten characters of a-z and 2-7, found {found}; remove the file, and a fresh code is made",
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
    /// [`AccessError::Io`] where the file can be neither read nor made; the others where something else is there.
    pub fn load_or_create(path: &Path) -> Result<Self, AccessError> {
        match Self::load(path)? {
            Some(code) => Ok(code),
            None => match Self::create(path)? {
                Some(code) => Ok(code),
                // Somebody else made it in between: theirs counts.
                None => Self::load(path)?.ok_or_else(|| AccessError::Io {
                    path: path.to_owned(),
                    what: "it comes and goes",
                    error: io::ErrorKind::NotFound.into(),
                }),
            },
        }
    }

    /// Reads the file; `None` where there is none.
    fn load(path: &Path) -> Result<Option<Self>, AccessError> {
        let failed = |what| move |error| AccessError::Io { path: path.to_owned(), what, error };
        // Not blocking: a named pipe must not hang the start.
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC;
        let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) if error.raw_os_error() == Some(libc::ELOOP) => {
                return Err(AccessError::NotAFile { path: path.to_owned(), found: "a symbolic link" });
            }
            Err(error) => return Err(failed("can't be opened")(error)),
        };
        let metadata = file.metadata().map_err(failed("can't be examined"))?;
        if !metadata.is_file() {
            let found = if metadata.is_dir() { "a directory" } else { "a special file" };
            return Err(AccessError::NotAFile { path: path.to_owned(), found });
        }
        if metadata.mode() & 0o004 != 0 {
            tracing::warn!(path = %path.display(), "every user of this machine can read the access code; chmod 600 it");
        }
        let mut bytes = Vec::new();
        file.take(64).read_to_end(&mut bytes).map_err(failed("can't be read"))?;
        let text = String::from_utf8_lossy(&bytes);
        let line = text.strip_suffix('\n').map_or(&*text, |line| line.strip_suffix('\r').unwrap_or(line));
        match Self::parse(line) {
            Some(code) => Ok(Some(code)),
            None => Err(AccessError::Content { path: path.to_owned(), found: describe(line) }),
        }
    }

    /// Makes the file whole or not at all; `None` where it exists by now.
    fn create(path: &Path) -> Result<Option<Self>, AccessError> {
        let failed = |what| move |error| AccessError::Io { path: path.to_owned(), what, error };
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(failed("its directory can't be made"))?;
        let code = Self::random();
        let fresh = directory.join(format!(".code-{}", random_base32(LENGTH)));
        let written = write_new(&fresh, &code).map_err(failed("can't be written"));
        // A link, unlike a rename, doesn't replace what somebody else made in between.
        let linked = written.and_then(|()| match fs::hard_link(&fresh, path) {
            Ok(()) => Ok(Some(code)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(None),
            Err(error) => Err(failed("can't be put in place")(error)),
        });
        // Whatever came of it, the file under its first name has served.
        if let Err(error) = fs::remove_file(&fresh)
            && linked.is_ok()
        {
            tracing::warn!(path = %fresh.display(), %error, "a left-over file can't be removed");
        }
        linked
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Code(..)")
    }
}

fn write_new(path: &Path, code: &Code) -> io::Result<()> {
    let flags = libc::O_NOFOLLOW | libc::O_CLOEXEC;
    let mut file: File = OpenOptions::new().write(true).create_new(true).mode(0o600).custom_flags(flags).open(path)?;
    file.write_all(format!("{}\n", code.reveal()).as_bytes())?;
    file.sync_all()
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
