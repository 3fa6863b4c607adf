//! The unit files and the autostart file: that systemd takes them, that the system unit is closed enough, and that what they start is a command.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use laterna::cli::{self, Invocation};
use tempfile::TempDir;

use crate::support::daemon::binary;

const SYSTEM: &str = include_str!("../../systemd/laterna.service");
const USER: &str = include_str!("../../systemd/user/laterna.service");
const AUTOSTART: &str = include_str!("../../systemd/laterna.desktop");
const INSTALLED: &str = "/usr/bin/laterna";
/// Ten times what issue 5 allows the system unit.
const MOST_EXPOSED: &str = "--threshold=20";

/// The values of each key of a section, in their order.
type Section<'a> = BTreeMap<&'a str, Vec<&'a str>>;

fn sections(text: &str) -> BTreeMap<&str, Section<'_>> {
    let mut sections = BTreeMap::<&str, Section<'_>>::new();
    let mut section = None;
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            assert!(sections.insert(name, Section::new()).is_none(), "[{name}] twice");
            section = Some(name);
            continue;
        }
        let (key, value) = line.split_once('=').unwrap_or_else(|| panic!("no key: {line}"));
        let section = sections.get_mut(section.unwrap_or_else(|| panic!("in no section: {line}"))).unwrap();
        section.entry(key).or_default().push(value);
    }
    sections
}

/// The unit as it would be installed, with the daemon that was built.
fn built(unit: &str) -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("laterna.service");
    fs::write(&path, unit.replace(INSTALLED, binary().to_str().unwrap())).unwrap();
    (directory, path)
}

/// systemd's own judgement; `None` where there is no systemd.
fn analysed(args: &[&str], unit: &Path, runtime: &Path) -> Option<(bool, String)> {
    let mut command = Command::new("systemd-analyze");
    command.args(["--no-pager", "--man=no"]).args(args).arg(unit);
    match command.env("XDG_RUNTIME_DIR", runtime).env("SYSTEMD_COLORS", "0").output() {
        Ok(Output { status, stdout, stderr }) => {
            Some((status.success(), String::from_utf8_lossy(&stdout).into_owned() + &String::from_utf8_lossy(&stderr)))
        }
        Err(error) => {
            println!("systemd-analyze: {error}: the unit is not checked by it");
            None
        }
    }
}

#[test]
fn systemd_takes_both_units_without_a_word() {
    for (unit, args) in [(SYSTEM, &["verify"][..]), (USER, &["--user", "verify"])] {
        let (directory, path) = built(unit);
        if let Some(said) = analysed(args, &path, directory.path()) {
            assert_eq!(said, (true, String::new()), "{args:?}");
        }
        // It does say so where something is wrong.
        fs::write(&path, unit.replace("[Service]", "[Service]\nMoonlight=yes")).unwrap();
        if let Some((_, said)) = analysed(args, &path, directory.path()) {
            assert!(said.contains("Moonlight"), "{args:?}: {said}");
        }
    }
}

#[test]
fn the_system_unit_is_closed_enough() {
    let (directory, path) = built(SYSTEM);
    if let Some((passed, said)) = analysed(&["security", "--offline=true", MOST_EXPOSED], &path, directory.path()) {
        println!("{}", said.lines().last().unwrap_or_default());
        assert!(passed, "{said}");
    }
}

#[test]
fn units_start_a_command_of_this_version_and_are_watched() {
    for unit in [SYSTEM, USER] {
        let sections = sections(unit);
        assert_eq!(sections.keys().copied().collect::<Vec<_>>(), ["Install", "Service", "Unit"]);
        let service = &sections["Service"];
        let words = service["ExecStart"][0].split_whitespace();
        assert!(matches!(cli::parse(words.map(Into::into)), Ok(Invocation::Run(_))), "{service:?}");
        assert!(service["ExecStart"][0].starts_with(INSTALLED));
        let settings = [
            ("Type", "notify"),
            ("NotifyAccess", "main"),
            ("WatchdogSec", "30"),
            ("Restart", "on-failure"),
            ("RestartPreventExitStatus", "2"),
            ("StandardOutput", "null"),
            ("StandardError", "journal"),
        ];
        for (key, value) in settings {
            assert_eq!(service[key], [value], "{key}");
        }
        assert_eq!(service["ExecReload"], ["/usr/bin/laterna config check", "kill -HUP $MAINPID"]);
    }
    let user = sections(USER);
    assert_eq!(user["Unit"]["PartOf"], ["graphical-session.target"]);
    assert_eq!(user["Install"]["WantedBy"], ["graphical-session.target"]);
    assert_eq!(sections(SYSTEM)["Install"]["WantedBy"], ["multi-user.target"]);
}

#[test]
fn the_autostart_file_starts_the_users_unit_where_it_is_enabled_and_nothing_else() {
    let sections = sections(AUTOSTART);
    let entry = &sections["Desktop Entry"];
    assert_eq!((entry["Type"][0], entry["X-systemd-skip"][0]), ("Application", "true"));
    let script = entry["Exec"][0].strip_prefix("sh -c \"").and_then(|rest| rest.strip_suffix('"')).unwrap();
    assert!(!script.contains(['"', '$', '`', '\\', '%']), "what a desktop entry would read as its own: {script}");

    let directory = tempfile::tempdir().unwrap();
    let (asked, fake) = (directory.path().join("asked"), directory.path().join("systemctl"));
    let called = |is_enabled: bool| {
        let enabled = if is_enabled { 0 } else { 1 };
        let text =
            format!("#!/bin/sh\necho \"$@\" >> '{}'\ncase $2 in is-enabled) exit {enabled};; esac\n", asked.display());
        fs::write(&fake, text).unwrap();
        fs::set_permissions(&fake, fs::Permissions::from_mode(0o755)).unwrap();
        let _ = fs::remove_file(&asked);
        let path = format!("{}:/usr/bin:/bin", directory.path().display());
        assert_eq!(Command::new("sh").args(["-c", script]).env("PATH", path).status().unwrap().success(), is_enabled);
        fs::read_to_string(&asked).unwrap().lines().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(called(false), ["--user is-enabled --quiet laterna.service"]);
    let calls = called(true);
    assert_eq!(calls.last().unwrap(), "--user start --no-block laterna.service");
    assert_eq!(calls[1], "--user import-environment DISPLAY XAUTHORITY");
    assert_eq!(calls.len(), 3);
}
