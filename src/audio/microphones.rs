//! Which microphone is meant: a pure choice among those that there are.

use super::InputError;

/// A microphone that could be recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Microphone {
    /// What the sound server or ALSA calls it.
    pub(super) name: String,
    /// What people call it.
    pub(super) description: String,
}

/// Chooses the one whose name or description has `wanted` in it, in whatever case; without that, `default`, or else the first.
///
/// # Errors
/// [`InputError::Missing`] where there is none, or several have it and none is it.
pub(super) fn choose<'a>(
    all: &'a [Microphone],
    default: Option<&str>,
    wanted: Option<&str>,
) -> Result<&'a Microphone, InputError> {
    if all.is_empty() {
        return Err(InputError::Missing {
            found: "there is no microphone".to_owned(),
            advice: "plug one in, or write system, tone or off",
        });
    }
    let Some(wanted) = wanted else {
        return Ok(all.iter().find(|mic| Some(mic.name.as_str()) == default).unwrap_or(&all[0]));
    };
    let lower = wanted.to_lowercase();
    let texts = |mic: &Microphone| [mic.name.to_lowercase(), mic.description.to_lowercase()];
    if let Some(exact) = all.iter().find(|mic| texts(mic).contains(&lower)) {
        return Ok(exact);
    }
    let matches: Vec<_> = all.iter().filter(|mic| texts(mic).iter().any(|text| text.contains(&lower))).collect();
    match matches[..] {
        [one] => Ok(one),
        [] => Err(InputError::Missing {
            found: format!("no microphone has '{wanted}' in its name; there is {}", list(all.iter())),
            advice: "write a part of one of these",
        }),
        _ => Err(InputError::Missing {
            found: format!("several microphones have '{wanted}' in their names: {}", list(matches.into_iter())),
            advice: "write more of the name of one",
        }),
    }
}

fn list<'a>(all: impl Iterator<Item = &'a Microphone>) -> String {
    all.map(|mic| format!("{} ({})", mic.description, mic.name)).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn microphones() -> Vec<Microphone> {
        [("alsa_input.pci", "Built-in Audio"), ("alsa_input.usb-1", "USB Mic"), ("alsa_input.usb-2", "USB Mic 2")]
            .map(|(name, description)| Microphone { name: name.to_owned(), description: description.to_owned() })
            .to_vec()
    }

    fn chosen(default: Option<&str>, wanted: Option<&str>) -> Result<String, String> {
        let all = microphones();
        choose(&all, default, wanted).map(|mic| mic.name.clone()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_part_of_the_name_or_the_description_is_enough_and_the_whole_is_unmistakable() {
        assert_eq!(chosen(None, Some("BUILT")).unwrap(), "alsa_input.pci");
        assert_eq!(chosen(None, Some("usb-2")).unwrap(), "alsa_input.usb-2");
        assert_eq!(chosen(None, Some("usb mic")).unwrap(), "alsa_input.usb-1");
    }

    #[test]
    fn without_a_name_it_is_the_default_or_else_the_first() {
        assert_eq!(chosen(Some("alsa_input.usb-1"), None).unwrap(), "alsa_input.usb-1");
        assert_eq!(chosen(Some("speakers.monitor"), None).unwrap(), "alsa_input.pci");
        assert_eq!(chosen(None, None).unwrap(), "alsa_input.pci");
    }

    #[test]
    fn several_matches_and_none_are_errors_that_list_them() {
        let error = chosen(None, Some("usb")).unwrap_err();
        assert!(error.contains("USB Mic (alsa_input.usb-1), USB Mic 2 (alsa_input.usb-2)"), "{error}");
        assert!(!error.contains("Built-in"), "{error}");
        let error = chosen(None, Some("webcam")).unwrap_err();
        assert!(error.contains("'webcam'") && error.contains("Built-in Audio (alsa_input.pci)"), "{error}");
        let error = choose(&[], None, None).unwrap_err().to_string();
        assert!(error.contains("no microphone"), "{error}");
    }
}
