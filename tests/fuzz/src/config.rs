//! The config file: its bytes → what holds, or all that is wrong with it.

use std::path::Path;
use std::sync::Arc;

use laterna::config::load::{Found, Loaded, layer};
use laterna::config::print::print;
use laterna::config::setting::Setting;
use laterna::config::written::{Asked, Given, Origin, Written};
use laterna::config::{ConfigError, RunConfig};

use super::input::assert_one_line;

/// What hides a secret where a configuration is shown.
const HIDDEN: char = '…';

pub fn run(data: &[u8]) {
    let loaded = load(&Written::default(), data);
    let under_a_flag = load(&flag("fps", "7"), data);
    match loaded {
        Ok(loaded) => {
            assert!(
                under_a_flag.is_ok_and(|loaded| loaded.config.fps == 7),
                "a flag that is valid changes its setting"
            );
            assert_printed(&loaded);
        }
        Err(errors) => {
            let lines = data.iter().filter(|byte| **byte == b'\n').count() + 1;
            assert_errors(&errors, lines);
            let again = under_a_flag.err().unwrap_or_default();
            let texts = |errors: &[ConfigError]| errors.iter().map(ToString::to_string).collect::<Vec<_>>();
            assert_eq!(texts(&errors), texts(&again), "a flag hides nothing of a file");
        }
    }
}

fn load(given: &Written, data: &[u8]) -> Result<Loaded, Vec<ConfigError>> {
    let path: Arc<Path> = Path::new("/f").into();
    layer(given, Some(&Found { path, bytes: data.to_vec() }), "host")
}

fn flag(key: &str, value: &str) -> Written {
    let (setting, origin) = (Setting::of(key).unwrap(), Origin::Flag);
    let mut written = Written::default();
    let values = vec![Asked { setting, origin: origin.clone(), value: value.to_owned() }];
    written.insert(setting, Given { origin, values });
    written
}

/// What `config print` says is the same configuration, but for what it hides.
fn assert_printed(loaded: &Loaded) {
    let text = print(loaded);
    text.lines().for_each(assert_one_line);
    if text.contains(HIDDEN) {
        return;
    }
    match load(&Written::default(), text.as_bytes()) {
        Ok(again) => assert_same(&again.config, &loaded.config, &text),
        Err(errors) => panic!("{errors:?} in what was printed:\n{text}"),
    }
}

fn assert_same(one: &RunConfig, other: &RunConfig, text: &str) {
    assert_eq!(one, other, "after printing:\n{text}");
}

/// Each error is a line for people, and names a place in the file.
fn assert_errors(errors: &[ConfigError], lines: usize) {
    assert!(!errors.is_empty(), "refused for no reason");
    for error in errors {
        assert_one_line(&error.to_string());
        let place = error.place().unwrap_or_else(|| panic!("{error}: where?"));
        assert!((1..=lines).contains(&place.line) && place.column > 0, "{error}: the file has {lines} lines");
    }
}
