//! Faults: each is put into a running daemon under a connected viewer, again and again; it is survived, said once, and undone when it passes.
//!
//! What the viewer saw and what was logged is printed; three times each, ten with `--long`.

use std::time::Duration;

use serde::Deserialize;

use crate::light::Viewer;
use crate::stage::{SOON, Stage, millis};
use crate::support::daemon::Daemon;
use crate::support::long;
use crate::support::process::Line;
use crate::support::report_wall_time;

mod devices;
mod inside;
mod machine;
mod network;
mod strangers;

/// How often each fault comes.
pub fn times() -> usize {
    if long() { 10 } else { 3 }
}

/// Who watches while a fault is there.
pub trait Eye {
    /// Begins to measure.
    fn begin(&self);
    /// Awaits that the picture goes on, over the same connection as before.
    fn goes_on(&self);
    /// The longest time without a new picture since the measurement began.
    fn gap(&self) -> Duration;
}

impl Eye for Viewer {
    fn begin(&self) {
        self.forget_pause();
    }

    fn goes_on(&self) {
        let before = self.seen().pictures.len();
        let seen = self.sees("ten more pictures", SOON, |seen| seen.pictures.len() > before + 9);
        assert_eq!(seen.ended, None);
    }

    fn gap(&self) -> Duration {
        self.seen().longest_pause
    }
}

/// When a number of the strip was shown, in milliseconds.
#[derive(Deserialize)]
struct Shown {
    at: f64,
}

impl Eye for Stage {
    fn begin(&self) {
        // The gap is measured from a frame on that is shown.
        let script = "lt.watch(args[0]); await lt.until(() => lt.seen.length, args[1], () => 'nothing is shown')";
        self.browser.run::<serde_json::Value>(script, &[self.size(), millis(SOON)]);
    }

    fn goes_on(&self) {
        Stage::goes_on(self);
    }

    fn gap(&self) -> Duration {
        let shown: Vec<Shown> = self.browser.run("return lt.take()", &[]);
        let gaps = shown.windows(2).map(|two| two[1].at - two[0].at);
        Duration::from_secs_f64(gaps.fold(0.0, f64::max) / 1000.0)
    }
}

/// A kind of fault, and what is expected of it.
pub struct Fault<'a> {
    /// What it is, for the report.
    pub name: &'a str,
    /// The one line that is logged when it comes.
    pub comes: &'a [&'a str],
    /// The one line that is logged when it has passed.
    pub passes: &'a [&'a str],
    /// How long it lasts once it was said; nothing more is said meanwhile.
    pub lasting: Duration,
    /// How long the viewer may be without a new picture.
    pub most: Duration,
}

impl Fault<'_> {
    /// Has it come and pass as often as it is to, and checks each time what was seen and said.
    pub fn strikes(&self, daemon: &Daemon, eye: &impl Eye, mut inject: impl FnMut(), mut undo: impl FnMut()) {
        for round in 1..=times() {
            let mark = daemon.log().mark();
            eye.begin();
            inject();
            if !self.comes.is_empty() {
                daemon.logged_from(mark, self.comes, SOON);
            }
            lasts(daemon, self.lasting);
            undo();
            if !self.passes.is_empty() {
                daemon.logged_from(mark, self.passes, SOON);
            }
            eye.goes_on();
            self.judge(round, eye.gap(), &daemon.log().lines()[mark..]);
        }
    }

    /// Checks one time: the gap, and that exactly what is expected was said.
    pub fn judge(&self, round: usize, gap: Duration, lines: &[Line]) {
        let frames = (gap.as_secs_f64() * 30.0).round();
        report_wall_time(&format!("{} {round}: the largest gap, {frames} frames", self.name), gap, self.most);
        let says = |words: &[&str]| {
            let said =
                lines.iter().filter(|line| !words.is_empty() && words.iter().all(|word| line.text.contains(word)));
            said.map(|line| line.text.as_str()).collect::<Vec<_>>()
        };
        let (comes, passes) = (says(self.comes), says(self.passes));
        comes.iter().chain(&passes).for_each(|line| println!("  | {line}"));
        println!("  {} lines in all", lines.len());
        let expected = (usize::from(!self.comes.is_empty()), usize::from(!self.passes.is_empty()));
        assert_eq!((comes.len(), passes.len()), expected, "{}: {lines:#?}", self.name);
        let loud = lines.iter().filter(|line| line.text.contains(" WARN ") || line.text.contains(" ERROR "));
        let other: Vec<_> =
            loud.filter(|line| !comes.contains(&&*line.text) && !passes.contains(&&*line.text)).collect();
        assert!(other.is_empty(), "{}: more was said: {other:#?}", self.name);
    }
}

/// Lets time pass, and fails where anything of WARN or worse is said meanwhile.
fn lasts(daemon: &Daemon, time: Duration) {
    let mark = daemon.log().mark();
    let said = daemon.log().wait_from(mark, time, |line| line.contains(" WARN ") || line.contains(" ERROR "));
    assert!(said.is_none(), "said again: {said:?}");
}
