//! The man pages and the completions: that they, the help, the README and the contract have the same commands and flags.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::{Command, Stdio};

use clap::Command as CommandLine;
use laterna::cli::{COMMANDS_NOT_YET, FLAGS_NOT_YET, command};
use laterna::config::MANUAL;
use laterna::config::setting::{Fallback, SETTINGS};

use crate::cli::{flags, laterna, printed};

const README: &str = include_str!("../../README.md");
/// The commands of the outside contract.
const CONTRACT: [&str; 19] = [
    "run",
    "switch",
    "status",
    "peers",
    "call",
    "kick",
    "sources",
    "audio",
    "record",
    "play",
    "pause",
    "seek",
    "snapshot",
    "codes",
    "events",
    "doctor",
    "config",
    "completions",
    "man",
];
const SHELLS: [&str; 3] = ["bash", "zsh", "fish"];

/// The words of each command, `laterna` alone included.
fn commands() -> Vec<Vec<String>> {
    fn each(command: &CommandLine, before: &[String], all: &mut Vec<Vec<String>>) {
        let words = [before, &[command.get_name().to_owned()]].concat();
        let below = command.get_subcommands().filter(|command| !command.is_hide_set() && command.get_name() != "help");
        below.for_each(|command| each(command, &words, all));
        all.push(words);
    }
    let mut all = Vec::new();
    each(&command(), &[], &mut all);
    all
}

/// The man pages by the names of their files, without what is for roff alone.
fn pages() -> BTreeMap<String, String> {
    let directory = tempfile::tempdir().unwrap();
    let made = directory.path().join("a/man");
    assert_eq!(printed(&["man", made.to_str().unwrap()]), "");
    let pages = fs::read_dir(made).unwrap().map(Result::unwrap).map(|entry| {
        let text = fs::read_to_string(entry.path()).unwrap();
        (entry.file_name().into_string().unwrap(), plain(&text))
    });
    pages.collect()
}

fn plain(roff: &str) -> String {
    let marks = [("\\-", "-"), ("\\fB", ""), ("\\fI", ""), ("\\fR", ""), ("\\*(Aq", "'"), ("\\&", ""), ("\\\\", "\\")];
    marks.iter().fold(roff.to_owned(), |text, (mark, plain)| text.replace(mark, plain))
}

/// The flags that a page lists under its options.
fn options(page: &str) -> BTreeSet<&str> {
    let section = page.split_once(".SH OPTIONS\n").map_or("", |(_, rest)| rest.split(".SH").next().unwrap());
    let heads = section.split(".TP\n").filter_map(|item| item.lines().next());
    heads.flat_map(flags).collect()
}

#[test]
fn commands_are_those_of_the_contract() {
    let done: BTreeSet<_> = commands().into_iter().filter_map(|words| words.into_iter().nth(1)).collect();
    let later: BTreeSet<_> = COMMANDS_NOT_YET.iter().map(|command| (*command).to_owned()).collect();
    assert!(done.is_disjoint(&later), "{done:?} {later:?}");
    let all: BTreeSet<_> = done.union(&later).map(String::as_str).collect();
    assert_eq!(all, BTreeSet::from(CONTRACT));
    for command in done {
        assert!(README.contains(&format!("laterna {command}")), "the README lacks laterna {command}");
    }
}

#[test]
fn each_command_has_a_page_with_the_flags_of_its_help() {
    let pages = pages();
    let mut names = BTreeSet::from(["laterna.toml.5".to_owned()]);
    for words in commands() {
        let name = words.join("-");
        let page = &pages[&format!("{name}.1")];
        let args: Vec<_> = words[1..].iter().map(String::as_str).chain(["--help"]).collect();
        let help = printed(&args);
        let listed = help.split_once("Options:").unwrap().1.split("Examples:").next().unwrap();
        let heads = listed.lines().filter(|line| line.trim_start().starts_with('-'));
        assert_eq!(options(page), heads.flat_map(flags).collect(), "{name}");
        for part in [".SH NAME", ".SH SYNOPSIS", ".SH DESCRIPTION", ".SH \"EXIT STATUS\"", ".SH \"SEE ALSO\""] {
            assert!(page.contains(part), "{name}: no {part}");
        }
        if words.len() == 2 {
            assert!(pages["laterna.1"].contains(&format!("{name}(1)")), "laterna(1) lacks {name}");
        }
        names.insert(format!("{name}.1"));
    }
    assert_eq!(pages.keys().cloned().collect::<BTreeSet<_>>(), names);
    assert_eq!(plain(&printed(&["man"])), pages["laterna.1"]);
}

#[test]
fn the_pages_and_the_help_have_every_setting_with_its_variable_and_default() {
    let (pages, help) = (pages(), printed(&["run", "--help"]));
    let (page, help) =
        (pages["laterna-run.1"].replace('\n', " "), help.split_whitespace().collect::<Vec<_>>().join(" "));
    for setting in SETTINGS {
        let (key, variable) = (setting.key, setting.variable());
        assert!(page.contains(&format!("--{key} <{}>", setting.value_name)), "{key}");
        assert!(page.contains(&variable) && help.contains(&variable), "{key}");
        assert!(page.contains(setting.help) && help.contains(setting.help), "{key}");
        if let Fallback::Text(default) = setting.default {
            let default = format!("[default: {default}]");
            assert!(page.contains(&default) && help.contains(&default), "{key}: {default}");
        }
    }
    let manual = &pages["laterna.toml.5"];
    let mut rest = manual.as_str();
    for line in MANUAL.lines() {
        rest = rest.split_once(line).unwrap_or_else(|| panic!("not there, or not in its place: {line}")).1;
    }
}

#[test]
fn what_comes_later_is_in_no_page_and_no_completion() {
    let completions = SHELLS.map(|shell| (shell.to_owned(), printed(&["completions", shell])));
    for (name, text) in pages().into_iter().chain(completions) {
        let (found, later) = (flags(&text), FLAGS_NOT_YET.iter().map(|(flag, _)| format!("--{flag}")));
        let wrong: Vec<_> = later.filter(|flag| found.contains(flag.as_str())).collect();
        assert!(wrong.is_empty(), "{name}: {wrong:?}");
        assert!(!text.contains("Not yet"), "{name}");
        let wrong: Vec<_> = FLAGS_NOT_YET.iter().filter(|(flag, _)| text.contains(&format!("-l {flag} "))).collect();
        assert!(wrong.is_empty(), "{name}: {wrong:?}");
    }
}

#[test]
fn groff_takes_each_page_without_a_word() {
    let directory = tempfile::tempdir().unwrap();
    printed(&["man", directory.path().to_str().unwrap()]);
    for entry in fs::read_dir(directory.path()).unwrap().map(Result::unwrap) {
        let mut groff = Command::new("groff");
        let output = match groff.args(["-man", "-Tutf8", "-ww", "-z"]).arg(entry.path()).output() {
            Ok(output) => output,
            Err(error) => return println!("groff: {error}: the pages are not checked by it"),
        };
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{}", entry.path().display());
        assert!(output.status.success());
    }
}

#[test]
fn completions_have_every_command_and_flag() {
    for shell in SHELLS {
        let script = printed(&["completions", shell]);
        for words in commands() {
            let name = words.last().unwrap();
            assert!(script.contains(name.as_str()), "{shell}: {name}");
        }
        for setting in SETTINGS {
            let flag = if shell == "fish" { format!("-l {} ", setting.key) } else { format!("--{}", setting.key) };
            assert!(script.contains(&flag), "{shell}: {flag}");
        }
    }
}

#[test]
fn bash_completes_a_command_and_a_flag() {
    let completes = |words: &[&str]| {
        let (last, before) = (words[words.len() - 1], words[words.len() - 2]);
        let line = format!(
            "eval \"$(cat)\"; COMP_WORDS=({}); COMP_CWORD={}; _laterna laterna '{last}' '{before}'; echo \"${{COMPREPLY[@]}}\"",
            words.join(" "),
            words.len() - 1
        );
        let mut bash = Command::new("bash");
        let directory = tempfile::tempdir().unwrap();
        let script = directory.path().join("script");
        fs::write(&script, printed(&["completions", "bash"])).unwrap();
        let input = Stdio::from(fs::File::open(script).unwrap());
        let output = bash.args(["--norc", "-c", &line]).stdin(input).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{words:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    assert_eq!(completes(&["laterna", "comp"]), "completions");
    assert_eq!(completes(&["laterna", "run", "--fp"]), "--fps");
    assert_eq!(completes(&["laterna", "config", "che"]), "check");
    assert_eq!(completes(&["laterna", "completions", "zs"]), "zsh");
    assert_eq!(completes(&["laterna", "run", "--reco"]), "", "comes in a later version");
}

#[test]
fn a_place_that_cannot_be_written_is_one_line() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap();
    let output = laterna(&["man", path], &[]);
    let line = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{line}");
    assert!(line.starts_with(&format!("laterna: man {path}: ")) && line.lines().count() == 1, "{line}");
    assert!(output.stdout.is_empty());
}
