//! Refusals: why a camera can't be had, in words for people, with what to do.
//!
//! Owns the words, and the look at who else has a device open. It opens none.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::mode::Pixels;

/// The programs that are named at most.
const MOST_NAMED: usize = 3;

/// Why a camera can't be had.
#[derive(Debug)]
pub(super) enum Refusal {
    /// There is no such file.
    Absent,
    /// It may not be opened.
    Denied {
        /// The group that may.
        group: Option<String>,
    },
    /// Another program captures from it.
    Busy {
        /// The programs that have it open, as far as they can be seen.
        by: Vec<String>,
    },
    /// It is no camera.
    NoCapture {
        /// What it is.
        is: String,
    },
    /// It gives nothing that can be shown.
    NoFormat {
        /// Its formats.
        has: Vec<String>,
    },
    /// It is not the one that is looked for.
    Another,
    /// The system refuses something.
    System {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        error: io::Error,
    },
}

impl Refusal {
    /// What an error of the system means, that came of trying `what` with a device.
    pub(super) fn from_error(what: &'static str, path: &Path, error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => Self::Absent,
            Some(libc::EACCES | libc::EPERM) => Self::Denied { group: group_of(path) },
            Some(libc::EBUSY) => Self::Busy { by: holders(path) },
            Some(libc::ENOTTY) => Self::NoCapture { is: "no camera".to_owned() },
            _ => Self::System { what, error },
        }
    }

    /// What was found, of a device.
    pub(super) fn found(&self, path: &Path) -> String {
        let path = path.display();
        match self {
            Self::Absent => format!("there is no {path}"),
            Self::Denied { .. } => format!("{path} may not be opened (permission denied)"),
            Self::Busy { by } if by.is_empty() => format!("{path} is in use by another program"),
            Self::Busy { by } => format!("{path} is in use by {}", by.join(" and ")),
            Self::NoCapture { is } => format!("{path} is {is}"),
            Self::NoFormat { has } if has.is_empty() => format!("{path} has no format"),
            Self::NoFormat { has } => format!("{path} gives {} only", has.join(", ")),
            Self::Another => format!("{path} is another camera"),
            Self::System { what, error } => format!("{path}: {what}: {error}"),
        }
    }

    /// What to do about it; `others` are the cameras that are there.
    pub(super) fn advice(&self, others: &[String]) -> String {
        let named = || match others {
            [] => "plug a camera in, or use another source".to_owned(),
            others => format!("use one that is there: {}", others.join(", ")),
        };
        match self {
            Self::Absent | Self::NoCapture { .. } | Self::Another => named(),
            Self::Denied { group } => {
                let group = group.as_deref().unwrap_or("video");
                format!(
                    "its group {group} may: sudo usermod -aG {group} $USER, and log in again (the service has it already)"
                )
            }
            Self::Busy { by } if by.is_empty() => {
                "end that program (root sees which: sudo fuser -v /dev/video*), or use another source".to_owned()
            }
            Self::Busy { .. } => "end that program, or use another source".to_owned(),
            Self::NoFormat { .. } => {
                format!("use a camera that gives one of {}", Pixels::ALL.map(|pixels| pixels.to_string()).join(", "))
            }
            Self::System { .. } => "unplug it and plug it in again, and look into the kernel's log (dmesg)".to_owned(),
        }
    }
}

/// The group that a file belongs to.
fn group_of(path: &Path) -> Option<String> {
    let group = nix::unistd::Gid::from_raw(std::fs::metadata(path).ok()?.gid());
    // What root alone has is nobody's to join.
    let group = nix::unistd::Group::from_gid(group).ok()??.name;
    (group != "root").then_some(group)
}

/// The programs that have a device open, as far as we may look: `cheese (pid 4711)`.
pub(super) fn holders(path: &Path) -> Vec<String> {
    let Ok(device) = path.canonicalize() else { return Vec::new() };
    let own = std::process::id();
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbered = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let has_it = |pid: &u32| {
        let open = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        open.into_iter().any(|entry| std::fs::read_link(entry.path()).is_ok_and(|target| target == device))
    };
    let name = |pid: u32| {
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm"));
        name.map_or_else(|_| format!("pid {pid}"), |name| format!("{} (pid {pid})", name.trim()))
    };
    numbered.filter(|pid| *pid != own).filter(has_it).take(MOST_NAMED).map(name).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::path::PathBuf;
    use std::process::{Command, Stdio};

    use super::*;

    fn error(code: i32) -> Refusal {
        Refusal::from_error("opening it", Path::new("/dev/null"), io::Error::from_raw_os_error(code))
    }

    #[test]
    fn each_error_of_the_system_is_told_with_what_to_do() {
        let path = PathBuf::from("/dev/video5");
        let others = ["camera:/dev/video0".to_owned()];
        for (refusal, found, advice) in [
            (error(libc::ENOENT), "there is no /dev/video5", "use one that is there: camera:/dev/video0"),
            (error(libc::EACCES), "permission denied", "usermod -aG video "),
            (error(libc::ENOTTY), "/dev/video5 is no camera", "camera:/dev/video0"),
            (error(libc::EIO), "/dev/video5: opening it: Input/output error", "dmesg"),
            (Refusal::Busy { by: Vec::new() }, "in use by another program", "fuser"),
            (Refusal::Busy { by: vec!["cheese (pid 7)".to_owned()] }, "in use by cheese (pid 7)", "end that program"),
            (Refusal::NoFormat { has: vec!["H264".to_owned(), "Y8".to_owned()] }, "gives H264, Y8 only", "YUYV"),
        ] {
            assert!(refusal.found(&path).contains(found), "{}", refusal.found(&path));
            assert!(refusal.advice(&others).contains(advice), "{}", refusal.advice(&others));
        }
        assert!(error(libc::ENODEV).advice(&[]).contains("plug a camera in"));
        assert!(matches!(error(libc::EBUSY), Refusal::Busy { .. }));
    }

    #[test]
    fn a_program_that_has_a_file_open_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let other = std::fs::File::open(file.path()).unwrap();
        let mut child = Command::new("sleep").arg("60").stdin(Stdio::from(other)).spawn().unwrap();
        // It is `sleep` once it has begun to be.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        let expected = [format!("sleep (pid {})", child.id())];
        while holders(file.path()) != expected {
            assert!(std::time::Instant::now() < deadline, "{:?}", holders(file.path()));
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
