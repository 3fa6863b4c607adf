//! Files of the state directory that nobody else may read: made whole or not at all, never through a link.

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::id::random_base32;

const DIRECTORY: &str = "a directory";

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
    let not_a_file = |found| FileError::NotAFile { path: path.to_owned(), found };
    let (file, metadata) = match open(path, libc::O_NOFOLLOW) {
        Ok(opened) => opened,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if error.raw_os_error() == Some(libc::ELOOP) => return Err(not_a_file("a symbolic link")),
        Err(error) => return Err(failed("can't be opened")(error)),
    };
    if let Some(found) = found_instead(&metadata) {
        return Err(not_a_file(found));
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
    let (file, metadata) = open(path, 0)?;
    let is_null = metadata.file_type().is_char_device() && metadata.rdev() == libc::makedev(1, 3);
    match found_instead(&metadata).filter(|_| !is_null) {
        None => {}
        Some(DIRECTORY) => return Err(io::ErrorKind::IsADirectory.into()),
        Some(found) => {
            let why = format!("{found} where a plain file must be");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
    }
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("more than {most} bytes")));
    }
    Ok(bytes)
}

/// Warns where others than its owner may look into a directory that has secrets in it, or put something there. It keeps its mode, which its owner
/// may have a reason for: the secrets in it are their owner's alone anyway.
pub fn warn_of_others(directory: &Path) {
    let Ok(metadata) = fs::metadata(directory) else { return };
    let is_empty = fs::read_dir(directory).is_ok_and(|mut entries| entries.next().is_none());
    if metadata.mode() & 0o066 != 0 && !is_empty {
        let mode = format!("{:03o}", metadata.mode() & 0o777);
        tracing::warn!(path = %directory.display(), mode, "secrets are kept in a directory that others can read or change; chmod 700 it");
    }
}

/// Opens a file to be read, and looks what it is. It waits for nobody: a named pipe must not hang the start.
fn open(path: &Path, flags: i32) -> io::Result<(File, Metadata)> {
    let flags = flags | libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_CLOEXEC;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let metadata = file.metadata()?;
    Ok((file, metadata))
}

/// What is there in the place of a plain file; nothing where it is one.
fn found_instead(metadata: &Metadata) -> Option<&'static str> {
    match metadata.file_type() {
        kind if kind.is_file() => None,
        kind if kind.is_dir() => Some(DIRECTORY),
        _ => Some("a special file"),
    }
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
