//! The config file with the real binary: what `run` makes of it, and what `config check`, `print` and `default` say.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::control::json_of;
use crate::stage::SOON;
use crate::support::daemon::{Setup, binary};

/// A home of its own, with config files in it.
struct Home(TempDir);

/// How a command ended.
#[derive(Debug)]
struct Done {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Home {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    /// A command that ends by itself, with no other variables of laterna's than `variables`.
    fn laterna(&self, args: &[&str], variables: &[(&str, &str)]) -> Done {
        let mut command = Command::new(binary());
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("LATERNA_") || text.starts_with("XDG_") {
                command.env_remove(&name);
            }
        }
        command.env("HOME", self.0.path()).args(args).envs(variables.iter().copied());
        let output = command.stdin(Stdio::null()).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Done { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }
}

#[test]
fn a_daemon_takes_its_settings_from_the_file_and_flags_go_before_it() {
    let home = Home::new();
    let file = home.file("room.toml", "source = \"pattern\"\nname = \"Room 12\"\nmax-viewers = 7\nauth = \"none\"\n");
    let setup = Setup::new(&["--config", file.to_str().unwrap(), "--max-viewers", "3"]);
    let daemon = setup.start();
    daemon.logged(&["INFO", "the config file is read", file.to_str().unwrap()], SOON);
    let status = json_of(&setup.control(), &["status", "--json"]);
    assert_eq!((&status["name"], &status["max_viewers"]), (&"Room 12".into(), &3.into()), "{status}");
    assert_eq!(daemon.code(), None, "the file's auth is none");
    daemon.stop();
}

#[test]
fn a_file_that_is_not_there_is_exit_1_and_a_broken_one_2_with_all_that_is_wrong() {
    let home = Home::new();
    let absent = home.0.path().join("absent.toml");
    let broken = home.file("broken.toml", "udp_port = 1\nfps = 0\nname = \"x\nroom = \"open\"\nroom = \"open\"\n");
    let (absent, broken) = (absent.to_str().unwrap(), broken.to_str().unwrap());
    for command in [&["run"][..], &["config", "check"], &["config", "print"]] {
        let run = |file| home.laterna(&[command, &["--config", file]].concat(), &[]);
        let done = run(absent);
        assert_eq!((done.code, done.out.as_str(), done.err.lines().count()), (Some(1), "", 1), "{done:?}");
        assert!(done.err.starts_with(&format!("laterna: config file {absent}: No such file")), "{done:?}");
        let done = run(broken);
        assert_eq!((done.code, done.out.as_str()), (Some(2), ""), "{done:?}");
        let places =
            ["1:1: udp_port: no such key; did you mean udp-port?", "2:7: fps = 0:", "3:10: not TOML", "5:1: not TOML"];
        assert_eq!(done.err.lines().count(), places.len(), "{done:?}");
        for (line, place) in done.err.lines().zip(places) {
            assert!(line.starts_with(&format!("laterna: {broken}:{place}")), "{line}");
        }
        let done = home.laterna(command, &[("LATERNA_CONFIG", broken)]);
        assert_eq!(done.code, Some(2), "{done:?}");
    }
}

#[test]
fn check_and_print_find_the_users_file_and_name_where_values_come_from() {
    let home = Home::new();
    let file = home.file(".config/laterna/laterna.toml", "# mine\nfps = 24\nname = \"mine\"\n");
    let other = home.file("other/laterna/laterna.toml", "fps = 25\n");
    let done = home.laterna(&["config", "check"], &[]);
    assert_eq!((done.code, done.out), (Some(0), format!("{}: ok\n", file.display())), "{}", done.err);
    let xdg = other.parent().unwrap().parent().unwrap().to_str().unwrap();
    let done = home.laterna(&["config", "check"], &[("XDG_CONFIG_HOME", xdg)]);
    assert_eq!((done.code, done.out), (Some(0), format!("{}: ok\n", other.display())), "{}", done.err);

    let variables = [("LATERNA_UDP_PORT", "9"), ("LATERNA_NAME", "theirs")];
    let done = home.laterna(&["config", "print", "--bitrate", "1M", "--udp-port", "10"], &variables);
    assert_eq!((done.code, done.err.as_str()), (Some(0), ""));
    let shown = |line: &str| {
        let found = done
            .out
            .lines()
            .find_map(|found| found.strip_prefix(line))
            .unwrap_or_else(|| panic!("{line}: {}", done.out));
        found.trim().to_owned()
    };
    assert_eq!(shown("fps = 24"), format!("# {}:2", file.display()));
    assert_eq!(shown("name = \"theirs\""), "# LATERNA_NAME");
    assert_eq!(shown("udp-port = 10"), "# flag");
    assert_eq!(shown("bitrate = \"1M\""), "# flag");
    assert_eq!(shown("auth = \"code\""), "# default");

    let printed = home.file("printed.toml", &done.out);
    let again = home.laterna(&["config", "print", "--config", printed.to_str().unwrap()], &[]);
    let values = |text: &str| {
        text.lines().skip(1).map(|line| line.split(" # ").next().unwrap().trim_end().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(values(&again.out), values(&done.out));
}

#[test]
fn the_default_file_is_the_shipped_one_and_changes_nothing() {
    let home = Home::new();
    let default = home.laterna(&["config", "default"], &[]);
    let shipped = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("config/laterna.toml")).unwrap();
    assert_eq!((default.code, &default.out), (Some(0), &shipped));
    let file = home.file("default.toml", &default.out);
    let print = |args: &[&str]| {
        let done = home.laterna(&[&["config", "print"], args].concat(), &[("LATERNA_CONFIG", "/dev/null")]);
        assert_eq!(done.code, Some(0), "{done:?}");
        done.out.lines().skip(1).collect::<Vec<_>>().join("\n")
    };
    assert_eq!(print(&["--config", file.to_str().unwrap()]), print(&[]));
}

#[test]
fn a_file_that_can_not_be_read_is_told_and_not_passed_over() {
    let home = Home::new();
    let done = home.laterna(&["config", "check"], &[("XDG_CONFIG_HOME", "/nowhere")]);
    assert_eq!(done.code, Some(0), "{done:?}");
    // Not even root reads a directory.
    let path = home.0.path().join(".config/laterna/laterna.toml");
    fs::create_dir_all(&path).unwrap();
    let done = home.laterna(&["run"], &[]);
    assert_eq!((done.code, done.out.as_str()), (Some(1), ""), "{done:?}");
    assert!(done.err.contains(path.to_str().unwrap()) && done.err.contains("/dev/null"), "{done:?}");
}
