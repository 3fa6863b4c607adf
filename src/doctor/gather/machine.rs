//! Facts of the system and the installation.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::Access;
use rustix::process::{Resource, getrlimit};

use crate::config::AuthConfig;
use crate::doctor::machine::{Entry, LimitFacts, StateFacts, Unit, UnitFacts, unit};
use crate::signaling::access::state_dir;

/// What the system allows.
pub(in crate::doctor) fn limits() -> LimitFacts {
    let number = |path| std::fs::read_to_string(path).ok()?.trim().parse().ok();
    let buffers = number("/proc/sys/net/core/wmem_max").zip(number("/proc/sys/net/core/rmem_max"));
    let is_root = rustix::process::geteuid().is_root();
    // RLIMIT_NICE counts from 1 (nice 19) to 40 (nice -20).
    let ceiling = getrlimit(Resource::Nice).maximum.unwrap_or(40).min(40);
    let nice = if is_root { -20 } else { 20 - i64::try_from(ceiling).unwrap_or(0) };
    LimitFacts { descriptors: getrlimit(Resource::Nofile).maximum, buffers, nice }
}

/// What is in the state directory.
pub(in crate::doctor) fn state(auth: &AuthConfig) -> StateFacts {
    let directory = state_dir();
    let may_write = |path: &Path| rustix::fs::access(path, Access::WRITE_OK | Access::EXEC_OK).is_ok();
    let found = directory.as_deref().and_then(|path| Some(entry(path, &std::fs::metadata(path).ok()?))).map(|entry| {
        let may_write = may_write(&entry.path);
        (entry, may_write)
    });
    let nearest = directory.as_deref().and_then(|path| path.ancestors().find(|path| path.exists()));
    let own = ["code", "tls.pem"].into_iter().filter_map(|name| Some(directory.as_ref()?.join(name)));
    let named: Option<PathBuf> = match auth {
        AuthConfig::Code { file } => file.clone(),
        AuthConfig::None => None,
    };
    StateFacts {
        can_be_made: nearest.is_some_and(may_write),
        found,
        secrets: own
            .chain(named)
            .filter_map(|path| Some(entry(&path, &std::fs::symlink_metadata(&path).ok()?)))
            .collect(),
        uid: rustix::process::geteuid().as_raw(),
        directory,
    }
}

fn entry(path: &Path, metadata: &std::fs::Metadata) -> Entry {
    Entry {
        path: path.to_owned(),
        mode: metadata.mode() & 0o777,
        uid: metadata.uid(),
        is_directory: metadata.is_dir(),
        is_file: metadata.is_file(),
    }
}

/// What systemd knows of the units.
pub(in crate::doctor) fn units() -> UnitFacts {
    let ask = |scope: &[&str]| -> Option<Unit> {
        let properties = ["show", "--property=LoadState,UnitFileState,ActiveState", "laterna.service"];
        let told =
            Command::new("systemctl").args(scope).args(properties).stdin(Stdio::null()).stderr(Stdio::null()).output();
        let told = told.ok().filter(|told| told.status.success())?;
        Some(unit(&String::from_utf8_lossy(&told.stdout))).filter(|unit| !unit.active.is_empty())
    };
    UnitFacts { system: ask(&[]), user: ask(&["--user"]) }
}
