//! Faults that tests ask for: while a file with a fault's name is in the directory that `LATERNA_TEST_FAULTS` names, the fault is there.
//!
//! Without the variable nothing is ever looked at. What is asked of the file system blocks, so only tests have it.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// The variable.
pub const VARIABLE: &str = "LATERNA_TEST_FAULTS";

/// The directory, in a process whose variable is set.
static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();

/// A fault that can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Encoders fail at each picture.
    EncodeError,
    /// An encoder's thread hangs at its next picture, for good.
    EncodeHang,
    /// Whatever is done for the viewer whose number is in the file panics.
    SessionPanic,
}

impl Fault {
    const ALL: [Self; 3] = [Self::EncodeError, Self::EncodeHang, Self::SessionPanic];

    fn file(self) -> &'static str {
        match self {
            Self::EncodeError => "encode-error",
            Self::EncodeHang => "encode-hang",
            Self::SessionPanic => "session-panic",
        }
    }
}

/// Why the variable is refused.
#[derive(Debug, thiserror::Error)]
#[error("{VARIABLE} {0:?}: not the absolute path of a directory; it is for tests only, so leave it unset")]
pub struct HookError(OsString);

/// Takes the variable at the start.
///
/// # Errors
/// Where it names no directory.
pub fn open(asked: Option<OsString>) -> Result<(), HookError> {
    let Some(asked) = asked else { return Ok(()) };
    let directory = PathBuf::from(&asked);
    if !directory.is_absolute() || !directory.is_dir() {
        return Err(HookError(asked));
    }
    let faults = Fault::ALL.map(Fault::file).join(", ");
    tracing::warn!("{VARIABLE}: files in its directory make this daemon fail ({faults}); this is for tests only");
    // A process has one daemon.
    let _ = DIRECTORY.set(directory);
    Ok(())
}

/// Whether a fault is asked for now.
pub fn is_asked(fault: Fault) -> bool {
    DIRECTORY.get().is_some_and(|directory| directory.join(fault.file()).exists())
}

/// Whether a fault is asked for now of what has this number.
pub fn is_asked_of(fault: Fault, number: u32) -> bool {
    DIRECTORY.get().is_some_and(|directory| names(&directory.join(fault.file()), number))
}

/// Does not return where this fault is asked for now.
pub fn hang_if_asked(fault: Fault) {
    if is_asked(fault) {
        loop {
            std::thread::park();
        }
    }
}

fn names(file: &Path, number: u32) -> bool {
    fs::read_to_string(file).is_ok_and(|text| text.trim().parse() == Ok(number))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn nothing_is_asked_without_the_variable_and_no_directory_is_refused() {
        open(None).unwrap();
        assert!(!Fault::ALL.into_iter().any(|fault| is_asked(fault) || is_asked_of(fault, 1)));
        for wrong in ["", "encode-error", "1", "/nowhere/at/all", "src"] {
            let error = open(Some(wrong.into())).unwrap_err().to_string();
            assert!(error.contains(VARIABLE) && error.contains("leave it unset"), "{error}");
        }
    }

    #[test]
    fn a_file_names_one_number() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("session-panic");
        assert!(!names(&file, 2));
        fs::write(&file, "2\n").unwrap();
        assert!(names(&file, 2) && !names(&file, 22));
    }
}
