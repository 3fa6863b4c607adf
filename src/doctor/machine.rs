//! Verdicts on the machine and the installation: config file, running daemon, clock, limits, state directory, service. Pure.

use std::path::{Path, PathBuf};

use super::{Finding, Level, plural};
use crate::config::load::LoadError;
use crate::config::one_line;
use crate::control::client::ClientError;
use crate::control::wire::{Stage, Status};

/// Descriptors with which the daemon serves some hundred viewers, their page and a room.
const ENOUGH_DESCRIPTORS: u64 = 4096;
/// What the media socket asks of the kernel.
const SOCKET_BUFFER: u64 = 4 << 20;
/// What encoders ask for (nice(2)).
const ENCODERS_NICE: i64 = -10;

/// Judges the configuration; `loaded` has the file in use.
pub fn config(loaded: &Result<Option<&Path>, &LoadError>) -> Vec<Finding> {
    match loaded {
        Ok(Some(file)) => vec![Finding::ok("config", one_line(&file.to_string_lossy()))],
        Ok(None) => vec![Finding::ok("config", "there is no config file: the defaults hold")],
        Err(error) => {
            let errors = error.to_string();
            let mut findings: Vec<_> =
                errors.lines().map(|line| Finding::of_error("config", Level::Fail, line)).collect();
            findings.push(Finding::ok("config", "the rest is looked at with the defaults"));
            findings
        }
    }
}

/// Judges the daemon that runs, if one does.
pub fn daemon(found: &Result<Status, ClientError>) -> Vec<Finding> {
    match found {
        Ok(status) => {
            let watching = status.viewers.iter().filter(|viewer| viewer.state == Stage::Connected).count();
            let told = format!("laterna {} runs as {}, {}", status.version, status.name, plural(watching, "viewer"));
            let problems = status.problems.iter();
            let problems = problems.map(|p| Finding::new("daemon", Level::Warn, p.what.clone(), p.advice.clone()));
            std::iter::once(Finding::ok("daemon", told)).chain(problems).collect()
        }
        Err(ClientError::Absent(tried)) => {
            let is_closed = tried.iter().any(|(_, error)| error.kind() == std::io::ErrorKind::PermissionDenied);
            if is_closed {
                let found = "one may run, whose control socket is another user's";
                return vec![Finding::ok("daemon", found).advise("sudo laterna doctor asks it too")];
            }
            vec![Finding::ok("daemon", "none runs, or none that this user may ask")]
        }
        Err(other) => vec![Finding::of_error("daemon", Level::Warn, &other.to_string())],
    }
}

/// Judges the clock; `None` where the system does not say whether it is synchronised.
pub fn clock(is_synchronised: Option<bool>) -> Finding {
    match is_synchronised {
        Some(true) => Finding::ok("clock", "synchronised"),
        Some(false) => Finding::new(
            "clock",
            Level::Warn,
            "not synchronised: certificates and passwords that expire may be refused",
            "sudo timedatectl set-ntp true, or install chrony; in a virtual machine the host may keep it",
        ),
        None => Finding::ok("clock", "the system does not say whether it is synchronised"),
    }
}

/// What the system allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitFacts {
    /// The most descriptors; `None` without a limit.
    pub descriptors: Option<u64>,
    /// The largest buffer of a socket for sending and receiving, in bytes.
    pub buffers: Option<(u64, u64)>,
    /// The lowest nice value that this process may have.
    pub nice: i64,
}

/// Judges the limits.
pub fn limits(facts: &LimitFacts) -> Vec<Finding> {
    let descriptors = match facts.descriptors {
        Some(count) if count < ENOUGH_DESCRIPTORS => Finding::new(
            "limits",
            Level::Warn,
            format!("{count} descriptors at most: there is room for fewer viewers and members of the room"),
            "raise it (LimitNOFILE= of the unit, or /etc/security/limits.conf)",
        ),
        Some(count) => Finding::ok("limits", format!("{count} descriptors")),
        None => Finding::ok("limits", "as many descriptors as it takes"),
    };
    let buffers = facts.buffers.map(|(send, receive)| {
        if send.min(receive) >= SOCKET_BUFFER || facts.nice <= -20 {
            return Finding::ok("limits", "buffers of sockets are large enough");
        }
        let advice = format!(
            "for more than some dozen viewers: sudo sysctl -w net.core.wmem_max={SOCKET_BUFFER} net.core.rmem_max={SOCKET_BUFFER}, and the same in /etc/sysctl.d"
        );
        let found = format!("buffers of sockets have at most {send} bytes to send and {receive} to receive: pictures for many viewers wait");
        Finding::ok("limits", found).advise(advice)
    });
    let nice = if facts.nice <= ENCODERS_NICE {
        Finding::ok("limits", "encoders may go before other programs")
    } else {
        Finding::ok("limits", "encoders have the priority of all programs")
            .advise("on a busy machine: LimitNICE=-10, as the system's unit has it")
    };
    [Some(descriptors), buffers, Some(nice)].into_iter().flatten().collect()
}

/// A file or directory of the daemon's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where.
    pub path: PathBuf,
    /// Its permissions, without the kind.
    pub mode: u32,
    /// Whose it is.
    pub uid: u32,
    /// Whether it is a directory.
    pub is_directory: bool,
    /// Whether it is a plain file.
    pub is_file: bool,
}

/// What is known of the state directory.
#[derive(Debug, Clone)]
pub struct StateFacts {
    /// Where it is to be; `None` where the environment names none.
    pub directory: Option<PathBuf>,
    /// What is there, if anything, and whether this user may write there.
    pub found: Option<(Entry, bool)>,
    /// Whether it can be made where it is not there.
    pub can_be_made: bool,
    /// The files with secrets that are there.
    pub secrets: Vec<Entry>,
    /// Who asks.
    pub uid: u32,
}

/// Judges the state directory.
pub fn state(facts: &StateFacts) -> Vec<Finding> {
    let Some(directory) = &facts.directory else {
        let found = "there is no state directory: the code and the certificate last for one run";
        return vec![Finding::new("state", Level::Warn, found, "set HOME, XDG_STATE_HOME or STATE_DIRECTORY")];
    };
    let shown = one_line(&directory.to_string_lossy());
    let mut findings = vec![match &facts.found {
        None if facts.can_be_made => Finding::ok("state", format!("{shown} will be made at the first start")),
        None => Finding::new(
            "state",
            Level::Warn,
            format!("{shown} is not there, and can't be made: the code and the certificate last for one run"),
            "make it writable for this user, or set STATE_DIRECTORY to another",
        ),
        Some((entry, _)) if !entry.is_directory => {
            Finding::new("state", Level::Warn, format!("{shown} is no directory"), "move what is there away")
        }
        Some((_, false)) => Finding::new(
            "state",
            Level::Warn,
            format!("{shown} can't be written: a new code or certificate lasts for one run"),
            format!("sudo chown $USER {shown}"),
        ),
        Some((entry, true)) if entry.mode & 0o022 != 0 => Finding::new(
            "state",
            Level::Warn,
            format!("others may write in {shown} ({:03o}), and so change who may watch", entry.mode),
            format!("chmod 700 {shown}"),
        ),
        Some((_, true)) => Finding::ok("state", shown.clone()),
    }];
    for secret in &facts.secrets {
        let path = one_line(&secret.path.to_string_lossy());
        if !secret.is_file {
            let found = format!("{path} is no plain file: the daemon does not use it");
            findings.push(Finding::new("state", Level::Warn, found, format!("rm -r {path}, and a fresh one is made")));
        } else if secret.mode & 0o077 != 0 {
            let found = format!("others may read {path} ({:03o}), which is a secret", secret.mode);
            findings.push(Finding::new("state", Level::Warn, found, format!("chmod 600 {path}")));
        } else if secret.uid != facts.uid && facts.uid != 0 {
            let found = format!("{path} is the user {}'s: a daemon of this user can't use it", secret.uid);
            findings.push(Finding::new("state", Level::Warn, found, format!("sudo chown $USER {path}")));
        }
    }
    findings
}

/// A unit of the service manager.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unit {
    /// Whether it is installed.
    pub is_loaded: bool,
    /// Whether it starts by itself.
    pub is_enabled: bool,
    /// Its state, as systemd calls it.
    pub active: String,
}

/// Reads what `systemctl show --property=LoadState,UnitFileState,ActiveState` says of a unit.
pub fn unit(text: &str) -> Unit {
    let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=')).unwrap_or_default();
    Unit {
        is_loaded: value("LoadState") == "loaded",
        is_enabled: value("UnitFileState").starts_with("enabled"),
        active: value("ActiveState").to_owned(),
    }
}

/// What is known of the units: the system's and this user's; `None` where that manager does not answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnitFacts {
    /// That of the whole machine.
    pub system: Option<Unit>,
    /// That of this user's desktop.
    pub user: Option<Unit>,
}

/// Judges the units.
pub fn units(facts: &UnitFacts) -> Finding {
    let units = [("the machine's", "", &facts.system), ("this user's", "--user ", &facts.user)];
    let loaded = || {
        units.iter().filter_map(|(whose, flag, unit)| Some((whose, flag, unit.as_ref().filter(|unit| unit.is_loaded)?)))
    };
    if facts.system.is_none() && facts.user.is_none() {
        return Finding::ok("service", "no systemd answers: start `laterna run` by other means");
    }
    if let Some((whose, flag, _)) = loaded().find(|(_, _, unit)| unit.active == "failed") {
        let advice = format!("journalctl {flag}-u laterna -n 20 says why; then systemctl {flag}restart laterna");
        return Finding::new("service", Level::Fail, format!("{whose} unit has failed"), advice);
    }
    if loaded().filter(|(_, _, unit)| unit.is_enabled).count() == 2 {
        let advice = "disable one: sudo systemctl disable --now laterna, or systemctl --user disable --now laterna";
        return Finding::new("service", Level::Warn, "both units are enabled, and both have the same ports", advice);
    }
    let told: Vec<_> = loaded()
        .map(|(whose, _, unit)| {
            let enabled = if unit.is_enabled { "enabled" } else { "not enabled" };
            format!("{whose} unit is installed, {enabled}, {}", unit.active)
        })
        .collect();
    if told.is_empty() {
        return Finding::ok("service", "no unit is installed: laterna runs when it is started by hand");
    }
    Finding::ok("service", told.join("; "))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn each_error_of_the_config_is_a_failure_with_its_advice() {
        assert_eq!(config(&Ok(Some(Path::new("/etc/laterna/laterna.toml"))))[0].found, "/etc/laterna/laterna.toml");
        assert_eq!(config(&Ok(None))[0].level, Level::Ok);
        let error = LoadError::Unreadable {
            path: "/x".into(),
            error: std::io::ErrorKind::NotFound.into(),
            advice: "name another",
        };
        let findings = config(&Err(&error));
        assert!(
            findings[0].level == Level::Fail && findings[0].advice.as_deref() == Some("name another"),
            "{findings:?}"
        );
    }

    #[test]
    fn limits_are_told_by_what_they_cost() {
        let good = LimitFacts { descriptors: Some(65536), buffers: Some((SOCKET_BUFFER, SOCKET_BUFFER)), nice: -10 };
        let advised = |facts| limits(&facts).iter().map(|finding| finding.advice.is_some()).collect::<Vec<_>>();
        assert_eq!(advised(good), [false; 3]);
        assert_eq!(advised(LimitFacts { descriptors: Some(256), ..good }), [true, false, false]);
        assert_eq!(advised(LimitFacts { buffers: Some((SOCKET_BUFFER, 1)), ..good }), [false, true, false]);
        assert_eq!(advised(LimitFacts { nice: 0, ..good }), [false, false, true]);
        assert_eq!(limits(&LimitFacts { descriptors: Some(256), ..good })[0].level, Level::Warn);
        assert_eq!(limits(&LimitFacts { buffers: None, descriptors: None, ..good }).len(), 2);
    }

    #[test]
    fn a_state_directory_is_writable_by_its_owner_alone() {
        let entry = |path: &str, mode, uid| Entry {
            path: path.into(),
            mode,
            uid,
            is_directory: path == "/s",
            is_file: path != "/s",
        };
        let facts =
            |found, secrets| StateFacts { directory: Some("/s".into()), found, can_be_made: false, secrets, uid: 1000 };
        let levels = |facts: StateFacts| state(&facts).iter().map(|finding| finding.level).collect::<Vec<_>>();
        let own = || Some((entry("/s", 0o700, 1000), true));
        assert_eq!(levels(facts(own(), vec![entry("/s/code", 0o600, 1000)])), [Level::Ok]);
        assert_eq!(levels(facts(own(), vec![entry("/s/code", 0o644, 1000)])), [Level::Ok, Level::Warn]);
        assert_eq!(levels(facts(own(), vec![entry("/s/code", 0o600, 0)])), [Level::Ok, Level::Warn]);
        assert_eq!(levels(facts(Some((entry("/s", 0o777, 1000), true)), vec![])), [Level::Warn]);
        assert_eq!(levels(facts(Some((entry("/s", 0o700, 0), false)), vec![])), [Level::Warn]);
        assert_eq!(levels(facts(Some((entry("/file", 0o600, 1000), true)), vec![])), [Level::Warn]);
        assert_eq!(levels(facts(None, vec![])), [Level::Warn]);
        assert_eq!(levels(StateFacts { can_be_made: true, ..facts(None, vec![]) }), [Level::Ok]);
        assert_eq!(levels(StateFacts { directory: None, ..facts(None, vec![]) }), [Level::Warn]);
    }

    #[test]
    fn units_are_read_as_systemd_tells_them() {
        let none = unit("LoadState=not-found\nActiveState=inactive\nUnitFileState=\n");
        let enabled = unit("LoadState=loaded\nActiveState=active\nUnitFileState=enabled\n");
        let failed = unit("LoadState=loaded\nActiveState=failed\nUnitFileState=disabled\n");
        assert!(!none.is_loaded && enabled.is_enabled && !failed.is_enabled);
        let judge =
            |system: &Unit, user: &Unit| units(&UnitFacts { system: Some(system.clone()), user: Some(user.clone()) });
        assert_eq!(judge(&none, &none).level, Level::Ok);
        assert!(judge(&enabled, &none).found.contains("the machine's unit is installed, enabled, active"));
        assert_eq!(judge(&enabled, &enabled).level, Level::Warn);
        let broken = judge(&none, &failed);
        assert!(broken.level == Level::Fail && broken.advice.unwrap().contains("journalctl --user -u laterna"));
        assert_eq!(units(&UnitFacts::default()).level, Level::Ok);
    }

    #[test]
    fn the_clock_is_synchronised_or_not_or_nobody_says() {
        assert_eq!([Some(true), Some(false), None].map(|said| clock(said).level), [Level::Ok, Level::Warn, Level::Ok]);
    }

    #[test]
    fn a_daemon_that_is_not_there_is_no_failure() {
        let absent = |kind: std::io::ErrorKind| Err(ClientError::Absent(vec![("/x".into(), kind.into())]));
        assert_eq!(daemon(&absent(std::io::ErrorKind::NotFound))[0].level, Level::Ok);
        assert!(daemon(&absent(std::io::ErrorKind::PermissionDenied))[0].advice.is_some());
        let lost = Err(ClientError::Lost { path: "/x".into(), why: "nothing came".into() });
        assert_eq!(daemon(&lost)[0].level, Level::Warn);
    }
}
