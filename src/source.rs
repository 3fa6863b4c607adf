//! Sources: where pictures come from. Each backend runs in a thread of its own and hands frames to a [`FrameSink`].
//!
//! Owns the handle by which a source is steered. It never looks at pixels and never decides who watches.

use std::sync::Arc;

use tokio::sync::watch;
use tracing::warn;

use crate::alive::Watch;
use crate::frame::{Frame, Size};
use crate::orders::{Health, OrderedThread, Orders, SpawnError};

pub mod pattern;
mod pool;
mod spec;
pub mod x11;

pub use spec::{SourceSpec, SpecError};

/// Takes each captured frame; must not block.
pub type FrameSink = Arc<dyn Fn(Frame) + Send + Sync>;

/// How a source is opened.
#[derive(Debug, Clone, Copy)]
pub struct SourceOptions {
    /// At most so many frames a second.
    pub fps: u32,
    /// Whether the pointer is shown.
    pub pointer: bool,
    /// The size of a source that can choose one (the pattern); screens have their own.
    pub size: Option<Size>,
}

/// Why a source could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// There is no such display, or it refuses.
    #[error("source screen: {found}; {advice}")]
    Display {
        /// What was found.
        found: String,
        /// What to do.
        advice: String,
    },
    /// The operating system refuses something.
    #[error("source {spec}: {what}: {error}")]
    System {
        /// The source asked for.
        spec: &'static str,
        /// What was tried.
        what: &'static str,
        /// What the system said.
        error: std::io::Error,
    },
}

/// An open source: idle until it is made active; closed when dropped.
#[derive(Debug)]
pub struct Source {
    thread: OrderedThread<Opened>,
}

/// What a backend tells of itself once it is open.
#[derive(Debug)]
struct Opened {
    size: Size,
    description: String,
}

impl Source {
    /// Opens what `spec` names; `sink` gets its frames while it is active, from the source's own thread.
    ///
    /// `watch` hears of it where that thread ends before the source is dropped.
    ///
    /// # Errors
    /// [`SourceError`] where a named source can't be opened; `auto` falls back to the pattern and says so in the log.
    pub fn open(
        spec: &SourceSpec,
        options: SourceOptions,
        sink: FrameSink,
        watch: &Watch,
    ) -> Result<Self, SourceError> {
        let display = std::env::var("DISPLAY").ok();
        Self::open_on(display.as_deref(), spec, options, sink, watch)
    }

    /// Opens what `spec` names as [`Source::open`] does, with `display` in the place of `$DISPLAY`.
    ///
    /// # Errors
    /// As [`Source::open`].
    pub fn open_on(
        display: Option<&str>,
        spec: &SourceSpec,
        options: SourceOptions,
        sink: FrameSink,
        watch: &Watch,
    ) -> Result<Self, SourceError> {
        match spec {
            SourceSpec::Screen => x11::open(display, options, sink, watch),
            SourceSpec::Pattern => pattern::open(options, sink, watch),
            SourceSpec::Auto => match x11::open(display, options, sink.clone(), watch) {
                Ok(source) => Ok(source),
                Err(error) => {
                    warn!("no screen, so the test pattern is shown: {error}");
                    pattern::open(options, sink, watch)
                }
            },
        }
    }

    /// The source's own size when it was opened.
    pub fn size(&self) -> Size {
        self.thread.opened().size
    }

    /// What it is, for people: `screen :0 1920x1080`.
    pub fn describe(&self) -> String {
        self.thread.opened().description.clone()
    }

    /// Whether its frames can be had, now and from now on.
    pub(crate) fn health(&self) -> watch::Receiver<Health> {
        self.thread.health()
    }

    /// Lets frames flow, the first one whole and at once, or stops all work.
    pub fn set_active(&self, active: bool) {
        self.thread.set_active(active);
    }

    /// Asks for one frame with everything damaged, at once; nothing happens while the source is not active.
    pub fn refresh(&self) {
        self.thread.ask_refresh();
    }

    /// Opens a backend in a thread called `name`, where it then runs until it is stopped; waits until it is open.
    fn spawn<B>(
        spec: &'static str,
        name: &str,
        watch: &Watch,
        open: impl FnOnce() -> Result<(Opened, B), SourceError> + Send + 'static,
        run: impl FnOnce(B, &Orders) + Send + 'static,
    ) -> Result<Self, SourceError> {
        let thread =
            OrderedThread::spawn(name, watch, watch.beat(name), |_| open(), run).map_err(|error| match error {
                SpawnError::Open(error) => error,
                SpawnError::System(what, error) => SourceError::System { spec, what, error },
            })?;
        Ok(Self { thread })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::alive::tests::next_end;

    const OPTIONS: SourceOptions = SourceOptions { fps: 30, pointer: true, size: None };

    #[test]
    fn auto_without_a_display_is_the_pattern() {
        let (watch, mut news) = Watch::new();
        for display in [None, Some(""), Some(":64999"), Some("nonsense")] {
            let source = Source::open_on(display, &SourceSpec::Auto, OPTIONS, Arc::new(|_| ()), &watch).unwrap();
            assert_eq!(source.describe(), "pattern 1280x720", "{display:?}");
        }
        drop(watch);
        assert_eq!(next_end(&mut news), None, "a screen that is not there is no thread that must not end");
    }

    #[test]
    fn a_sink_that_panics_ends_the_thread_and_the_watch_hears_of_it() {
        let (watch, mut news) = Watch::new();
        let sink: FrameSink = Arc::new(|_| panic!("as the test wants"));
        let source = Source::open(&SourceSpec::Pattern, OPTIONS, sink, &watch).unwrap();
        source.set_active(true);
        assert_eq!(next_end(&mut news).as_deref(), Some("capture-pattern"));
    }

    #[test]
    fn a_named_screen_that_is_not_there_says_what_to_do() {
        for (display, found) in [(None, "DISPLAY"), (Some(":64999"), ":64999"), (Some("nonsense"), "nonsense")] {
            let error =
                Source::open_on(display, &SourceSpec::Screen, OPTIONS, Arc::new(|_| ()), &Watch::new().0).unwrap_err();
            assert!(error.to_string().contains(found), "{error}");
            assert!(!error.to_string().contains('\n'), "{error}");
        }
    }
}
