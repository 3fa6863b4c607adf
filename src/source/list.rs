//! What this machine has to show: each with the spec to type. Needs no daemon, and opens nothing that somebody would notice.

use std::fmt::Write as _;

use serde::Serialize;

use crate::config::one_line;

/// Something that can be shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Found {
    /// What to type after `--source` or `laterna switch`.
    pub spec: String,
    /// What it is, for people: a monitor's size and place, a window's title, a camera's name.
    pub what: String,
    /// More of it, a line each: a camera's formats with their sizes and rates.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<String>,
}

impl Found {
    /// Something of which no more is to be said.
    pub fn new(spec: impl Into<String>, what: impl Into<String>) -> Self {
        Self { spec: spec.into(), what: what.into(), details: Vec::new() }
    }
}

/// Where the descriptions begin, where the specs leave room.
const COLUMN: usize = 28;

/// Lists screens, windows and cameras, and what every machine has, beside what could not be looked at; `display` is what `$DISPLAY` says.
pub fn all(display: Option<&str>) -> (Vec<Found>, Vec<String>) {
    let (mut found, mut unseen) = (Vec::new(), Vec::new());
    let display = display.filter(|name| !name.is_empty());
    #[cfg(feature = "wayland")]
    found.extend(super::portal::list());
    let has_portal = !found.is_empty();
    match super::x11::list_of(display) {
        Ok(of_display) => found.extend(of_display),
        // A Wayland desktop needs no X server.
        Err(_) if has_portal && display.is_none() => {}
        Err(why) => unseen.push(format!("no screens and windows of X11: {why}")),
    }
    #[cfg(feature = "camera")]
    {
        let cameras = super::v4l2::list();
        if cameras.is_empty() {
            unseen.push("no cameras: no /dev/video* captures pictures".to_owned());
        }
        found.extend(cameras);
    }
    #[cfg(feature = "files")]
    found.extend([
        Found::new("file:PATH", "a recorded lesson, or a folder of them (MP4, WebM, MKV)"),
        Found::new("image:PATH", "a picture (PNG, JPEG, WebP, BMP, GIF)"),
    ]);
    found.extend([
        Found::new("pattern", "a test card with colours, a clock and something that moves"),
        Found::new("off", "a card that says that nothing is shown for the moment"),
    ]);
    (found, unseen)
}

/// The list for people: the spec, what it is, and more of it below.
pub fn in_words(found: &[Found]) -> String {
    let mut text = String::new();
    for Found { spec, what, details } in found {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{:<COLUMN$} {}", one_line(spec), one_line(what));
        for detail in details {
            let _ = writeln!(text, "{:COLUMN$}   {}", "", one_line(detail));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::source::SourceSpec;

    #[test]
    fn what_is_listed_can_be_typed() {
        let (all, unseen) = all(None);
        assert!(unseen[0].contains("DISPLAY is not set"), "{unseen:?}");
        for found in all {
            let spec = SourceSpec::parse(&found.spec).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(spec.to_string(), found.spec);
            assert!(!found.what.is_empty());
        }
    }

    #[test]
    fn a_title_can_not_break_the_list() {
        let found = Found { details: vec!["a\nb".to_owned()], ..Found::new("window:0x1", "evil\u{1b}[2J\ntitle") };
        let text = in_words(&[found]);
        assert_eq!(text.lines().count(), 2, "{text:?}");
        assert!(!text.contains('\u{1b}'));
    }
}
