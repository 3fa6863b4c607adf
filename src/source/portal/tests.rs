#![allow(clippy::unwrap_used)]
use std::sync::Arc;

use super::*;
use crate::alive::Watch;

#[test]
fn a_monitor_can_not_be_named() {
    let error = open(Some("HDMI-1"), &SourceOptions::default(), Arc::new(drop), &Watch::new().0).unwrap_err();
    let text = error.to_string();
    assert!(
        text.starts_with("source screen:HDMI-1: ") && text.contains("dialog") && text.contains("use screen"),
        "{text}"
    );
}

#[test]
fn each_failure_says_what_to_do() {
    let said = |failure: Failure| failure.into_error().to_string();
    let none = End::NoPortal("nobody answers".to_owned());
    assert!(said(Failure::Ended(none)).contains("install and start xdg-desktop-portal"));
    assert!(said(Failure::Ended(End::Refused)).contains("the user has refused; run laterna again"));
    assert!(
        said(Failure::Ended(End::NoBus("no address".to_owned())))
            .contains("(no address); start laterna in the desktop's session")
    );
    assert!(said(Failure::Unanswered).contains("within 60 s; ask again"));
    assert!(said(Failure::NoPictures("no format".to_owned())).contains("no format; start pipewire and wireplumber"));
}

#[test]
fn times_of_the_stream_are_ours_where_they_make_sense() {
    let clock = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let now = Instant::now();
    let nanos = clock.tv_sec * 1_000_000_000 + clock.tv_nsec;
    let age = now - instant(nanos - 20_000_000, now);
    assert!((20..120).contains(&age.as_millis()), "{age:?}");
    for odd in [0, -5, nanos - 3_000_000_000, nanos + 9_000_000_000] {
        assert_eq!(instant(odd, now), now, "{odd}");
    }
}
