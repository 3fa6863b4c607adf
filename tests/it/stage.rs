//! A stage: a daemon and a browser that watches it, with or without a screen in front.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::browser::Browser;
use crate::support::daemon::{Daemon, Setup};
use crate::support::page::Page;
use crate::support::xclient::Patch;

/// How long a picture may take that has no bar of its own.
pub const SOON: Duration = Duration::from_secs(20);

/// What the log line of a viewer that has come contains.
pub const CAME: &[&str] = &["viewer came"];
/// What the log line of a viewer that had come and is gone contains.
pub const GONE: &[&str] = &["viewer left"];
/// What the log line of a viewer that was answered but never came contains.
pub const FAILED: &[&str] = &["viewer never connected"];

/// A daemon and its viewer page, playing.
pub struct Stage<B = Browser> {
    /// The browser; its present window shows the viewer page.
    pub browser: B,
    /// The daemon.
    pub daemon: Daemon,
    size: (u16, u16),
}

impl Stage {
    /// Starts a daemon that sends a source of `size`, and awaits that its page plays.
    pub fn open(setup: &Setup, size: (u16, u16)) -> Self {
        Self::open_with(setup, size, &[])
    }

    /// As [`Self::open`], with more arguments for the browser.
    pub fn open_with(setup: &Setup, size: (u16, u16), args: &[&str]) -> Self {
        Self::play(setup, size, Browser::start_with(args))
    }
}

impl<B: Page> Stage<B> {
    /// Starts a daemon that sends a source of `size`, and awaits that its page plays in a browser.
    pub fn play(setup: &Setup, size: (u16, u16), browser: B) -> Self {
        let daemon = setup.start();
        browser.open(&daemon.page());
        let stage = Self { browser, daemon, size };
        stage.awaits_state(&["playing"], SOON);
        stage
    }

    /// A daemon and a browser that were started before.
    pub fn of(browser: B, daemon: Daemon, size: (u16, u16)) -> Self {
        Self { browser, daemon, size }
    }

    /// The source's size as an argument for scripts.
    pub fn size(&self) -> Value {
        json!([self.size.0, self.size.1])
    }

    /// Awaits one of these states of the page; gives the one that came and the time it took.
    pub fn awaits_state(&self, wanted: &[&str], within: Duration) -> (String, Duration) {
        let asked = Instant::now();
        let state = self.browser.try_run("return lt.state(...args)", &[json!(wanted), millis(within)]);
        let why = |error: String| {
            let stats: Result<Value, String> = self.browser.try_run("return lt.stats()", &[]);
            panic!("{error}\nthe page's statistics: {stats:?}")
        };
        (state.unwrap_or_else(why), asked.elapsed())
    }

    /// Awaits that the page shows this number or a later one; gives the number shown.
    pub fn shows(&self, number: u32, within: Duration) -> u32 {
        let script = "return (await lt.number(...args)).number";
        self.browser.run(script, &[json!(number), millis(within), self.size()])
    }

    /// Fails unless the picture goes on (the source must be one that moves) over the same connection as before.
    pub fn goes_on(&self) {
        let script = "
            lt.kept ??= window.laterna.pc;
            if (lt.kept !== window.laterna.pc) throw new Error('the page had to connect again');
            const now = await lt.number(0, ...args);
            return (await lt.number(now.number + 5, ...args)).number";
        self.browser.run::<u32>(script, &[millis(SOON), self.size()]);
    }

    /// Awaits that no frame has come for `quiet`.
    pub fn settles(&self, quiet: Duration, within: Duration) {
        self.browser.run::<Value>("return lt.settle(...args)", &[millis(quiet), millis(within)]);
    }

    /// The mean colours around points of the source, as the page shows them.
    pub fn colours(&self, points: &[(i16, i16)]) -> Vec<[f64; 3]> {
        self.browser.run("return lt.colours(...args)", &[json!(points), self.size()])
    }

    /// Fails unless the page shows the patches in the source's colours.
    pub fn shows_colours_of(&self, patches: &[Patch]) {
        let points: Vec<_> = patches.iter().map(|patch| (patch.x, patch.y)).collect();
        let mut wrong = Vec::new();
        for (patch, shown) in patches.iter().zip(self.colours(&points)) {
            let off = patch.rgb.iter().zip(shown).map(|(want, got)| (f64::from(*want) - got).abs()).fold(0.0, f64::max);
            println!("{}: {:?} is shown as {shown:.1?}, off by {off:.1}", patch.name, patch.rgb);
            let bar = if patch.is_grey() { 4.0 } else { 6.0 };
            if off > bar {
                wrong.push(format!("{}: {:?} is shown as {shown:?}, more than {bar} off", patch.name, patch.rgb));
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    /// The statistics of the page's video.
    pub fn stats(&self) -> Value {
        self.browser.run("return lt.stats()", &[])
    }
}

/// A duration as an argument for scripts.
pub fn millis(duration: Duration) -> Value {
    json!(duration.as_millis() as u64)
}
