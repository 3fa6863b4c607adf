//! Audio specs: what is written after `--audio`. Parsing only; nothing is opened here.

use std::fmt;

/// A sound as it is written (`--audio`), of those that this version opens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AudioSpec {
    /// What the machine plays where a sound server runs, else nothing; never a microphone.
    Auto,
    /// What the machine plays: the monitor of the sound server's default sink.
    System,
    /// The default microphone, or the one whose name or description has this part, in whatever case.
    Mic(Option<String>),
    /// The sound that the source brings with its pictures.
    File,
    /// The test tone.
    Tone,
    /// No sound.
    Off,
}

/// Why an audio spec is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AudioSpecError {
    /// It is part of the contract, but this version does not do it.
    #[error("audio '{spec}': {what}: not yet; this version has auto, system, mic, mic:NAME, file, tone and off")]
    NotYet {
        /// What was written.
        spec: String,
        /// What is missing.
        what: &'static str,
    },
    /// It means nothing.
    #[error("audio '{spec}' is unknown; use auto, system, mic, mic:NAME, file, tone or off")]
    Unknown {
        /// What was written.
        spec: String,
    },
}

impl AudioSpec {
    /// Parses what was written after `--audio`.
    ///
    /// # Errors
    /// [`AudioSpecError::NotYet`] for what the contract has and this version does not, else [`AudioSpecError::Unknown`].
    pub fn parse(text: &str) -> Result<Self, AudioSpecError> {
        let not_yet = |what| Err(AudioSpecError::NotYet { spec: text.to_owned(), what });
        match text {
            "auto" => Ok(Self::Auto),
            "system" => Ok(Self::System),
            "mic" => Ok(Self::Mic(None)),
            "file" => Ok(Self::File),
            "tone" => Ok(Self::Tone),
            "off" => Ok(Self::Off),
            "system+mic" => not_yet("the system and a microphone together"),
            _ => match text.strip_prefix("mic:").filter(|name| !name.trim().is_empty()) {
                Some(name) => Ok(Self::Mic(Some(name.to_owned()))),
                None => Err(AudioSpecError::Unknown { spec: text.to_owned() }),
            },
        }
    }
}

impl fmt::Display for AudioSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::System => f.write_str("system"),
            Self::Mic(None) => f.write_str("mic"),
            Self::Mic(Some(name)) => write!(f, "mic:{name}"),
            Self::File => f.write_str("file"),
            Self::Tone => f.write_str("tone"),
            Self::Off => f.write_str("off"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_sounds_of_this_version_parse_and_print() {
        for (text, spec) in [
            ("auto", AudioSpec::Auto),
            ("system", AudioSpec::System),
            ("mic", AudioSpec::Mic(None)),
            ("mic:USB Audio", AudioSpec::Mic(Some("USB Audio".to_owned()))),
            ("mic:a+b:c", AudioSpec::Mic(Some("a+b:c".to_owned()))),
            ("file", AudioSpec::File),
            ("tone", AudioSpec::Tone),
            ("off", AudioSpec::Off),
        ] {
            assert_eq!(AudioSpec::parse(text), Ok(spec.clone()));
            assert_eq!(spec.to_string(), text);
        }
    }

    #[test]
    fn the_rest_of_the_contract_is_not_yet_and_named() {
        let message = AudioSpec::parse("system+mic").unwrap_err().to_string();
        assert!(["system+mic", "together", "not yet"].iter().all(|part| message.contains(part)), "{message}");
    }

    #[test]
    fn anything_else_is_unknown() {
        for text in ["", "Auto", "mic:", "mic: ", "mics", "microphone", "tone:440", "file:/a", "system+tone", " off"] {
            assert_eq!(AudioSpec::parse(text), Err(AudioSpecError::Unknown { spec: text.to_owned() }));
        }
    }
}
