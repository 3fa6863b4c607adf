//! What was written, and where: flags over variables over the config file over the defaults.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use super::setting::{Fallback, Kind, Setting};
use super::{is_shown, one_line};
use crate::signaling::client::url::shown_path;

/// A place in a config file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub file: Arc<Path>,
    /// The line, from 1.
    pub line: usize,
    /// The character in the line, from 1.
    pub column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", one_line(&self.file.to_string_lossy()), self.line, self.column)
    }
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nowhere: it is the default.
    Default,
    /// The command line.
    Flag,
    /// The setting's variable.
    Variable,
    /// The config file.
    File(Place),
}

/// A value as it was written: `--fps 30`, `LATERNA_FPS=30`, or `fps = 30` in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The setting.
    pub setting: &'static Setting,
    /// Where it was written.
    pub origin: Origin,
    /// The text.
    pub value: String,
}

impl Asked {
    /// Where in a file it was written, if in one.
    pub fn place(&self) -> Option<&Place> {
        match &self.origin {
            Origin::File(place) => Some(place),
            Origin::Default | Origin::Flag | Origin::Variable => None,
        }
    }
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = one_line(&without_secrets(self.setting, &self.value));
        match &self.origin {
            Origin::Flag if value.is_empty() => write!(f, "--{} ''", self.setting.key),
            Origin::Flag => write!(f, "--{} {value}", self.setting.key),
            Origin::Variable => write!(f, "{}={value}", self.setting.variable()),
            Origin::File(place) => write!(f, "{place}: {} = {}", self.setting.key, in_toml(self.setting, &self.value)),
            Origin::Default => write!(f, "the default of {}, {value}", self.setting.key),
        }
    }
}

/// What was written for one setting, all at one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// Where.
    pub origin: Origin,
    /// The values: one, or those of a list.
    pub values: Vec<Asked>,
}

/// What was written for all settings; what was not has its default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Written(BTreeMap<&'static str, Given>);

impl Written {
    /// Notes what was written for a setting, in place of what is known of it.
    pub fn insert(&mut self, setting: &'static Setting, given: Given) {
        self.0.insert(setting.key, given);
    }

    /// Takes from `lower` whatever was not written here.
    pub fn over(mut self, lower: &Self) -> Self {
        for (key, given) in &lower.0 {
            self.0.entry(key).or_insert_with(|| given.clone());
        }
        self
    }

    /// What holds for a setting; nothing where its default is computed.
    pub fn given(&self, setting: &'static Setting) -> Given {
        if let Some(given) = self.0.get(setting.key) {
            return given.clone();
        }
        let asked = |value: &str| Asked { setting, origin: Origin::Default, value: value.to_owned() };
        let values = match (setting.default, setting.kind) {
            (Fallback::Text(text), Kind::List { .. }) => text.split(',').map(asked).collect(),
            (Fallback::Text(text), _) => vec![asked(text)],
            (Fallback::Empty | Fallback::Computed(_), _) => Vec::new(),
        };
        Given { origin: Origin::Default, values }
    }
}

/// A value as a config file has it.
pub(super) fn in_toml(setting: &Setting, value: &str) -> String {
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = value.strip_prefix('-').unwrap_or(value);
    let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
    let is_number = is_digits(whole) && is_digits(part) && (whole == "0" || !whole.starts_with('0'));
    if setting.kind == Kind::Number && is_number {
        return value.to_owned();
    }
    quoted(&without_secrets(setting, value))
}

/// A text as a config file has it.
pub(super) fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            // Those that have a short escape have it in TOML too.
            '\n' | '\r' | '\t' => quoted.extend(c.escape_default()),
            c if !is_shown(c) => quoted.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted + "\""
}

/// A value without what may be a secret: the code in the address of another laterna's room, and the options in a URL that are the server's own.
pub(super) fn without_secrets(setting: &Setting, value: &str) -> String {
    let shown_options: &[&str] = match setting.key {
        "signaling" => &["call", "token-file", "ca-file", "sign-in"],
        "ice-server" => &["transport", "user", "password-file", "secret-file", "ca-file"],
        _ => return value.to_owned(),
    };
    let (address, options) = value.split_once('?').unwrap_or((value, ""));
    let path_at = address.find("://").and_then(|at| Some(at + 3 + address.get(at + 3..)?.find('/')?));
    let (server, path) = address.split_at(path_at.unwrap_or(address.len()));
    let mut shown = format!("{}{}", without_login(server), shown_path(path));
    for (at, option) in options.split('&').filter(|option| !option.is_empty()).enumerate() {
        let name = option.split_once('=').map_or(option, |(name, _)| name);
        shown.push(if at == 0 { '?' } else { '&' });
        match shown_options.contains(&name) {
            true => shown.push_str(option),
            false => shown.extend([name, "=…"]),
        }
    }
    shown
}

/// A URL's beginning without a name and a password in it.
fn without_login(server: &str) -> String {
    let Some((login, host)) = server.rsplit_once('@') else { return server.to_owned() };
    let scheme = login.split_once("://").map(|(scheme, _)| format!("{scheme}://"));
    let scheme = scheme.or_else(|| login.split_once(':').map(|(scheme, _)| format!("{scheme}:")));
    format!("{}…@{host}", scheme.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn given(key: &str, origin: Origin, value: &str) -> (&'static Setting, Given) {
        let setting = Setting::of(key).unwrap();
        let values = vec![Asked { setting, origin: origin.clone(), value: value.to_owned() }];
        (setting, Given { origin, values })
    }

    #[test]
    fn what_is_above_hides_what_is_below_as_a_whole() {
        let written = |list: &[(&str, Origin, &str)]| {
            let mut written = Written::default();
            for (key, origin, value) in list {
                let (setting, given) = given(key, origin.clone(), value);
                written.insert(setting, given);
            }
            written
        };
        let above = written(&[("fps", Origin::Flag, "1"), ("listen", Origin::Variable, "off")]);
        let below = written(&[("fps", Origin::Variable, "2"), ("log", Origin::Variable, "warn")]);
        let all = above.over(&below);
        let shown = |key| {
            let values = all.given(Setting::of(key).unwrap()).values;
            values.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(shown("fps"), ["--fps 1"]);
        assert_eq!(shown("listen"), ["LATERNA_LISTEN=off"]);
        assert_eq!(shown("log"), ["LATERNA_LOG=warn"]);
        assert_eq!(shown("room"), ["the default of room, closed"]);
        assert_eq!((shown("size"), shown("signaling")), (vec![], vec![]));
    }

    #[test]
    fn values_are_shown_as_they_were_written_but_for_secrets() {
        let place = Place { file: Path::new("/a\nb").into(), line: 3, column: 7 };
        for (key, value, expected) in [
            ("fps", "500", "/a\\nb:3:7: fps = 500"),
            ("fps", "30.5", "/a\\nb:3:7: fps = 30.5"),
            ("fps", "-1", "/a\\nb:3:7: fps = -1"),
            ("fps", "--1", "/a\\nb:3:7: fps = \"--1\""),
            ("fps", "007", "/a\\nb:3:7: fps = \"007\""),
            ("bitrate", "2.5M", "/a\\nb:3:7: bitrate = \"2.5M\""),
            ("name", "a \"b\"\\\u{1}\n", "/a\\nb:3:7: name = \"a \\\"b\\\"\\\\\\u0001\\n\""),
            ("name", "7", "/a\\nb:3:7: name = \"7\""),
            (
                "signaling",
                "peerconnection+http://h/k/code?call=none&key=1",
                "/a\\nb:3:7: signaling = \"peerconnection+http://h/k/…?call=none&key=…\"",
            ),
            ("signaling", "mdn+ws://h/k/code/x?code", "/a\\nb:3:7: signaling = \"mdn+ws://h/k/…/x?code=…\""),
            ("signaling", "https://me:north@h/whip", "/a\\nb:3:7: signaling = \"https://…@h/whip\""),
            ("signaling", "me:north@h", "/a\\nb:3:7: signaling = \"me:…@h\""),
            ("ice-server", "turn:me:north@h?user=a&pass=north", "/a\\nb:3:7: ice-server = \"turn:…@h?user=a&pass=…\""),
            (
                "ice-server",
                "turn:192.168.100.200:3478?transport=tcp",
                "/a\\nb:3:7: ice-server = \"turn:192.168.100.200:3478?transport=tcp\"",
            ),
        ] {
            let (_, given) = given(key, Origin::File(place.clone()), value);
            assert_eq!(given.values[0].to_string(), expected);
        }
    }
}
