//! The shipped config file says what holds: its commented-out settings are the defaults, its examples are valid, and it has every setting.

use std::path::Path;

use super::*;
use crate::config::load::{Found, layer};
use crate::config::setting::{Fallback, SETTINGS};

const README: &str = include_str!("../../../README.md");

/// The settings in the manual's lines that begin with `before`, without that.
fn lines(before: &str) -> Vec<&'static str> {
    let is_setting = |line: &&str| line.starts_with(|c: char| c.is_ascii_lowercase()) && line.contains(" = ");
    settings().lines().filter_map(|line| line.strip_prefix(before)).filter(is_setting).collect()
}

/// The manual of the settings, and that of the tables.
fn settings() -> &'static str {
    MANUAL.split_once("\n## Tables").unwrap().0
}

fn tables() -> &'static str {
    MANUAL.split_once("\n## Tables").unwrap().1
}

#[test]
fn the_tables_that_are_commented_out_are_the_default_and_the_examples_are_valid() {
    let uncommented = |before: &str| {
        let lines = tables().lines().filter_map(|line| line.strip_prefix(before)).filter(|line| !line.starts_with(' '));
        lines.collect::<Vec<_>>().join("\n")
    };
    let defaults = uncommented("#");
    assert_eq!(defaults.lines().count(), 8, "{defaults}");
    assert_eq!(loaded(&defaults), loaded(""));
    let examples = loaded(&uncommented("#   ")).unwrap().tables;
    assert_eq!((examples.scenes.len(), examples.codes.len(), examples.tokens.len()), (2, 2, 1));
}

fn key(line: &str) -> &str {
    line.split_once(" = ").unwrap().0
}

fn loaded(text: &str) -> Result<RunConfig, String> {
    let found = Found { path: Path::new("f").into(), bytes: text.into() };
    let loaded = layer(&Default::default(), Some(&found), "HOSTNAME");
    loaded.map(|loaded| loaded.config).map_err(|errors| one_by_line(&errors))
}

#[test]
fn the_file_as_it_is_changes_nothing() {
    assert_eq!(loaded(MANUAL), Ok(RunConfig::resolve(&Default::default(), "HOSTNAME").unwrap()));
}

#[cfg(feature = "vp8")]
#[test]
fn all_that_is_commented_out_is_the_default() {
    let text = lines("#").join("\n");
    assert_eq!(loaded(&text), Ok(RunConfig::resolve(&Default::default(), "HOSTNAME").unwrap()));
    for line in lines("#") {
        let setting = Setting::of(key(line)).unwrap();
        let expected = match setting.default {
            Fallback::Text(_) | Fallback::Computed(_) => true,
            Fallback::Empty => line.ends_with("= []"),
        };
        assert!(expected, "{line}");
    }
}

#[test]
fn it_says_which_settings_hold_from_the_next_start_on() {
    let text = MANUAL.lines().map(|line| line.trim_start_matches("# ")).collect::<Vec<_>>().join(" ");
    let (_, list) = text.split_once("and which the log names then: ").unwrap();
    let (list, _) = list.split_once('.').unwrap();
    let fixed = SETTINGS.iter().filter(|setting| setting.at_start).map(|setting| setting.key);
    assert_eq!(list.split(", ").collect::<Vec<_>>(), fixed.collect::<Vec<_>>());
}

#[test]
fn its_examples_are_valid() {
    let examples = lines("# Example: ");
    let is_tls = |line: &str| key(line).starts_with("tls-");
    for line in &examples {
        // A certificate and its key go together.
        let text: Vec<_> =
            examples.iter().filter(|other| *other == line || is_tls(line) && is_tls(other)).copied().collect();
        loaded(&text.join("\n")).unwrap();
    }
    let keys: Vec<_> = examples.iter().map(|line| key(line)).collect();
    for setting in SETTINGS {
        let needed = !matches!(setting.default, Fallback::Text(_)) && setting.key != "name";
        assert!(!needed || keys.contains(&setting.key), "{} has no example", setting.key);
    }
}

#[test]
fn the_readmes_files_are_valid() {
    let files: Vec<_> = README.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(!files.is_empty());
    for file in files {
        loaded(file).unwrap();
    }
}

#[test]
fn it_has_every_setting_once_in_the_order_of_the_readme() {
    let settings: Vec<_> = SETTINGS.iter().map(|setting| setting.key).collect();
    let mut keys: Vec<_> = MANUAL
        .lines()
        .filter_map(|line| line.strip_prefix("# Example: ").or_else(|| line.strip_prefix('#')))
        .filter(|line| line.split_once(" = ").is_some_and(|(key, _)| Setting::of(key).is_some()))
        .map(key)
        .collect();
    keys.dedup();
    assert_eq!(keys, settings);
    let table =
        README.lines().filter_map(|line| line.strip_prefix("| `--")).filter(|line| !line.starts_with("config "));
    let flags: Vec<_> = table.map(|line| line.split([' ', '`']).next().unwrap()).collect();
    assert_eq!(flags, settings);
}

#[test]
fn what_it_says_of_the_allowed_is_what_is_allowed() {
    for (text, is_valid) in [
        ("bitrate = \"50k\"", true),
        ("bitrate = \"49k\"", false),
        ("bitrate = \"100M\"", true),
        ("bitrate = 100_000_001", false),
        ("fps = 120", true),
        ("fps = 121", false),
        ("max-viewers = 10000", true),
        ("max-viewers = 10001", false),
        ("size = \"16x16\"", true),
        ("size = \"2160x3840\"", true),
        ("size = \"15x16\"", false),
        ("udp-port = 65535", true),
        ("udp-port = 65536", false),
    ] {
        assert_eq!(loaded(text).is_ok(), is_valid, "{text}");
    }
    for line in tables().lines().filter_map(|line| line.strip_prefix('#')) {
        let Some((setting, range)) = line.split_once(" # ") else { continue };
        let [least, most] =
            range.split_once(" to ").map(|(least, most)| [least, most].map(|n| n.parse().unwrap())).unwrap();
        let is_valid = |number: u64| loaded(&format!("[limits]\n{} = {number}", key(setting))).is_ok();
        assert!(is_valid(least) && !is_valid(least - 1) && is_valid(most) && !is_valid(most + 1), "{line}");
    }
    // Each value that stands at the beginning of a line of its explanation.
    let (mut setting, mut found) = (None, 0);
    for line in MANUAL.lines().rev() {
        if let Some(next) = line.strip_prefix('#').and_then(|line| Setting::of(line.split(" = ").next().unwrap())) {
            setting = Some(next.key);
        }
        let value = line.strip_prefix("#   \"").and_then(|line| line.split('"').next());
        if let (Some(key), Some(value)) = (setting, value) {
            found += 1;
            loaded(&format!("{key} = \"{value}\"")).unwrap();
        }
    }
    assert!(found >= 18, "found {found}");
}
