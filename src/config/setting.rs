//! The settings of `laterna run`: for each key what its flag, its variable, the config file and the help have in common.

/// What is longer is no mistyped key.
const MOST_MEANT: usize = 64;

/// A setting. Its flag is `--KEY`, its key in the config file is `KEY`, its variable is [`Setting::variable`].
#[derive(Debug, PartialEq, Eq)]
pub struct Setting {
    /// The name, in words joined by `-`.
    pub key: &'static str,
    /// How it is written.
    pub kind: Kind,
    /// What the help calls its value.
    pub value_name: &'static str,
    /// What holds where nothing is written.
    pub default: Fallback,
    /// What it means, as the help says it.
    pub help: &'static str,
    /// Whether a change holds from the next start on only; all others are taken over by a reload.
    pub at_start: bool,
}

/// How a setting is written in the config file; flags and variables are texts, whatever it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// As a text.
    Text,
    /// As a number, or as the text that a flag takes.
    Number,
    /// As `"on"` or `"off"`, or as true or false.
    Switch,
    /// As an array of texts, or as one text with commas.
    List {
        /// Whether it may have nothing in it.
        may_be_empty: bool,
    },
}

/// What holds where nothing is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fallback {
    /// This text.
    Text(&'static str),
    /// An empty list.
    Empty,
    /// What is known only when the daemon starts; in words.
    Computed(&'static str),
}

const fn text(key: &'static str, value_name: &'static str, default: &'static str, help: &'static str) -> Setting {
    Setting { key, kind: Kind::Text, value_name, default: Fallback::Text(default), help, at_start: false }
}

const fn computed(key: &'static str, value_name: &'static str, default: &'static str, help: &'static str) -> Setting {
    Setting { key, kind: Kind::Text, value_name, default: Fallback::Computed(default), help, at_start: false }
}

const fn number(key: &'static str, value_name: &'static str, default: &'static str, help: &'static str) -> Setting {
    Setting { key, kind: Kind::Number, value_name, default: Fallback::Text(default), help, at_start: false }
}

const fn list(key: &'static str, value_name: &'static str, default: Fallback, help: &'static str) -> Setting {
    let may_be_empty = matches!(default, Fallback::Empty);
    Setting { key, kind: Kind::List { may_be_empty }, value_name, default, help, at_start: false }
}

/// The same, but that a change needs a restart.
const fn at_start(setting: Setting) -> Setting {
    Setting { at_start: true, ..setting }
}

/// All settings, in the order of the help, of the README and of the config file.
pub const SETTINGS: &[Setting] = &[
    text(
        "source",
        "SPEC",
        "auto",
        "Where pictures come from: auto (the screen, else the camera, else the pattern), screen, screen:NAME, window:TITLE, region:WxH+X+Y, camera, camera:/dev/videoN, file:PATH, image:PATH, pattern, off; A + B for B in a corner of A",
    ),
    computed(
        "fallback",
        "SPEC",
        "a card that says why",
        "What is shown while the source is lost, or can't be opened at the start",
    ),
    computed("name", "NAME", "laterna@HOSTNAME", "The name of this broadcast"),
    at_start(list(
        "listen",
        "ADDR:PORT|off",
        Fallback::Text("[::]:8888"),
        "Where the web page is served; several by comma or by repeating the flag; off for nowhere; port 0 takes any",
    )),
    at_start(number("udp-port", "N", "8889", "The UDP port of pictures, on all addresses; 0 takes any")),
    at_start(list(
        "codec",
        "LIST",
        Fallback::Text(if cfg!(feature = "vp8") { "h264,vp8" } else { "h264" }),
        "The codecs, the preferred one first: h264, vp8",
    )),
    number("bitrate", "BPS", "2.5M", "The rate of the video at most, in bits per second: 50k to 100M"),
    number("fps", "N", "30", "Pictures a second at most: 1 to 120"),
    at_start(computed(
        "size",
        "WxH",
        "the source's at start, at most 1920x1080",
        "The size of the picture sent, 16x16 to 3840x2160",
    )),
    at_start(text(
        "fit",
        "HOW",
        "letterbox",
        "What becomes of a source of other sides: letterbox (black bars), crop, stretch",
    )),
    Setting {
        key: "cursor",
        kind: Kind::Switch,
        value_name: "on|off",
        default: Fallback::Text("on"),
        help: "Whether the pointer is shown",
        at_start: false,
    },
    text(
        "capture",
        "HOW",
        "auto",
        "How screens are captured: auto (portal in a Wayland session, else x11), x11, portal, scrap",
    ),
    number("max-viewers", "N", "500", "So many viewers at once, at most"),
    at_start(text(
        "auth",
        "none|code",
        "code",
        "Who may watch: code (whoever has the code), none (everyone who reaches the port)",
    )),
    at_start(computed(
        "auth-code-file",
        "PATH",
        "in the state directory",
        "The file of the code; made with a fresh one if absent",
    )),
    at_start(text(
        "tls",
        "off|self-signed",
        "off",
        "Whether the web page is encrypted by a certificate that is made at the first start",
    )),
    at_start(computed(
        "tls-cert",
        "FILE",
        "none",
        "The certificate of this machine's name, and those between it and its signer (PEM): the web page is encrypted by it",
    )),
    at_start(computed("tls-key", "FILE", "none", "The key of --tls-cert (PEM)")),
    at_start(text(
        "room",
        "closed|open",
        "closed",
        "Who sees whom in the room, where clients of the peerconnection protocol meet: closed (only the daemon), open (everybody)",
    )),
    text(
        "call",
        "none|joined|glob:PATTERN",
        "none",
        "Whom the daemon offers the stream when they join the room: none, joined (everybody), glob:PATTERN (names; * and ?)",
    ),
    list(
        "allow-origin",
        "ORIGIN",
        Fallback::Empty,
        "A site whose pages may ask for the stream, as https://school.example; several by comma or by repeating the flag (default: all)",
    ),
    list(
        "signaling",
        "URL",
        Fallback::Empty,
        "A signaling server to sign in to, as PROTOCOL+URL: peerconnection+http, mdn+ws, socketio+http, channel+ws, whip+http, or with https and wss; several by comma or by repeating the flag",
    ),
    at_start(list(
        "ice-server",
        "URL",
        Fallback::Empty,
        "A STUN or TURN server, as stun:HOST or turn:HOST?user=NAME&password-file=PATH; several by comma or by repeating the flag",
    )),
    at_start(list(
        "public-ip",
        "IP",
        Fallback::Empty,
        "The public address of this machine behind a NAT that maps it one to one; one for each family at most",
    )),
    at_start(list(
        "network",
        "LIST",
        Fallback::Empty,
        "Which of this machine's networks viewers are told of: names of interfaces (* and ?) or address blocks, as eth0 or 10.0.0.0/8; with ! before it, which not",
    )),
    text(
        "audio",
        "SPEC",
        "auto",
        "Where sound comes from: auto (a lesson's own; else system where a sound server runs, else off), system, mic, mic:NAME, file, tone, off",
    ),
    text(
        "sync",
        "HOW",
        "auto",
        "Whether pictures wait for their sound: auto, lip, low-latency (auto: lip where the sound is the system's)",
    ),
    at_start(computed(
        "control",
        "PATH",
        "laterna/control.sock in $XDG_RUNTIME_DIR, else in /run",
        "Where the control socket is made, for `laterna status` and the like",
    )),
    at_start(computed(
        "control-group",
        "NAME",
        "its owner's alone",
        "The group whose members may use the control socket too",
    )),
    text("log", "LEVEL", "info", "What is logged on stderr: error, warn, info, debug, trace"),
];

impl Setting {
    /// The one whose key is `key`.
    pub fn of(key: &str) -> Option<&'static Self> {
        SETTINGS.iter().find(|setting| setting.key == key)
    }

    /// The one that was probably meant where `key` was written.
    pub fn near(key: &str) -> Option<&'static Self> {
        if key.len() > MOST_MEANT {
            return None;
        }
        let key = key.to_ascii_lowercase().replace('_', "-");
        let distances = SETTINGS.iter().map(|setting| (distance(&key, setting.key), setting));
        let (distance, setting) = distances.min_by_key(|(distance, _)| *distance)?;
        (distance <= setting.key.len() / 3).then_some(setting)
    }

    /// The name of its variable.
    pub fn variable(&self) -> String {
        format!("LATERNA_{}", self.key.replace('-', "_").to_ascii_uppercase())
    }
}

/// How many characters have to be put in, left out or changed to make one of the other (Levenshtein's distance).
fn distance(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.chars().count()).collect();
    for (above, a) in one.chars().enumerate() {
        let mut diagonal = above;
        row[0] = above + 1;
        for (left, b) in other.chars().enumerate() {
            let changed = diagonal + usize::from(a != b);
            diagonal = row[left + 1];
            row[left + 1] = changed.min(diagonal + 1).min(row[left] + 1);
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_was_probably_meant_is_found_and_nothing_else() {
        for (written, meant) in [
            ("udp_port", Some("udp-port")),
            ("UDP-Port", Some("udp-port")),
            ("maxviewers", Some("max-viewers")),
            ("ice-servers", Some("ice-server")),
            ("bit-rate", Some("bitrate")),
            ("nam", Some("name")),
            ("fsp", None),
            ("fp", Some("fps")),
            ("port", None),
            ("", None),
            ("moon", None),
            (&"é".repeat(500_000), None),
        ] {
            assert_eq!(Setting::near(written).map(|setting| setting.key), meant, "{written}");
        }
        assert_eq!(distance("kitten", "sitting"), 3);
    }

    #[test]
    fn keys_are_told_apart() {
        for setting in SETTINGS {
            assert_eq!(Setting::of(setting.key), Some(setting), "another has the key {}", setting.key);
        }
        assert_eq!(Setting::of("udp-port").unwrap().variable(), "LATERNA_UDP_PORT");
    }
}
