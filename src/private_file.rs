//! Files of the state directory that nobody else may read: made whole or not at all, never through a link.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::id::random_base32;

/// What is wrong with such a file.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The system refuses something.
    #[error("{}: {what}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What could not be done.
        what: &'static str,
        /// What the system said.
        error: io::Error,
    },
    /// Something else is there.
    #[error("{}: found {found} where a plain file must be; remove it, or name another", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
        /// What it is.
        found: &'static str,
    },
}

/// Reads at most `most` bytes of a file; `None` where there is none. Warns where every user of the machine can read it, which holds `what`.
///
/// # Errors
/// Where it can't be read, or is no file.
pub fn read(path: &Path, most: u64, what: &str) -> Result<Option<Vec<u8>>, FileError> {
    let failed = |what| move |error| FileError::Io { path: path.to_owned(), what, error };
    // Not blocking: a named pipe must not hang the start.
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC;
    let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if error.raw_os_error() == Some(libc::ELOOP) => {
            return Err(FileError::NotAFile { path: path.to_owned(), found: "a symbolic link" });
        }
        Err(error) => return Err(failed("can't be opened")(error)),
    };
    let metadata = file.metadata().map_err(failed("can't be examined"))?;
    if !metadata.is_file() {
        let found = if metadata.is_dir() { "a directory" } else { "a special file" };
        return Err(FileError::NotAFile { path: path.to_owned(), found });
    }
    if metadata.mode() & 0o004 != 0 {
        tracing::warn!(path = %path.display(), "every user of this machine can read {what}; chmod 600 it");
    }
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes).map_err(failed("can't be read"))?;
    Ok(Some(bytes))
}

/// Reads at most `most` bytes of a plain file, also where links lead to it; whatever could keep the reader waiting is refused, but for `/dev/null`.
///
/// # Errors
/// Where it can't be read, is larger, or is no file.
pub fn read_plain(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)?;
    let metadata = file.metadata()?;
    let is_null = metadata.file_type().is_char_device() && metadata.rdev() == libc::makedev(1, 3);
    if metadata.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    if !metadata.is_file() && !is_null {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a special file where a plain file must be"));
    }
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("more than {most} bytes")));
    }
    Ok(bytes)
}

/// Makes a file (0600, in directories of 0700) with `content`; returns whether it did: not where there is one by now.
///
/// # Errors
/// Where it can't be made.
pub fn create(path: &Path, content: &[u8]) -> Result<bool, FileError> {
    let failed = |what| move |error| FileError::Io { path: path.to_owned(), what, error };
    let directory = directory_of(path);
    DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed("its directory can't be made"))?;
    let fresh = directory.join(format!(".laterna-{}", random_base32(10)));
    let written = write_new(&fresh, content).map_err(failed("can't be written"));
    // A link, unlike a rename, doesn't replace what somebody else made in between.
    let linked = written.and_then(|()| match fs::hard_link(&fresh, path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
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

/// Puts a file (0600, in directories of 0700) with `content` in the place of the one that may be there, whole or not at all.
///
/// # Errors
/// Where it can't be made; what was there is there still.
pub fn replace(path: &Path, content: &[u8]) -> Result<(), FileError> {
    let failed = |what| move |error| FileError::Io { path: path.to_owned(), what, error };
    let directory = directory_of(path);
    DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed("its directory can't be made"))?;
    let fresh = directory.join(format!(".laterna-{}", random_base32(10)));
    let written = write_new(&fresh, content).map_err(failed("can't be written"));
    // A rename replaces a link itself, not what it leads to.
    let placed = written.and_then(|()| fs::rename(&fresh, path).map_err(failed("can't be put in place")));
    if placed.is_err() {
        // It may never have been made.
        let _ = fs::remove_file(&fresh);
    }
    placed
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn write_new(path: &Path, content: &[u8]) -> io::Result<()> {
    let flags = libc::O_NOFOLLOW | libc::O_CLOEXEC;
    let mut file: File = OpenOptions::new().write(true).create_new(true).mode(0o600).custom_flags(flags).open(path)?;
    file.write_all(content)?;
    file.sync_all()
}
