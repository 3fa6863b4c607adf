//! The command line as a user meets it: what it refuses, in one line and with which exit code, and what its help says.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::os::unix::ffi::OsStringExt as _;
use std::process::{Command, Output, Stdio};

const README: &str = include_str!("../../README.md");

/// Runs the binary without any `LATERNA_*` variable but `variables`; only for command lines that end by themselves.
pub fn laterna<S: AsRef<std::ffi::OsStr>>(args: &[S], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_laterna"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("LATERNA_")) {
        command.env_remove(name);
    }
    command.args(args).envs(variables.iter().copied()).stdin(Stdio::null()).output().unwrap()
}

/// Asserts exit code 2, nothing on stdout and one line on stderr; gives that line.
fn refused<S: AsRef<std::ffi::OsStr>>(args: &[S], variables: &[(&str, &str)]) -> String {
    let output = laterna(args, variables);
    let line = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{line}");
    assert!(output.stdout.is_empty(), "{line}");
    assert!(line.starts_with("laterna: ") && line.ends_with('\n') && line.lines().count() == 1, "{line:?}");
    line
}

/// What a command prints that is done, with nothing on stderr.
pub fn printed(args: &[&str]) -> String {
    let output = laterna(args, &[]);
    assert_eq!(output.status.code(), Some(0), "{args:?}");
    assert!(output.stderr.is_empty(), "{args:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The long flags that a text names.
pub fn flags(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'));
    words.filter(|word| word.starts_with("--") && word.len() > 3).collect()
}

#[test]
fn whoever_reads_no_further_has_what_they_wanted() {
    for args in [&["config", "default"][..], &["run", "--help"], &["completions", "bash"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = Command::new(env!("CARGO_BIN_EXE_laterna")).args(args).stdout(writer).output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{args:?}: {output:?}");
    }
}

#[test]
fn the_daemon_does_not_sign_in_to_itself() {
    let line =
        refused(&["run", "--listen", "127.0.0.1:48888", "--signaling", "peerconnection+http://localhost:48888/"], &[]);
    assert!(line.contains("own listener") && line.contains("--call joined"), "{line}");
}

#[test]
fn bad_values_end_in_one_line_and_exit_code_2() {
    let table: &[(&[&str], &str)] = &[
        (&[], "run"),
        (&["moon"], "moon"),
        (&["run", "--moon"], "--moon"),
        (&["run", "extra"], "extra"),
        (&["run", "--fps"], "--fps"),
        (&["run", "--fps", "fast"], "--fps fast"),
        (&["run", "--fps="], "--fps ''"),
        (&["run", "--fps", "500"], "1 to 120"),
        (&["run", "--fps", "30", "--fps", "60"], "--fps"),
        (&["run", "--size", "big"], "--size big"),
        (&["run", "--size", "8x8"], "16x16"),
        (&["run", "--bitrate", "1G"], "--bitrate 1G"),
        (&["run", "--bitrate", "10"], "50k"),
        (&["run", "--codec", "mpeg2"], "--codec mpeg2"),
        (&["run", "--listen", "8888"], "[::]:8888"),
        (&["run", "--listen", "off,[::]:1"], "off"),
        (&["run", "--udp-port", "70000"], "--udp-port 70000"),
        (&["run", "--cursor", "maybe"], "--cursor maybe"),
        (&["run", "--max-viewers", "-1"], "-1"),
        (&["run", "--auth", "password"], "--auth password"),
        (&["run", "--audio", "loud"], "--audio loud"),
        (&["run", "--log", "verbose"], "--log verbose"),
        (&["run", "--source", "moon"], "--source moon"),
        (&["run", "--name", "two\nlines"], "--name two\\nlines"),
        (&["run", "--name", "\u{1b}[31m"], "\\u{1b}"),
    ];
    for (args, part) in table {
        let line = refused(args, &[]);
        assert!(line.contains(part), "{args:?}: {line}");
        assert!(!line.contains("not yet"), "{args:?}: {line}");
    }
}

#[test]
fn values_that_are_no_text_are_refused() {
    let name = std::ffi::OsString::from_vec(vec![b'a', 0xff]);
    let line = refused(&["run".into(), "--name".into(), name], &[]);
    assert!(line.contains("UTF-8"), "{line}");
}

#[test]
fn variables_are_read_and_named_when_they_are_wrong() {
    let line = refused(&["run"], &[("LATERNA_FPS", "fast")]);
    assert!(line.contains("LATERNA_FPS=fast"), "{line}");
    let line = refused(&["run"], &[("LATERNA_LISTEN", "[::]:1,8888")]);
    assert!(line.contains("LATERNA_LISTEN=8888"), "{line}");
    let line = refused(&["run", "--size", "8x8"], &[("LATERNA_SIZE", "640x480")]);
    assert!(line.contains("--size 8x8"), "flags go before variables: {line}");
}

#[test]
fn what_comes_later_is_refused_as_not_yet() {
    for command in laterna::cli::COMMANDS_NOT_YET {
        for args in [&[*command][..], &[*command, "--help"], &[*command, "a", "--b", "c"]] {
            let line = refused(args, &[]);
            assert!(line.contains(command) && line.contains("not yet"), "{args:?}: {line}");
        }
    }
    for (flag, variable) in laterna::cli::FLAGS_NOT_YET {
        let flag = format!("--{flag}");
        let line = refused(&["run", &flag, "value"], &[]);
        assert!(line.contains(&flag) && line.contains("not yet"), "{line}");
        let line = refused(&["run"], &[(variable, "value")]);
        assert!(line.contains(variable) && line.contains("not yet"), "{line}");
    }
    for (flag, value) in [("--codec", "av1"), ("--audio", "system+mic")] {
        let line = refused(&["run", flag, value], &[]);
        assert!(line.contains(flag) && line.contains(value) && line.contains("not yet"), "{line}");
    }
}

#[test]
fn help_has_examples_and_its_examples_parse() {
    let help = printed(&["run", "--help"]);
    let examples = help.split_once("Examples:").unwrap().1;
    let lines: Vec<_> = examples.lines().filter(|line| line.contains("laterna run")).collect();
    assert!(lines.len() >= 4, "{help}");
    for line in lines {
        let words = line.trim().split("   ").next().unwrap().split_whitespace();
        let words = words.skip_while(|word| *word != "laterna").map(Into::into);
        assert!(matches!(laterna::cli::parse(words), Ok(laterna::cli::Invocation::Run(_))), "{line}");
    }
    assert!(printed(&["--help"]).contains("laterna run --help"));
    assert_eq!(printed(&["--version"]), format!("laterna {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn the_readme_names_the_flags_of_the_help_and_no_others() {
    let help = printed(&["run", "--help"]);
    let help = flags(help.split_once("Examples:").unwrap().0);
    let table: BTreeSet<_> = README.lines().filter(|line| line.starts_with("| `--")).flat_map(flags).collect();
    let missing: Vec<_> = help.iter().filter(|flag| **flag != "--help" && !table.contains(*flag)).collect();
    assert!(missing.is_empty(), "the README's table lacks {missing:?}");
    let own = [
        "--help",
        "--version",
        "--long",
        "--json",
        "--lib",
        "--quick",
        "--watch",
        "--server",
        "--user",
        "--global",
        "--now",
        "--minutes",
        "--keep",
        "--expires",
        "--show",
    ];
    let unknown: Vec<_> =
        flags(README).into_iter().filter(|flag| !help.contains(flag) && !own.contains(flag)).collect();
    assert!(unknown.is_empty(), "the README names {unknown:?}, which the help lacks");
}

#[test]
fn the_readmes_commands_parse() {
    let mut found = 0;
    for line in README.lines().map(str::trim) {
        let line = line.split(['#', '>', '|']).next().unwrap();
        let commands = [
            "run",
            "status",
            "events",
            "peers",
            "call",
            "kick",
            "codes",
            "config",
            "doctor",
            "completions",
            "man",
            "switch",
        ];
        let command = commands.into_iter().find_map(|command| {
            let (_, args) = line.split_once(&format!("laterna {command}"))?;
            Some((command, args))
        });
        let Some((command, args)) = line.split_once("./dev run").map(|(_, args)| ("run", args)).or(command) else {
            continue;
        };
        if line.starts_with('|') || line.contains('`') {
            continue;
        }
        found += 1;
        // None of them has a space between quotes.
        let args = args.replace('\'', "");
        let words = ["laterna", command].into_iter().chain(args.split_whitespace()).map(Into::into);
        if let laterna::cli::Invocation::Run(args) = laterna::cli::parse(words).unwrap() {
            drop(laterna::config::RunConfig::resolve(&args.written, "host").unwrap());
        }
    }
    assert!(found >= 4, "found {found} commands");
    let urls = README.split('`').filter_map(|text| text.strip_prefix("--signaling "));
    let urls: Vec<_> = urls.filter(|text| *text != "URL").map(|text| text.trim_matches('\'')).collect();
    for url in &urls {
        laterna::signaling::client::url::SignalingUrl::parse(&url.replace("PORT", "1")).unwrap();
    }
    assert!(urls.len() >= 6, "found {urls:?}");
}
