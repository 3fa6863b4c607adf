//! Source specs: what is written after `--source`. Parsing only; nothing is opened here.

use std::fmt;

/// A source as it is written (`--source`), of those that this version opens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceSpec {
    /// The screen if there is one, else the pattern.
    Auto,
    /// The X11 screen of `$DISPLAY`.
    Screen,
    /// The test card.
    Pattern,
}

/// Why a source spec is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// It is part of the contract, but this version does not do it.
    #[error("source '{spec}': {what}: not yet; this version has auto, screen and pattern")]
    NotYet {
        /// What was written.
        spec: String,
        /// What is missing.
        what: &'static str,
    },
    /// It means nothing.
    #[error("source '{spec}' is unknown; use auto, screen or pattern")]
    Unknown {
        /// What was written.
        spec: String,
    },
}

/// Kinds that take a value, and what to call them; a bare name is allowed where the flag says so.
const WITH_VALUE: [(&str, bool, &str); 7] = [
    ("screen", true, "a screen by name"),
    ("window", false, "windows"),
    ("region", false, "regions of the screen"),
    ("camera", true, "cameras"),
    ("file", false, "files"),
    ("image", false, "images"),
    ("scene", false, "scenes"),
];

impl SourceSpec {
    /// Parses what was written after `--source`.
    ///
    /// # Errors
    /// [`SpecError::NotYet`] for what the contract has and this version does not, else [`SpecError::Unknown`].
    pub fn parse(text: &str) -> Result<Self, SpecError> {
        match text {
            "auto" => return Ok(Self::Auto),
            "screen" => return Ok(Self::Screen),
            "pattern" => return Ok(Self::Pattern),
            _ => {}
        }
        let unknown = || SpecError::Unknown { spec: text.to_owned() };
        let first = layers(text).next().unwrap_or_default();
        let (kind, options) = first.split_once('?').map_or((first, None), |(kind, options)| (kind, Some(options)));
        let of_kind = missing_kind(kind);
        if of_kind.is_none() && !matches!(kind, "auto" | "screen" | "pattern") {
            return Err(unknown());
        }
        let what = if layers(text).nth(1).is_some() {
            "layers (A + B)"
        } else if let Some(what) = of_kind {
            what
        } else if options.is_some() {
            "options (?key=value)"
        } else {
            return Err(unknown());
        };
        Err(SpecError::NotYet { spec: text.to_owned(), what })
    }
}

impl fmt::Display for SourceSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Screen => "screen",
            Self::Pattern => "pattern",
        })
    }
}

/// The layers of a spec: separated by ` + `, or by `+` right before a kind that is known.
fn layers(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let cut = text.match_indices('+').find_map(|(at, _)| {
            let (before, after) = (&text[..at], &text[at + 1..]);
            let spaced = before.ends_with(' ') && after.starts_with(' ');
            (spaced || begins_with_kind(after)).then(|| (before.trim_end(), after.trim_start()))
        });
        rest = cut.map(|(_, after)| after);
        Some(cut.map_or(text, |(before, _)| before))
    })
}

fn begins_with_kind(text: &str) -> bool {
    let kind = text.split([':', '?', '+', ' ']).next().unwrap_or_default();
    matches!(kind, "auto" | "pattern" | "off") || WITH_VALUE.iter().any(|(name, _, _)| *name == kind)
}

/// What a kind of the contract is called, if it is one that this version does not open.
fn missing_kind(kind: &str) -> Option<&'static str> {
    if kind == "off" {
        return Some("no source at all");
    }
    let (name, value) = kind.split_once(':').map_or((kind, None), |(name, value)| (name, Some(value)));
    let (_, bare, what) = WITH_VALUE.iter().find(|(known, _, _)| *known == name)?;
    let written = match value {
        Some(value) => !value.is_empty(),
        None => *bare && name != "screen",
    };
    written.then_some(*what)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_sources_of_this_version_parse_and_print() {
        for (text, spec) in
            [("auto", SourceSpec::Auto), ("screen", SourceSpec::Screen), ("pattern", SourceSpec::Pattern)]
        {
            assert_eq!(SourceSpec::parse(text), Ok(spec.clone()));
            assert_eq!(spec.to_string(), text);
        }
    }

    #[test]
    fn the_rest_of_the_contract_is_not_yet_and_named() {
        for (text, what) in [
            ("screen:HDMI-1", "screen"),
            ("window:0x1200003", "window"),
            ("window:Slides", "window"),
            ("region:640x480+10+20", "region"),
            ("camera", "camera"),
            ("camera:/dev/video0", "camera"),
            ("file:/tmp/a.mp4?loop", "file"),
            ("image:/tmp/a.png", "image"),
            ("off", "no source"),
            ("pattern?size=1280x720&fps=30", "options"),
            ("screen?fps=5", "options"),
            ("screen + camera?at=bottom-right", "layers"),
            ("screen+camera", "layers"),
        ] {
            let error = SourceSpec::parse(text).unwrap_err();
            assert!(matches!(error, SpecError::NotYet { .. }), "{text}: {error}");
            let message = error.to_string();
            assert!(message.contains(what) && message.contains(text) && message.contains("not yet"), "{message}");
        }
    }

    #[test]
    fn anything_else_is_unknown() {
        for text in ["", "Auto", "screens", "desktop", "window", "file", "image:", "screen:", "http://a/b", " screen"] {
            assert_eq!(SourceSpec::parse(text), Err(SpecError::Unknown { spec: text.to_owned() }));
        }
    }
}
