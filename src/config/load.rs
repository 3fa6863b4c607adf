//! Finds the config file, reads it, and puts flags and variables over it.
//!
//! [`layer`] decides and is pure; [`load`] reads the one file that it found.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::setting::Setting;
use super::tables::Tables;
use super::written::{Asked, Place, Written};
use super::{ConfigError, Exit, RunConfig, file, one_line};
use crate::private_file::read_plain;
use crate::signaling::client::url::SignalingUrl;

#[cfg(test)]
mod tests;

/// Where the system's file is.
const SYSTEM_FILE: &str = "/etc/laterna/laterna.toml";
/// What is larger is no config file.
const MOST_BYTES: u64 = 1 << 20;

/// A config file as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Where it is.
    pub path: Arc<Path>,
    /// What is in it.
    pub bytes: Vec<u8>,
}

/// A configuration, and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// What holds.
    pub config: RunConfig,
    /// What was written where.
    pub written: Written,
    /// The config file in use, if there is one.
    pub file: Option<Arc<Path>>,
}

impl Loaded {
    /// Refuses a signaling server that is this daemon's own listener; `is_here` says whether a host is this machine.
    ///
    /// # Errors
    /// Says which one.
    pub fn refuse_own_signaling(&self, is_here: impl Fn(&str) -> bool) -> Result<(), ConfigError> {
        let Some(own) = self.config.own_signaling(is_here) else { return Ok(()) };
        let written = Setting::of("signaling").map(|setting| self.written.given(setting).values);
        let is_own = |asked: &Asked| SignalingUrl::parse(&asked.value).is_ok_and(|url| url == *own);
        match written.into_iter().flatten().find(is_own) {
            None => Ok(()),
            Some(asked) => Err(ConfigError::Invalid {
                asked,
                found: "this is the daemon's own listener, where it is signed in already".to_owned(),
                advice: "to offer to those who join there, use --call joined".to_owned(),
            }),
        }
    }
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file can't be read.
    #[error("config file {}: {error}; {advice}", one_line(&path.to_string_lossy()))]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
        /// What to do.
        advice: &'static str,
    },
    /// It, a variable or a flag makes no sense; a line each.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Invalid(Vec<ConfigError>),
}

impl LoadError {
    /// How the process ends.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Unreadable { .. } => Exit::Failed,
            Self::Invalid(_) => Exit::Usage,
        }
    }
}

/// The places of the file where none is named; the first one that is there is used, and no other.
pub fn places(variable: impl Fn(&str) -> Option<OsString>) -> Vec<PathBuf> {
    let absolute = |name| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let user = absolute("XDG_CONFIG_HOME").or_else(|| absolute("HOME").map(|home| home.join(".config")));
    let user = user.map(|directory| directory.join("laterna/laterna.toml"));
    user.into_iter().chain([PathBuf::from(SYSTEM_FILE)]).collect()
}

/// Loads the configuration that flags and variables (`given`) and the config file say: the file that is `named`, else the first of `places`.
///
/// # Errors
/// Where a file can't be read, or something is written that can't be.
pub fn load(given: &Written, named: Option<&Path>, places: &[PathBuf], hostname: &str) -> Result<Loaded, LoadError> {
    let found = find(named, places)?;
    layer(given, found.as_ref(), hostname).map_err(LoadError::Invalid)
}

fn find(named: Option<&Path>, places: &[PathBuf]) -> Result<Option<Found>, LoadError> {
    if let Some(path) = named {
        let advice = "name one that can be read with --config or LATERNA_CONFIG, or leave that out";
        let bytes = read(path).map_err(|error| LoadError::Unreadable { path: path.to_owned(), error, advice })?;
        return Ok(Some(Found { path: path.into(), bytes }));
    }
    for path in places {
        match read(path) {
            Ok(bytes) => return Ok(Some(Found { path: path.as_path().into(), bytes })),
            Err(error) if is_absent(&error, path.metadata().err().as_ref()) => {}
            Err(error) => {
                let advice = "let this user read it, or name another with --config (/dev/null for none)";
                return Err(LoadError::Unreadable { path: path.clone(), error, advice });
            }
        }
    }
    Ok(None)
}

/// Whether there is no file for this user, by what reading it and looking at it say: also where its directory is closed to the user,
/// as another's home is to whoever keeps its `HOME`.
fn is_absent(reading: &io::Error, looking: Option<&io::Error>) -> bool {
    match reading.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => true,
        io::ErrorKind::PermissionDenied => looking.is_some(),
        _ => false,
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    read_plain(path, MOST_BYTES).map_err(|error| match error.kind() {
        io::ErrorKind::FileTooLarge => io::Error::new(error.kind(), "more than 1 MiB, so no config file"),
        _ => error,
    })
}

/// Puts flags and variables over the content of a file.
///
/// # Errors
/// All that is wrong with the file, also where a flag or variable is over it, and then what is wrong with those.
pub fn layer(given: &Written, found: Option<&Found>, hostname: &str) -> Result<Loaded, Vec<ConfigError>> {
    let (lower, tables, mut errors) = match found {
        Some(found) => match std::str::from_utf8(&found.bytes) {
            Ok(text) => file::parse(&found.path, text),
            Err(error) => (Written::default(), Tables::default(), vec![not_text(found, error.valid_up_to())]),
        },
        None => (Written::default(), Tables::default(), Vec::new()),
    };
    errors.extend(RunConfig::resolve(&lower, hostname).err().unwrap_or_default());
    errors.sort_by_key(|error| error.place().map(|place| (place.line, place.column)));
    let written = given.clone().over(&lower);
    match RunConfig::resolve(&written, hostname) {
        Ok(config) if errors.is_empty() => {
            let config = RunConfig { tables, ..config };
            Ok(Loaded { config, written, file: found.map(|found| found.path.clone()) })
        }
        Ok(_) => Err(errors),
        Err(more) => {
            // Those of the file are known already.
            errors.extend(more.into_iter().filter(|error| error.place().is_none()));
            Err(errors)
        }
    }
}

fn not_text(found: &Found, valid: usize) -> ConfigError {
    let before = String::from_utf8_lossy(&found.bytes[..valid]);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    let place = Place { file: found.path.clone(), line, column };
    ConfigError::File {
        place,
        found: "a byte that is no UTF-8".to_owned(),
        advice: "save the file in UTF-8".to_owned(),
    }
}
