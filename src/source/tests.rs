#![allow(clippy::unwrap_used)]
use super::*;
use crate::alive::tests::next_end;

const LAYERS: [SourceSpec; 3] = [SourceSpec::AUTO, SourceSpec::PATTERN, SourceSpec::SCREEN];

#[test]
fn auto_without_a_display_is_the_pattern() {
    let (watch, mut news) = Watch::new();
    for display in [None, Some(""), Some(":64999"), Some("nonsense")] {
        let options = SourceOptions::default();
        let source = Source::open_on(display, &LAYERS[0].base, &options, Arc::new(|_| ()), &watch).unwrap();
        assert_eq!(source.describe(), "pattern 1280x720", "{display:?}");
    }
    drop(watch);
    assert_eq!(next_end(&mut news), None, "a screen that is not there is no thread that must not end");
}

#[test]
fn a_sink_that_panics_ends_the_thread_and_the_watch_hears_of_it() {
    let (watch, mut news) = Watch::new();
    let sink: FrameSink = Arc::new(|_| panic!("as the test wants"));
    let source = Source::open(&LAYERS[1].base, &SourceOptions::default(), sink, &watch).unwrap();
    source.set_active(true);
    assert_eq!(next_end(&mut news).as_deref(), Some("capture-pattern"));
}

#[test]
fn a_named_screen_that_is_not_there_says_what_to_do() {
    for (display, found) in [(None, "DISPLAY"), (Some(":64999"), ":64999"), (Some("nonsense"), "nonsense")] {
        let options = SourceOptions { capture: CaptureBackend::X11, ..SourceOptions::default() };
        let opened = Source::open_on(display, &LAYERS[2].base, &options, Arc::new(|_| ()), &Watch::new().0);
        let error = opened.unwrap_err().to_string();
        assert!(error.contains(found), "{error}");
        assert!(!error.contains('\n'), "{error}");
    }
}
